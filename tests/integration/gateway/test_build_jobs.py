"""An index version asked for over HTTP and built by a worker process that is killed in the middle of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from retrieval.building import CACHE_BATCH
from retrieval.ingest import ingest
from retrieval.store import KnowledgeStore
from retrieval.versions import VersionState
from tests.fakes.embedding import WordEmbedder
from tests.fakes.parsers import shared_parsers
from tests.fakes.worker_process import Workers, kill
from tests.integration.gateway.conftest import REFUND_QUESTION, Gateway

DIMS = 256
#: Enough that a build takes several batches of embeddings, and several of releases.
ARTICLES = 150
WORDS = 100


@pytest.fixture
async def store(gateway: Gateway, tmp_path: Path) -> KnowledgeStore:
    """The rail with long articles, which another chunker cuts otherwise."""
    rows = [
        {"id": f"gate-{n}", "title": f"Gate {n}", "text": " ".join(f"w{n}x{word}" for word in range(WORDS))}
        for n in range(ARTICLES)
    ]
    corpus = tmp_path / "gates.jsonl"
    corpus.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    store = KnowledgeStore(gateway.chunks)
    await ingest(
        store, WordEmbedder(dims=DIMS), corpus, tenant="acme", source_name="gates", parsers=shared_parsers()
    )
    return store


async def test_killed_in_mid_build_and_finished_by_another(
    gateway: Gateway, store: KnowledgeStore, database_url: str, tmp_path: Path
) -> None:
    key = gateway.keys.release
    workers = Workers(database_url, tmp_path / "embedded.log", dims=DIMS)
    status, asked, headers = await gateway.post(
        "/v1/rails/knowledge/versions", {"name": "smaller", "chunker": "structure-40"}, key=key
    )
    assert (status, headers["location"]) == (202, f"/v1/jobs/{asked['job']}"), asked
    version = asked["version"]

    async def job() -> dict[str, Any]:
        status, body = await gateway.get(headers["location"], key=key)
        assert status == 200, body
        return body

    async def under_way() -> bool:
        found = await job()
        return found["done"] > 0 and len(workers.embedded()) > 4 * CACHE_BATCH

    async def ended() -> bool:
        return (await job())["finished_at"] is not None

    async with workers.one(pause_s=0.4) as first:
        await gateway.until(under_way, limit_s=90)
        await kill(first)
    found = await job()
    assert (found["state"], found["kind"], found["stage"], found["attempts"]) == (
        "running",
        "build",
        "fill",
        1,
    )
    assert 0 < found["done"] < found["total"]
    (before,) = [each for each in await store.facts() if each.version.id == version]
    assert before.version.state is VersionState.BUILDING
    kept = before.tenants["acme"].chunks
    assert kept > 0
    # Half of a version takes no traffic, and the live one serves.
    assert (await gateway.post("/v1/rails/knowledge:promote", {"version": version}, key=key))[0] == 404
    assert (await gateway.post("/v1/search", {"question": REFUND_QUESTION}))[1]["hits"]
    killed_at = len(workers.embedded())

    async with workers.one():
        await gateway.until(ended, limit_s=90)
    found = await job()
    assert (found["state"], found["attempts"], found["error"]) == ("done", 2, None)
    (after,) = [each for each in await store.facts() if each.version.id == version]
    assert after.version.state is VersionState.READY
    # It went on: what was in stayed, and only what was lacking was filled and embedded.
    assert found["report"]["chunks"] == after.tenants["acme"].chunks - kept
    texts = workers.embedded()
    assert len(texts) - len(set(texts)) <= CACHE_BATCH
    assert len(texts) - killed_at <= after.tenants["acme"].chunks - kept
    assert (await gateway.post("/v1/rails/knowledge:promote", {"version": version}, key=key))[0] == 200
    status, answer, _ = await gateway.post("/v1/search", {"question": REFUND_QUESTION})
    assert (status, answer["version"].partition("@")[0]) == (200, version)
    assert answer["hits"]
