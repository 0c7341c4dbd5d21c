"""A real model for the responder: its replies are kept, spoilt on demand, and handed on if they are none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from bench.faults.live import Engine, LiveResponder, reply_of
from bench.faults.writing import WRITINGS
from serving.prompting import PromptTemplate, render
from serving.wording import load_wording
from tests.fakes.responder import AnswerKey, Responder
from tests.fakes.vllm_server import DEFAULT_ANSWER, FakeVllm

KEY = AnswerKey(
    question="Can I have my money back?",
    facts=(("30 days",),),
    stale_values=(),
    status="answered",
    answer="Within 30 days.",
    intent="billing",
    escalate=False,
    escalation_reason="none",
)


def _body() -> dict[str, Any]:
    messages = render(PromptTemplate(name="short", system="Answer.", shots=()), (), KEY.question)
    return {"model": "m-x", "messages": [{"role": m.role, "content": m.content} for m in messages]}


async def test_a_prompt_is_asked_once_and_its_reply_spoilt_as_often_as_wanted(tmp_path: Path) -> None:
    vllm = FakeVllm(models={})
    vllm.program("m-tuned", answer=DEFAULT_ANSWER)
    async with vllm.serving() as url, aiohttp.ClientSession() as session:
        engine = Engine(url, "m-tuned", session, tmp_path)
        plain = LiveResponder(Responder([KEY], load_wording()), engine.complete)
        assert await plain(_body()) == DEFAULT_ANSWER
        spoilt = orjson.loads(await plain.writing(WRITINGS["exclaim"])(_body()))
    assert spoilt["answer"].endswith("!")
    assert [body["model"] for body in vllm.requests] == ["m-tuned"]


async def test_what_is_no_reply_is_handed_on(tmp_path: Path) -> None:
    async def complete(_body: Mapping[str, Any]) -> str:
        return "I think so."

    live = LiveResponder(Responder([KEY], load_wording()), complete, write=WRITINGS["exclaim"])
    assert await live(_body()) == "I think so."
    assert reply_of('{"answer": "Yes."}') is None
