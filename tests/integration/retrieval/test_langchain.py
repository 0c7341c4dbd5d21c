"""The LangChain adapters."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

from retrieval.documents import Access
from retrieval.errors import EmbeddingError, RequestError
from retrieval.langchain import LangchainEmbedder, TwinrailRetriever
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore
from tests.integration.retrieval.conftest import Publish

PUBLIC = Access(tenant="acme", principals=("public",))


async def test_retriever(store: KnowledgeStore, retriever: Retriever, publish: Publish) -> None:
    await publish(
        {"a": "red fox", "b": "blue hen", "c": {"text": "grey owl", "metadata": {"product": "sync"}}}
    )
    adapter = TwinrailRetriever(retriever=retriever, store=store, access=PUBLIC, k=2)
    documents = await adapter.ainvoke("red fox")
    assert documents[0].page_content == "red fox"
    assert len(documents) == 2
    assert len(await adapter.ainvoke("red fox", k=1)) == 1
    metadata = documents[0].metadata
    assert (metadata["document_id"], metadata["start"], metadata["end"]) == ("a", 0, 7)
    assert metadata["knowledge"] == f"{(await store.pointer()).stable}@1"
    assert documents[0].id
    filtered = TwinrailRetriever(retriever=retriever, store=store, access=PUBLIC, filters={"product": "sync"})
    assert [document.page_content for document in await filtered.ainvoke("bird")] == ["grey owl"]


async def test_sync_call_from_another_thread(
    store: KnowledgeStore, retriever: Retriever, publish: Publish
) -> None:
    await publish({"a": "red fox"})
    adapter = TwinrailRetriever(
        retriever=retriever, store=store, access=PUBLIC, loop=asyncio.get_running_loop()
    )
    documents = await asyncio.to_thread(adapter.invoke, "red")
    assert [document.page_content for document in documents] == ["red fox"]
    with pytest.raises(RequestError, match="call ainvoke"):
        TwinrailRetriever(retriever=retriever, store=store, access=PUBLIC).invoke("red")


async def test_embeddings() -> None:
    embedder = LangchainEmbedder(DeterministicFakeEmbedding(size=16), model_id="fake-16", dims=16)
    vectors = await embedder.embed_documents(["a", "b"])
    assert vectors.shape == (2, 16)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0)
    assert np.allclose(await embedder.embed_query("a"), vectors[0], atol=1e-6)
    inner: Embeddings = DeterministicFakeEmbedding(size=8)
    with pytest.raises(EmbeddingError, match="not \\(1, 16\\)"):
        await LangchainEmbedder(inner, model_id="x", dims=16).embed_query("a")
