"""The corpus in memory, which rerankers are trained and judged on, ranks as the store does."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieval.documents import Access
from retrieval.hits import SearchRequest
from retrieval.rerank_corpus import load_corpus
from retrieval.search import Retriever
from retrieval.sources import read_source
from retrieval.store import KnowledgeStore
from tests.fakes.embedding import WordEmbedder
from tests.integration.retrieval.conftest import Publish

TEXTS = {
    "sky": "a red sky at night is a sign of fair weather",
    "hen": "the red hen lays an egg a day",
    "sea": "the sea is deep and the sky above it is wide",
    "fox": "a fox eats the hen and the egg at night",
    "staff": {"text": "what staff say of the red sky at night", "metadata": {"visibility": "internal"}},
    "past": {"text": "a red sky at night was a sign of fair weather", "effective_to": "2020-01-01"},
    "future": {"text": "the hen will lay a red egg at night", "effective_from": "2999-01-01"},
    "present": {
        "text": "of late the hen is red",
        "effective_from": "2020-01-01",
        "effective_to": "2999-01-01",
    },
}


@pytest.mark.parametrize("question", ["red sky at night", "what does the hen lay", "nothing of all that"])
async def test_same_order_and_scores_as_the_store(
    question: str,
    retriever: Retriever,
    store: KnowledgeStore,
    publish: Publish,
    embedder: WordEmbedder,
    tmp_path: Path,
) -> None:
    await publish(TEXTS)
    documents = read_source(tmp_path / "corpus.jsonl").documents
    corpus = await load_corpus("all", documents, embedder, tmp_path / "vectors")
    hits = corpus.search(question, await embedder.embed_query(question), hidden={"staff"})
    found = await retriever.search(
        SearchRequest(
            question=question,
            access=Access(tenant="acme", principals=("public",)),
            version=(await store.pointer()).stable,
        )
    )
    assert [corpus.pieces[index].document for index, _ in hits] == [hit.document_id for hit in found.hits]
    for (_, fused), hit in zip(hits, found.hits, strict=True):
        assert fused / (1 + fused) == pytest.approx(hit.score, rel=2e-3, abs=1e-3)


async def test_vectors_are_kept_until_the_texts_change(embedder: WordEmbedder, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    for text, asked in (("a", 1), ("a", 1), ("b", 2)):
        corpus.write_text(f'{{"id": "x", "title": "t", "text": "{text}"}}\n', encoding="utf-8")
        await load_corpus("one", read_source(corpus).documents, embedder, tmp_path / "vectors")
        assert len(embedder.texts) == asked
