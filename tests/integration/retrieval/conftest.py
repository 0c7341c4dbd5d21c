"""A store on a fresh database, and a way to publish documents without files."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import pytest
from psycopg_pool import AsyncConnectionPool

from retrieval.connections import Pool
from retrieval.ingest import ingest
from retrieval.ingest_report import IngestReport
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore
from tests.fakes.embedding import WordEmbedder
from tests.fakes.parsers import shared_parsers

Publish = Callable[..., Awaitable[IngestReport]]


def write_corpus(corpus: Path, documents: Mapping[str, str | Mapping[str, object]]) -> Path:
    """A JSONL file of documents: id -> text, or id -> row."""
    rows = [
        {"id": key, "title": key, "text": value}
        if isinstance(value, str)
        else {"id": key, "title": key, **value}
        for key, value in documents.items()
    ]
    corpus.write_text("\n".join(json.dumps(row) for row in rows) or "\n", encoding="utf-8")
    return corpus


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with AsyncConnectionPool(database_url, min_size=1, max_size=4, open=False) as pool:
        yield pool


@pytest.fixture
def store(pool: Pool) -> KnowledgeStore:
    return KnowledgeStore(pool)


@pytest.fixture
def embedder() -> WordEmbedder:
    return WordEmbedder()


@pytest.fixture
def retriever(store: KnowledgeStore, embedder: WordEmbedder) -> Retriever:
    return Retriever(store=store, embedders={embedder.id: embedder})


@pytest.fixture
def publish(store: KnowledgeStore, embedder: WordEmbedder, tmp_path: Path) -> Publish:
    """Make a source consist of the given documents: id -> text, or id -> row of a corpus."""

    async def run(
        documents: Mapping[str, str | Mapping[str, object]], *, tenant: str = "acme", source: str = "help"
    ) -> IngestReport:
        corpus = write_corpus(tmp_path / "corpus.jsonl", documents)
        return await ingest(
            store, embedder, corpus, tenant=tenant, source_name=source, parsers=shared_parsers()
        )

    return run
