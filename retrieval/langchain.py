"""LangChain at the edges: our search as a `BaseRetriever`, any LangChain `Embeddings` as our embedder."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document as LangchainDocument
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from pydantic import Field

from retrieval.documents import Access
from retrieval.embedding import Vector
from retrieval.errors import EmbeddingError, RequestError
from retrieval.hits import FilterValue, Hit, SearchRequest, SearchResult
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore


class TwinrailRetriever(BaseRetriever):
    """Search as LangChain knows it. Spans, scores and the version stamp are in each document's metadata.

    Connections belong to the event loop that opened them, so `ainvoke` is the natural call; `invoke` works
    from another thread when `loop` is that event loop.
    """

    retriever: Retriever
    store: KnowledgeStore
    access: Access
    k: int = 8
    #: Index version to read; None follows the pointer's stable version.
    version: str | None = None
    filters: Mapping[str, FilterValue] = Field(default_factory=dict)
    timeout_s: float = 5.0
    loop: asyncio.AbstractEventLoop | None = None

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[LangchainDocument]:
        return await self._documents(query, **kwargs)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[LangchainDocument]:
        if self.loop is None:
            raise RequestError("invoke: this retriever is async; call ainvoke, or give it `loop`")
        return asyncio.run_coroutine_threadsafe(self._documents(query, **kwargs), self.loop).result()

    async def _documents(self, query: str, *, k: int | None = None) -> list[LangchainDocument]:
        version = self.version or (await self.store.pointer()).stable
        request = SearchRequest(
            question=query,
            access=self.access,
            version=version,
            k=k or self.k,
            filters=self.filters,
            timeout_s=self.timeout_s,
        )
        result = await self.retriever.search(request)
        return [_document(hit, result) for hit in result.hits]

    def _get_ls_params(self, **_kwargs: Any) -> LangSmithRetrieverParams:
        return LangSmithRetrieverParams(ls_retriever_name="twinrail", ls_vector_store_provider="pgvector")


class LangchainEmbedder:
    """A LangChain `Embeddings` as an `Embedder`. LangChain names no model, so the caller gives the id."""

    def __init__(self, embeddings: Embeddings, *, model_id: str, dims: int) -> None:
        self._embeddings = embeddings
        self.id = model_id
        self.dims = dims

    async def embed_query(self, text: str) -> Vector:
        """The vector of a question."""
        vector: Vector = self._unit([await self._embeddings.aembed_query(text)], 1)[0]
        return vector

    async def embed_documents(self, texts: Sequence[str]) -> Vector:
        """The vectors of texts."""
        return self._unit(await self._embeddings.aembed_documents(list(texts)), len(texts))

    def _unit(self, rows: list[list[float]], count: int) -> Vector:
        vectors = np.asarray(rows, dtype=np.float32).reshape(len(rows), -1)
        if count and vectors.shape != (count, self.dims):
            raise EmbeddingError(f"{self.id}: got vectors of shape {vectors.shape}, not {(count, self.dims)}")
        unit: Vector = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


def _document(hit: Hit, result: SearchResult) -> LangchainDocument:
    return LangchainDocument(
        id=str(hit.chunk_id),
        page_content=hit.text,
        metadata={
            **hit.metadata,
            "document_id": hit.document_id,
            "document_version": hit.document_version,
            "title": hit.title,
            "url": hit.url,
            "heading_path": list(hit.heading_path),
            "start": hit.start,
            "end": hit.end,
            "score": hit.score,
            "dense_score": hit.dense_score,
            "lexical_score": hit.lexical_score,
            "knowledge": f"{result.version}@{result.snapshot}",
            "confidence": result.confidence,
        },
    )
