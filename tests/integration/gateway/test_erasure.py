"""Stored turns and the documents that they cite: changed since, erased, and what is left of the turn then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from retrieval.ingest import ingest
from retrieval.store import KnowledgeStore
from tests.fakes.embedding import WordEmbedder
from tests.fakes.help_centre import ARTICLES
from tests.fakes.parsers import shared_parsers
from tests.integration.gateway.conftest import PRICE_QUESTION, REFUND_QUESTION, Gateway, reply

REFUND = "A full refund is possible within 30 days of a yearly renewal."
PRICE = "Sync Plus costs $9 a month or $90 a year."


async def asked(gateway: Gateway, question: str = REFUND_QUESTION, answer: str = REFUND) -> dict[str, Any]:
    gateway.vllm.program(gateway.stable, answer=reply(answer))
    status, body, _ = await gateway.post("/v1/answers", {"question": question})
    assert status == 200
    assert body["citations"], body

    async def written() -> bool:
        return await gateway.state.turns.read("acme", UUID(body["id"])) is not None

    await gateway.until(written)
    return body


async def published(gateway: Gateway, tmp_path: Path, articles: dict[str, str]) -> None:
    corpus = tmp_path / "again.jsonl"
    rows = [{"id": key, "title": key, "text": text} for key, text in articles.items()]
    corpus.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    store = KnowledgeStore(gateway.chunks)
    await ingest(
        store, WordEmbedder(dims=256), corpus, tenant="acme", source_name="help", parsers=shared_parsers()
    )


async def stored(gateway: Gateway, turn_id: str) -> str:
    """The turn as it lies in the table."""
    row = await gateway.state.turns.read("acme", UUID(turn_id))
    assert row is not None
    return json.dumps({"answer": row["answer"], "used": row["used"]}, default=str)


async def test_a_citation_names_the_version_that_keeps_its_text(gateway: Gateway) -> None:
    (citation,) = (await asked(gateway))["citations"]
    assert (citation["document_id"], citation["document_version"]) == ("refunds", 1)


async def test_an_answer_is_flagged_once_its_document_has_changed(gateway: Gateway, tmp_path: Path) -> None:
    body = await asked(gateway)
    turn = await gateway.turn(body["id"])
    (now,) = turn["cited"]
    assert (turn["stale"], now["current"], now["changed_at"], now["erased_at"]) == (False, True, None, None)

    await published(gateway, tmp_path, {**ARTICLES, "refunds": "A full refund is possible within 14 days."})
    turn = await gateway.turn(body["id"])
    (now,) = turn["cited"]
    assert (turn["stale"], now["current"], now["erased_at"]) == (True, False, None)
    assert now["changed_at"] is not None
    # What was said then can still be read.
    assert turn["answer"]["citations"][0]["quote"] in ARTICLES["refunds"]

    await gateway.post("/v1/rails/knowledge:undo", {"what": "publish"}, key=gateway.keys.release)
    assert (await gateway.turn(body["id"]))["stale"] is False

    await published(gateway, tmp_path, {key: text for key, text in ARTICLES.items() if key != "refunds"})
    turn = await gateway.turn(body["id"])
    assert (turn["stale"], turn["cited"][0]["changed_at"]) == (True, None)


async def test_a_turn_loses_a_document_that_was_erased(gateway: Gateway) -> None:
    refund, price = await asked(gateway), await asked(gateway, PRICE_QUESTION, PRICE)
    assert "yearly renewal" in await stored(gateway, refund["id"])
    store = KnowledgeStore(gateway.chunks)
    await store.purge("acme", "refunds", by="test")
    assert await gateway.state.turns.erase_document("acme", "refunds", dry_run=True) >= 1
    assert "yearly renewal" in await stored(gateway, refund["id"])
    assert await gateway.state.turns.erase_document("acme", "refunds") >= 1

    left = await stored(gateway, refund["id"])
    for word in ("yearly", "renewal", "refunds", "30 days"):
        assert word not in left, left
    turn = await gateway.turn(refund["id"])
    assert turn["question"] == REFUND_QUESTION
    assert turn["answer"]["answer"].startswith("erased on 2")
    (now,) = turn["cited"]
    assert (turn["stale"], now["current"]) == (True, False)
    assert now["erased_at"] is not None
    assert turn["answer"]["citations"][0]["quote"].startswith("erased on 2")
    assert turn["versions"] == refund["versions"]
    assert await gateway.state.turns.erase_document("acme", "refunds") == 0

    # The other turn had the document among its hits, and perhaps in its prompt; it cites another one.
    other = await stored(gateway, price["id"])
    assert "A full refund" not in other
    assert '"document_id": "refunds"' not in other


async def test_a_turn_without_the_document_stays_as_it_was(gateway: Gateway) -> None:
    body = await asked(gateway)
    before = await stored(gateway, body["id"])
    assert await gateway.state.turns.erase_document("acme", "no-such-document") == 0
    assert await gateway.state.turns.erase_document("globex", "refunds") == 0
    assert await stored(gateway, body["id"]) == before


async def test_a_turn_that_was_under_way_loses_it_when_it_is_written(gateway: Gateway) -> None:
    """As one out of the spool does, hours later."""
    body = await asked(gateway)
    row = await gateway.state.turns.read("acme", UUID(body["id"]))
    assert row is not None
    late = json.loads(json.dumps({**row, "id": str(UUID(int=7)), "ticket": None}, default=str))
    await gateway.state.turns.erase_document("acme", "refunds")
    await gateway.state.turns.write([late])
    left = await stored(gateway, late["id"])
    assert "yearly renewal" not in left
    assert "erased on 2" in left
    # One that began long after the erasure holds the document because it was let in again.
    await gateway.state.turns.write([{**late, "id": str(UUID(int=8)), "created_at": "2199-01-01T00:00:00Z"}])
    assert "yearly renewal" in await stored(gateway, str(UUID(int=8)))


async def test_the_turn_can_be_read_while_the_knowledge_rail_is_away(gateway: Gateway) -> None:
    body = await asked(gateway)
    await gateway.chunks.close()
    turn = await gateway.turn(body["id"])
    assert (turn["stale"], turn["cited"][0]["current"]) == (False, None)


@pytest.mark.parametrize("key", ["customer", "release"])
async def test_purge_needs_admin(gateway: Gateway, key: str) -> None:
    async with gateway.session.delete(
        f"{gateway.url}/v1/documents/refunds?purge=true", headers=gateway.headers(getattr(gateway.keys, key))
    ) as response:
        assert response.status == 403
