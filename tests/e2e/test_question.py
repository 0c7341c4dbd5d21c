"""One question, end to end, over every surface: cited, stamped by both rails, and clear about mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from deploy.home import Home
from retrieval.sources import read_source
from tests.e2e.conftest import ROOT, Stack

pytestmark = pytest.mark.e2e
QUESTION = "How much is Sync Plus a month?"
ARTICLES = ROOT / "deploy" / "demo" / "articles"


def headers(stack: Stack, name: str = "customer") -> dict[str, str]:
    return {"authorization": f"Bearer {Home(stack.home).keys()[name]}"}


def check_answer(answer: dict[str, Any], articles: Path = ARTICLES) -> None:
    """What holds for every answer, however well the small model does."""
    assert answer["status"] in {"answered", "abstained", "clarify", "escalated", "fallback"}
    assert answer["answer"].strip()
    assert answer["versions"]["knowledge"].startswith("k-")
    assert "@" in answer["versions"]["knowledge"]
    assert answer["versions"]["model"].startswith("m-")
    assert answer["arms"] == {"knowledge": "stable", "model": "stable"}
    assert len(answer["trace_id"]) == 32
    texts = {parsed.document.id: parsed.document.text for parsed in read_source(articles).documents}
    for citation in answer["citations"]:
        assert texts[citation["document_id"]][citation["start"] : citation["end"]] == citation["quote"]


async def test_json_answer_is_cited_and_stamped_by_both_rails(stack: Stack) -> None:
    async with aiohttp.ClientSession(stack.url, headers=headers(stack)) as session:
        async with session.post("/v1/answers", json={"question": QUESTION}) as response:
            assert response.status == 200
            answer = await response.json()
        check_answer(answer)
        # The small model may say that it does not know; whatever it does say is cited.
        assert answer["citations"] or answer["status"] == "abstained"
        assert {"retrieval", "generation", "total"} <= set(answer["timings_ms"])
        async with session.get(f"/v1/turns/{answer['id']}") as response:
            turn = await response.json()
    assert turn["trace_id"] == answer["trace_id"]
    assert turn["versions"] == answer["versions"]


async def test_stream_releases_the_text_that_the_completed_answer_holds(stack: Stack) -> None:
    events: list[tuple[str, dict[str, Any]]] = []
    async with (
        aiohttp.ClientSession(stack.url, headers=headers(stack)) as session,
        session.post("/v1/answers", json={"question": QUESTION, "stream": True}) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        name = ""
        async for line in response.content:
            text = line.decode().rstrip("\n")
            if text.startswith("event:"):
                name = text.removeprefix("event:").strip()
            elif text.startswith("data:"):
                events.append((name, json.loads(text.removeprefix("data:"))))
    assert [name for name, _ in events if name == "error"] == []
    assert events[-1][0] == "answer.completed"
    completed = events[-1][1]
    check_answer(completed)
    assert "".join(data["text"] for name, data in events if name == "answer.delta") == completed["answer"]
    assert [data for name, data in events if name == "answer.citation"] == completed["citations"]


def test_the_official_openai_client_works_unchanged(stack: Stack) -> None:
    key = Home(stack.home).keys()["customer"]
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=key) as client:
        assert "twinrail" in {model.id for model in client.models.list()}
        whole = client.chat.completions.create(
            model="twinrail", messages=[{"role": "user", "content": QUESTION}]
        )
        assert whole.choices[0].message.content
        assert whole.usage is not None
        assert whole.model_extra is not None
        assert whole.model_extra["twinrail"]["versions"]["model"].startswith("m-")
        pieces = [
            chunk.choices[0].delta.content or ""
            for chunk in client.chat.completions.create(
                model="twinrail", messages=[{"role": "user", "content": QUESTION}], stream=True
            )
            if chunk.choices
        ]
    assert "".join(pieces).strip()


async def test_a_mistake_names_the_field_and_the_fix(stack: Stack) -> None:
    async with (
        aiohttp.ClientSession(stack.url, headers=headers(stack)) as session,
        session.post("/v1/answers", json={"question": QUESTION, "tenant": "other"}) as response,
    ):
        assert response.status == 422
        assert response.content_type == "application/problem+json"
        problem = await response.json()
    assert problem["field"] == "tenant"
    assert "Remove tenant" in problem["fix"]
    assert len(problem["trace_id"]) == 32
    done = stack.twinrail("ask", "")
    assert done.code == 2
    assert done.data == ""
    assert done.log.startswith("twinrail: question: ")


def test_ask_prints_sources_and_both_stamps(stack: Stack) -> None:
    done = stack.twinrail("ask", QUESTION)
    assert done.code in (0, 4), done.log
    if done.code == 0:
        assert re.search(r"^Sources\n  \[\d\] ", done.data, re.MULTILINE)
    assert "\nknowledge k-" in done.data
    assert "\nmodel     m-" in done.data
    streamed = stack.twinrail("ask", "--stream", "--json", QUESTION)
    assert [json.loads(line)["event"] for line in streamed.data.splitlines()][-1] == "answer.completed"


def test_search_shows_both_legs(stack: Stack) -> None:
    found = stack.twinrail("search", "refund after a yearly renewal", "--k", "3", "--json")
    assert found.code == 0, found.log
    assert len(found.json["hits"]) == 3
    assert found.json["hits"][0]["document_id"] == "refunds-renewals"


def test_a_second_up_says_that_it_runs_already(stack: Stack) -> None:
    done = stack.twinrail("up")
    assert done.code == 0
    assert done.data.startswith(f"already running: {stack.url} (process {stack.process.pid})")


def test_status_is_ready_with_both_rails(stack: Stack) -> None:
    done = stack.twinrail("status", "--json")
    assert done.code == 0, done.log
    assert done.json["ready"] is True
    assert {rail["rail"] for rail in done.json["rails"]} == {"knowledge", "model"}
