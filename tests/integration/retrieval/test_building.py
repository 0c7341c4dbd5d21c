"""Building an index version from stored text while publishes, undos, erasures and searches go on."""

from __future__ import annotations

import pytest

from retrieval.building import build
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore
from retrieval.versions import KnowledgeVersion, VersionState
from tests.fakes.embedding import WordEmbedder
from tests.integration.retrieval.conftest import Publish


async def test_smoke(
    store: KnowledgeStore, retriever: Retriever, publish: Publish, embedder: WordEmbedder
) -> None:
    await publish({"a": "red", "b": "green"})
    version = KnowledgeVersion.make(
        name="second", embedder=embedder.id, dims=embedder.dims, chunker="structure-60"
    )
    await store.register(version)
    print(await store.facts())
    print(await build(store, {embedder.id: embedder}, version.id))
    print(await store.facts())
    await store.promote(version.id)
    await publish({"a": "blue"})
    other = KnowledgeVersion.make(
        name="third", embedder=embedder.id, dims=embedder.dims, chunker="structure-60"
    )
    await store.register(other)
    print(await build(store, {embedder.id: embedder}, other.id))
    print(await store.retire(other.id))
    print(await store.facts())
