"""Search as LangChain knows it: a `BaseRetriever` of chunks, and a `DocumentIndex` of documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document as LangchainDocument
from langchain_core.indexing import DeleteResponse, UpsertResponse
from langchain_core.indexing.base import DocumentIndex
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from pydantic import Field

from retrieval.documents import Access
from retrieval.hits import Hit, SearchRequest, SearchResult
from retrieval.langchain_rail import Rails
from retrieval.langchain_search import version_to_read
from retrieval.langchain_store import TwinrailVectorStore


class TwinrailRetriever(BaseRetriever):
    """The best chunks for a question, by everything that the index version searches with.

    Span, document version, the scores of both legs, the stamp, the calibrated confidence and how the search
    went (`mode`, `underfilled`, what was `degraded`) stand in each document's metadata, beside its own. `k`,
    `filters`, `version` and `as_of` may be given to `invoke` too.
    Nothing is found on a rail without documents.
    """

    rails: Rails
    access: Access
    k: int = 8
    #: Index version to read; None follows the pointer's stable version.
    version: str | None = None
    #: Snapshot or moment to read; None is what is live now.
    as_of: int | datetime | None = None
    filters: Mapping[str, Any] = Field(default_factory=dict)
    timeout_s: float = 5.0

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[LangchainDocument]:
        return await self._documents(query, **kwargs)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[LangchainDocument]:
        return self.rails.call(lambda: self._documents(query, **kwargs))

    async def _documents(
        self,
        query: str,
        *,
        k: int | None = None,
        filters: Mapping[str, Any] | None = None,
        version: str | None = None,
        as_of: int | datetime | None = None,
    ) -> list[LangchainDocument]:
        rail = await self.rails.here()
        read = await version_to_read(rail, version or self.version)
        if read is None:
            return []
        request = SearchRequest(
            question=query,
            access=self.access,
            version=read,
            k=self.k if k is None else k,
            filters=self.filters if filters is None else filters,
            as_of=self.as_of if as_of is None else as_of,
            timeout_s=self.timeout_s,
        )
        result = await rail.retriever.search(request)
        return [_document(hit, result) for hit in result.hits]

    def _get_ls_params(self, **kwargs: Any) -> LangSmithRetrieverParams:
        named = super()._get_ls_params(**kwargs)
        named["ls_vector_store_provider"] = "pgvector"
        return named


class TwinrailDocumentIndex(DocumentIndex):
    """A vector store behind LangChain's `DocumentIndex`, which also searches."""

    store: TwinrailVectorStore
    k: int = 4

    async def aupsert(self, items: Sequence[LangchainDocument], /, **kwargs: Any) -> UpsertResponse:
        """Add or replace documents by id: all of them, or an error and none."""
        return UpsertResponse(succeeded=await self.store.aadd_documents(list(items), **kwargs), failed=[])

    async def adelete(self, ids: list[str] | None = None, **_kwargs: Any) -> DeleteResponse:
        """Take documents away; counts those that were there."""
        return DeleteResponse(num_deleted=await self.store.remove(ids), num_failed=0)

    async def aget(self, ids: Sequence[str], /, **_kwargs: Any) -> list[LangchainDocument]:
        """Documents by id."""
        return await self.store.aget_by_ids(ids)

    def upsert(self, items: Sequence[LangchainDocument], /, **kwargs: Any) -> UpsertResponse:
        """`aupsert` for callers without an event loop, as the two that follow."""
        return self.store.rails.call(lambda: self.aupsert(items, **kwargs))

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> DeleteResponse:
        """Take documents away."""
        return self.store.rails.call(lambda: self.adelete(ids, **kwargs))

    def get(self, ids: Sequence[str], /, **kwargs: Any) -> list[LangchainDocument]:
        """Documents by id."""
        return self.store.rails.call(lambda: self.aget(ids, **kwargs))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[LangchainDocument]:
        return await self.store.asimilarity_search(query, **{"k": self.k, **kwargs})

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[LangchainDocument]:
        return self.store.similarity_search(query, **{"k": self.k, **kwargs})


def _document(hit: Hit, result: SearchResult) -> LangchainDocument:
    own = {name: list(value) if isinstance(value, tuple) else value for name, value in hit.metadata.items()}
    return LangchainDocument(
        id=str(hit.chunk_id),
        page_content=hit.text,
        metadata={
            **own,
            "document_id": hit.document_id,
            "document_version": hit.document_version,
            "title": hit.title or own.get("title", ""),
            "url": hit.url or own.get("url", ""),
            "heading_path": list(hit.heading_path),
            "start": hit.start,
            "end": hit.end,
            "rank": hit.rank,
            "score": hit.score,
            "dense_score": hit.dense_score,
            "lexical_score": hit.lexical_score,
            "rerank_score": hit.rerank_score,
            "knowledge": f"{result.version}@{result.snapshot}",
            "confidence": result.confidence,
            "abstain_below": result.abstain_below,
            "calibration": result.calibration,
            "mode": result.mode,
            "underfilled": result.underfilled,
            "degraded": list(result.degraded),
        },
    )
