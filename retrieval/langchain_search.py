"""Searches that return whole documents, as LangChain's vector stores do, where ours return chunks."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from langchain_core.documents import Document as LangchainDocument
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from retrieval.building import require_parts
from retrieval.documents import Access
from retrieval.embedding import Vector
from retrieval.errors import NoStableVersionError, RequestError
from retrieval.filters import Filters, filter_tree
from retrieval.hits import Hit, SearchRequest
from retrieval.langchain_documents import given_form
from retrieval.langchain_rail import Rail
from retrieval.search import MAX_K
from retrieval.store import Legs
from retrieval.stored import DocumentStore

NO_FILTERS: Filters = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A document with the cosine of its best chunk."""

    document: LangchainDocument
    score: float
    #: Of the best chunk.
    vector: Vector | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    """Hits of one search."""

    hits: Sequence[Hit]
    snapshot: int
    #: There are no more.
    is_last: bool


#: Searches without some documents, at a snapshot (None: as asked), for so many chunks.
_Search = Callable[[tuple[str, ...], int | None, int], Awaitable[_Page]]


class DocumentSearch:
    """Searches of one index version with one reader's eyes. Each document comes once, for its best chunk."""

    def __init__(self, rail: Rail, access: Access, version: str, *, legs: Legs, timeout_s: float) -> None:
        self._rail = rail
        self._access = access
        self._version = version
        self._legs: Legs = legs
        self._timeout_s = timeout_s

    async def by_text(
        self, question: str, k: int, *, filters: Filters = NO_FILTERS, as_of: int | datetime | None = None
    ) -> list[Hit]:
        """The best chunks of the `k` best documents, by everything that the version searches with."""

        async def search(found: tuple[str, ...], snapshot: int | None, wanted: int) -> _Page:
            request = SearchRequest(
                question=question,
                access=self._access,
                version=self._version,
                k=wanted,
                filters=filters,
                as_of=as_of if snapshot is None else snapshot,
                timeout_s=self._timeout_s,
                exclude_documents=found,
            )
            result = await self._rail.retriever.search(request, legs=self._legs)
            return _Page(hits=result.hits, snapshot=result.snapshot, is_last=result.underfilled)

        return await _best_of_each(search, k)

    async def by_vector(
        self,
        vector: Vector,
        k: int,
        *,
        filters: Filters = NO_FILTERS,
        as_of: int | datetime | None = None,
    ) -> list[Hit]:
        """The nearest chunks of the `k` nearest documents."""
        tree = filter_tree(filters)

        async def search(found: tuple[str, ...], snapshot: int | None, wanted: int) -> _Page:
            page = await self._rail.store.search(
                self._access,
                version=self._version,
                question="",
                embedding=vector,
                k=wanted,
                filters=tree,
                exclude_documents=found,
                as_of=as_of if snapshot is None else snapshot,
                timeout_s=self._timeout_s,
                legs="dense",
            )
            return _Page(hits=page.hits, snapshot=page.snapshot, is_last=len(page.hits) < wanted)

        return await _best_of_each(search, k)

    async def documents(self, hits: Sequence[Hit], *, with_vectors: bool = False) -> list[Scored]:
        """The documents of hits, as they were given. One that was erased meanwhile is left out."""
        if not hits:
            return []
        store = DocumentStore(self._rail.store)
        contents = await store.contents(self._access, [_version_of(hit) for hit in hits])
        vectors: dict[int, Vector] = {}
        if with_vectors:
            vectors = await store.embeddings(self._access, self._version, [hit.chunk_id for hit in hits])
            hits = [hit for hit in hits if hit.chunk_id in vectors]
        return [
            Scored(
                document=given_form(hit.document_id, content.text, content.metadata),
                score=hit.dense_score,
                vector=vectors.get(hit.chunk_id),
            )
            for hit in hits
            if (content := contents.get(_version_of(hit)))
        ]

    async def diverse(
        self, hits: Sequence[Hit], vector: Vector, k: int, lambda_mult: float
    ) -> list[LangchainDocument]:
        """`k` of the documents that are near a vector and unlike each other."""
        if not 0 <= lambda_mult <= 1:
            raise RequestError(f"lambda_mult: {lambda_mult} is not a share; give a number from 0 to 1")
        scored = await self.documents(hits, with_vectors=True)
        rows = [each.vector.tolist() for each in scored if each.vector is not None]
        chosen = maximal_marginal_relevance(vector, rows, lambda_mult=lambda_mult, k=k) if rows else []
        return [scored[place].document for place in chosen]

    async def vector_of(self, question: str) -> Vector:
        """The vector of a question by the version's own embedder."""
        version = await self._rail.store.version(self._version)
        embedders = {each.id: each for each in self._rail.embedders}
        embedder, _ = require_parts(version, embedders, self._rail.chunkers)
        return await embedder.embed_query(question)


async def version_to_read(rail: Rail, pinned: str | None) -> str | None:
    """The version that is pinned, else the stable one; None on an empty rail."""
    if pinned is not None:
        return pinned
    try:
        return (await rail.store.pointer()).stable
    except NoStableVersionError:
        return None


def unit(embedding: Sequence[float]) -> Vector:
    """A vector of length 1 in the direction of a given one."""
    vector = np.asarray(embedding, dtype=np.float32)
    length = float(np.linalg.norm(vector)) if vector.ndim == 1 else 0.0
    if not math.isfinite(length) or length == 0:
        raise RequestError("embedding: is not a list of numbers of which one at least is not zero")
    scaled: Vector = vector / length
    return scaled


async def _best_of_each(search: _Search, k: int) -> list[Hit]:
    """The first hit of each of `k` documents. Where a document has several chunks one search may not do;
    the next one leaves out what was found and reads the same snapshot."""
    if not 1 <= k <= MAX_K:
        raise RequestError(f"k: {k} is not between 1 and {MAX_K}")
    best: dict[str, Hit] = {}
    snapshot: int | None = None
    while len(best) < k:
        wanted = k - len(best)
        page = await search(tuple(best), snapshot, wanted)
        snapshot = page.snapshot
        for hit in page.hits:
            best.setdefault(hit.document_id, hit)
        if page.is_last:
            break
    return list(best.values())


def _version_of(hit: Hit) -> tuple[str, int]:
    return hit.document_id, hit.document_version
