"""The whole of langchain-tests that applies: vector store, retriever, document index, embeddings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import pytest
from anyio.from_thread import start_blocking_portal
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.indexing.base import DocumentIndex
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import (
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    VectorStoreIntegrationTests,
)
from langchain_tests.integration_tests.indexer import AsyncDocumentIndexTestSuite, DocumentIndexerTestSuite
from langchain_tests.unit_tests import EmbeddingsUnitTests

from retrieval.documents import Access
from retrieval.embedding import Embedder, HttpEmbedder, OnnxEmbedder
from retrieval.langchain import (
    TwinrailDocumentIndex,
    TwinrailEmbeddings,
    TwinrailRetriever,
    TwinrailVectorStore,
)
from retrieval.minilm import prepare_minilm
from tests.fakes.embedding import WordEmbedder
from tests.fakes.embeddings_server import FakeEmbeddings
from tests.prepared import MODELS


@asynccontextmanager
async def served_embedder(url: str) -> AsyncIterator[Embedder]:
    """The embedder of a service, on a session of the running event loop."""
    async with aiohttp.ClientSession() as session:
        yield HttpEmbedder(session, base_url=url, model="words", dims=32)


def empty_store(database_url: str, embeddings: Embeddings) -> TwinrailVectorStore:
    return TwinrailVectorStore.connect(database_url, embeddings, tenant="acme", model_id="fake-6")


class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    async def vectorstore(self, database_url: str) -> AsyncIterator[VectorStore]:  # type: ignore[override]
        async with empty_store(database_url, self.get_embeddings()) as store:
            yield store


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    async def rail(self, database_url: str) -> AsyncIterator[None]:
        async with empty_store(database_url, DeterministicFakeEmbedding(size=6)) as store:
            await store.aadd_texts(["red fox", "blue hen", "grey owl", "red hen"])
            self.store = store
            yield

    @property
    def retriever_constructor(self) -> type[TwinrailRetriever]:
        return TwinrailRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"rails": self.store.rails, "access": Access(tenant="acme", principals=("public",))}

    @property
    def retriever_query_example(self) -> str:
        return "red hen"


class TestRetrieverOfVectorStore(TestRetriever):
    """`as_retriever` takes `k` as a search argument, so its constructor has it there."""

    @property
    def retriever_constructor(self) -> Any:
        def made(*, k: int = 4) -> BaseRetriever:
            return self.store.as_retriever(search_kwargs={"k": k})

        return made

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {}


class TestIndex(DocumentIndexerTestSuite):
    @pytest.fixture
    def index(self, database_url: str) -> Iterator[DocumentIndex]:
        with empty_store(database_url, DeterministicFakeEmbedding(size=6)) as store:
            yield TwinrailDocumentIndex(store=store)


class TestAsyncIndex(AsyncDocumentIndexTestSuite):
    @pytest.fixture
    async def index(self, database_url: str) -> AsyncIterator[DocumentIndex]:  # type: ignore[override]
        async with empty_store(database_url, DeterministicFakeEmbedding(size=6)) as store:
            yield TwinrailDocumentIndex(store=store)

    async def test_searches(self, index: DocumentIndex) -> None:
        await index.aupsert([Document(id="a", page_content="red fox"), Document(id="b", page_content="owl")])
        assert [found.id for found in await index.ainvoke("red fox", k=1)] == ["a"]


class _OfEmbedder:
    """An embedder that belongs to no event loop."""

    @property
    def embeddings_class(self) -> type[TwinrailEmbeddings]:
        return TwinrailEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"embedder": WordEmbedder()}

    @pytest.fixture
    async def model(self) -> AsyncIterator[Embeddings]:
        made = self.embeddings_class(**self.embedding_model_params)
        yield made
        await made.aclose()


class TestEmbeddings(_OfEmbedder, EmbeddingsIntegrationTests):
    pass


class TestEmbeddingsInit(_OfEmbedder, EmbeddingsUnitTests):
    pass


class TestEmbeddingsOfThePackagedModel(_OfEmbedder, EmbeddingsIntegrationTests):
    @property
    def embedding_model_params(self) -> dict[str, Any]:
        prepare_minilm(MODELS / "minilm")
        return {"embedder": OnnxEmbedder(MODELS / "minilm")}


class TestEmbeddingsOfAService(_OfEmbedder, EmbeddingsIntegrationTests):
    """An embedder whose session belongs to the event loop that opened it; the service has a thread."""

    @pytest.fixture(autouse=True)
    def service(self) -> Iterator[None]:
        with (
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(FakeEmbeddings().serving()) as url,
        ):
            self.url = url
            yield

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"embedder": partial(served_embedder, self.url)}
