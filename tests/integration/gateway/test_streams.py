"""Server-sent events: sentences after their checks, citations, the answer; and a check that fails."""

from __future__ import annotations

import json
from typing import Any

from serving.wording import load_wording
from tests.integration.gateway.conftest import PRICE_QUESTION, Gateway, reply

PRICE = "Sync Plus costs $9 a month or $90 a year. The free trial of Sync Plus lasts 14 days."


async def events(gateway: Gateway, path: str, body: dict[str, Any]) -> list[tuple[str, Any]]:
    """All events of a stream, comments left out."""
    found: list[tuple[str, Any]] = []
    async with gateway.session.post(gateway.url + path, json=body, headers=gateway.headers()) as response:
        assert response.status == 200, await response.text()
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-accel-buffering"] == "no"
        for block in (await response.text()).split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if "data" in fields:
                data = fields["data"]
                found.append((fields.get("event", ""), data if data == "[DONE]" else json.loads(data)))
    return found


async def test_sentences_then_citations_then_the_answer(gateway: Gateway) -> None:
    gateway.vllm.program(gateway.stable, answer=reply(PRICE), one_byte=True)
    found = await events(gateway, "/v1/answers", {"question": PRICE_QUESTION, "stream": True})
    names = [name for name, _ in found]
    assert names == ["answer.delta", "answer.delta", "answer.citation", "answer.citation", "answer.completed"]
    assert "".join(data["text"] for name, data in found if name == "answer.delta") == PRICE
    assert found[0][1]["text"] == "Sync Plus costs $9 a month or $90 a year. "
    completed = found[-1][1]
    assert completed["status"] == "answered"
    assert completed["answer"] == PRICE
    assert [data for name, data in found if name == "answer.citation"] == completed["citations"]
    assert (await gateway.turn(completed["id"]))["answer"] == completed


async def test_a_failed_sentence_ends_the_draft(gateway: Gateway) -> None:
    gateway.vllm.program(
        gateway.stable,
        answer=reply("Sync Plus costs $9 a month. It includes 77 telephones. You can pay with gold."),
    )
    found = await events(gateway, "/v1/answers", {"question": PRICE_QUESTION, "stream": True})
    text = "".join(data["text"] for name, data in found if name == "answer.delta")
    assert text.startswith("Sync Plus costs $9 a month.")
    assert text.endswith(load_wording().failed)
    assert "telephones" not in text
    assert "gold" not in text
    completed = found[-1][1]
    assert completed["status"] == "fallback"
    assert completed["answer"] == text
    assert len(gateway.vllm.requests) == 1  # no repair after the first byte


async def test_a_first_sentence_that_fails_can_still_be_repaired(gateway: Gateway) -> None:
    drafts = iter([reply("It includes 77 telephones."), reply("Sync Plus costs $9 a month.")])
    gateway.vllm.program(gateway.stable, answer=lambda _body: next(drafts))
    found = await events(gateway, "/v1/answers", {"question": PRICE_QUESTION, "stream": True})
    assert found[-1][1]["status"] == "answered"
    assert found[-1][1]["answer"] == "Sync Plus costs $9 a month."


async def test_abstaining_streams_the_same_way(gateway: Gateway) -> None:
    found = await events(gateway, "/v1/answers", {"question": "xylophone zebra quartz?", "stream": True})
    assert [name for name, _ in found] == ["answer.delta", "answer.completed"]
    assert found[-1][1]["status"] == "abstained"
