"""The tuned model as an adapter on its base (`SERVING_TUNED_AS=adapter`): one engine serves both.

On CPU merged weights are several times faster and the default; on a GPU this form shares one engine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from deploy.home import Home
from serving.prompting import PROMPTS, load_prompt, render
from tests.e2e.conftest import ROOT, Stack, running

pytestmark = pytest.mark.e2e
QUESTION = "How much is Sync Plus a month?"
ARTICLES = ROOT / "deploy" / "demo" / "articles" / "sync"
#: A few tokens a second on shared cores, and nothing here is about time.
PATIENT = {"GATEWAY_DEADLINE_S": "600", "GATEWAY_FIRST_TOKEN_TIMEOUT_S": "400"}
NEVER = aiohttp.ClientTimeout(total=None)


async def write(session: aiohttp.ClientSession, model: str) -> str:
    """What a served model makes of the tuned version's prompt, with nothing left to chance."""
    messages = [
        {"role": message.role, "content": message.content}
        for message in render(load_prompt(PROMPTS / "support_short.yaml"), (), QUESTION)
    ]
    body = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 12}
    async with session.post("/v1/chat/completions", json=body) as response:
        assert response.status == 200, await response.text()
        answer = await response.json()
    return str(answer["choices"][0]["message"]["content"])


async def ask(stack: Stack, model: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The answer of that version, for which nothing stands in, and the turn that the gateway kept of it."""
    headers = {"authorization": f"Bearer {Home(stack.home).keys()['eval']}"}
    async with aiohttp.ClientSession(stack.url, headers=headers, timeout=NEVER) as session:
        async with session.post(
            "/v1/answers", json={"question": QUESTION, "pin": {"model": model}}
        ) as response:
            assert response.status == 200, await response.text()
            answer = await response.json()
        async with session.get(f"/v1/turns/{answer['id']}") as response:
            assert response.status == 200, await response.text()
            return answer, await response.json()


async def test_the_tuned_version_answers_as_an_adapter_that_is_in_use(folder: Path) -> None:
    options = {"SERVING_TUNED_AS": "adapter", **PATIENT}
    with running(folder / "home", folder / "up.log", "--demo", str(ARTICLES), **options) as stack:
        stack.wait_for(stack.is_ready, "ready")
        state = Home(stack.home).state()
        assert state is not None
        assert list(state.engines) == ["stable+fallback+previous"]
        async with aiohttp.ClientSession(*state.engines.values(), timeout=NEVER) as engine:
            async with engine.get("/v1/models") as response:
                parents = {model["id"]: model["parent"] for model in (await response.json())["data"]}
            (tuned,) = (model for model, parent in parents.items() if parent)
            base = parents[tuned]
            written = {model: await write(engine, model) for model in parents}
        answer, turn = await ask(stack, tuned)
        assert stack.said(f"stable {tuned}")

    assert parents == {base: None, tuned: base}
    assert (base.startswith("m-base-"), tuned.startswith("m-support-")) == (True, True)
    assert written[tuned] != written[base]
    assert answer["versions"]["model"] == tuned
    assert turn["versions"] == answer["versions"]
    draft = turn["used"]["drafts"][0]
    assert (draft["model"], bool(draft["text"])) == (tuned, True)
