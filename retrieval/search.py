"""One search, end to end: embed the question, one SQL round trip, a confidence, and the facts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from retrieval import instruments as telemetry
from retrieval.documents import is_storable
from retrieval.embedding import Embedder
from retrieval.errors import (
    EmbedderMismatchError,
    FilterError,
    RequestError,
    RetrievalTimeoutError,
    UnknownVersionError,
)
from retrieval.hits import FilterValue, SearchRequest, SearchResult
from retrieval.store import Found, KnowledgeStore, Legs
from retrieval.versions import KnowledgeVersion

MAX_K = 100
MAX_FILTERS = 20
MAX_FILTER_VALUES = 100


class Retriever:
    """Searches. Holds no state but the versions it has seen, which never change."""

    def __init__(self, *, store: KnowledgeStore, embedders: Mapping[str, Embedder]) -> None:
        self._store = store
        self._embedders = dict(embedders)
        self._versions: dict[str, KnowledgeVersion] = {}

    async def search(
        self, request: SearchRequest, *, arm: str | None = None, legs: Legs = "both"
    ) -> SearchResult:
        """The best chunks for a question. `arm` labels the metrics; `legs` leaves one out, to compare."""
        filters = checked_filters(request)
        labels = {telemetry.OPERATION: "retrieval", telemetry.KNOWLEDGE_VERSION: request.version}
        if arm:
            labels[telemetry.KNOWLEDGE_ARM] = arm
        facts: dict[str, str | int] = {
            telemetry.DATA_SOURCE_ID: telemetry.DATA_SOURCE,
            telemetry.TOP_K: request.k,
        }
        with telemetry.measured(
            telemetry.SEARCH_SPAN, telemetry.operation_duration, labels=labels, attributes=facts
        ) as stage:
            try:
                async with asyncio.timeout(request.timeout_s):
                    result = await self._search(request, filters, labels, legs)
            except TimeoutError as exc:
                raise RetrievalTimeoutError(
                    f"timeout_s: the search took longer than {request.timeout_s} s"
                ) from exc
            best = result.hits[0].dense_score if result.hits else 0.0
            stage.note(
                {
                    telemetry.KNOWLEDGE_SNAPSHOT: result.snapshot,
                    telemetry.MODE: result.mode,
                    telemetry.CANDIDATES: result.candidates,
                    telemetry.RETURNED: len(result.hits),
                    telemetry.TOP_SCORE: best,
                    telemetry.CONFIDENCE: result.confidence,
                    telemetry.EMPTY: not result.hits,
                    telemetry.UNDERFILLED: result.underfilled,
                }
            )
            telemetry.documents.record(len(result.hits), labels)
            if result.hits:
                telemetry.top_score.record(best, labels)
            else:
                telemetry.empty.add(1, labels)
        return result

    async def _search(
        self,
        request: SearchRequest,
        filters: Mapping[str, tuple[str, ...]],
        labels: Mapping[str, str],
        legs: Legs,
    ) -> SearchResult:
        deadline = time.monotonic() + request.timeout_s
        version = await self._version(request.version)
        embedder = self._embedders.get(version.embedder)
        if embedder is None:
            raise EmbedderMismatchError(
                f"version: {version.id} needs embedder {version.embedder}; "
                f"at hand: {', '.join(self._embedders) or 'none'}"
            )
        rail = {key: value for key, value in labels.items() if key != telemetry.OPERATION}
        with telemetry.measured(
            f"embeddings {embedder.id}",
            telemetry.operation_duration,
            labels={telemetry.OPERATION: "embeddings", telemetry.REQUEST_MODEL: embedder.id, **rail},
            attributes={telemetry.EMBEDDING_DIMENSIONS: embedder.dims},
            stage="embed",
        ) as embed:
            vector = await embedder.embed_query(request.question)
        with telemetry.measured(
            telemetry.QUERY_SPAN, telemetry.query_duration, labels={**telemetry.DB, **rail}, stage="search"
        ) as query:
            found = await self._store.search(
                request.access,
                version=version.id,
                question=request.question,
                embedding=vector,
                k=request.k,
                filters=filters,
                as_of=request.as_of,
                effective_on=request.effective_on,
                timeout_s=deadline - time.monotonic(),
                legs=legs,
            )
            query.note({telemetry.MODE: found.mode, telemetry.CANDIDATES: found.candidates})
        return SearchResult(
            hits=found.hits,
            version=version.id,
            snapshot=found.snapshot,
            confidence=confidence_of(found, version),
            abstain_below=version.abstain_below,
            mode=found.mode,
            candidates=found.candidates,
            underfilled=found.underfilled,
            timings_ms={"embed": embed.seconds * 1000, "search": query.seconds * 1000},
        )

    async def _version(self, version_id: str) -> KnowledgeVersion:
        """A version by id. Its parts are its identity, so what was read once stays true."""
        if version_id not in self._versions:
            self._versions = {version.id: version for version in await self._store.versions()}
        try:
            return self._versions[version_id]
        except KeyError:
            known = ", ".join(self._versions) or "none"
            raise UnknownVersionError(f"version: no index version {version_id}; known: {known}") from None


def confidence_of(found: Found, version: KnowledgeVersion) -> float:
    """Probability that the hits hold the answer; 0.0 without any."""
    if found.top_dense is None:
        return 0.0
    return version.calibration.probability({"top_dense": found.top_dense})


def checked_filters(request: SearchRequest) -> dict[str, tuple[str, ...]]:
    """Filters with their values as tuples; a value that cannot be searched is named."""
    if not request.question.strip():
        raise RequestError("question: is empty; write what to search for")
    if not is_storable(request.question):
        raise RequestError("question: contains a NUL character or half of a character pair; remove it")
    if not 1 <= request.k <= MAX_K:
        raise RequestError(f"k: {request.k} is not between 1 and {MAX_K}")
    if request.timeout_s <= 0:
        raise RetrievalTimeoutError("timeout_s: no time is left for the search")
    if len(request.filters) > MAX_FILTERS:
        raise FilterError(f"filters: {len(request.filters)} fields, at most {MAX_FILTERS} are taken")
    return {field: _values(field, value) for field, value in request.filters.items()}


def _values(field: str, value: FilterValue) -> tuple[str, ...]:
    values = (value,) if isinstance(value, str) else value
    if not values or len(values) > MAX_FILTER_VALUES:
        raise FilterError(f"filters: {field}: give 1 to {MAX_FILTER_VALUES} values")
    for each in values:
        if not isinstance(each, str) or not is_storable(each):
            raise FilterError(f"filters: {field}: values must be strings, got {each!r}")
    return tuple(values)
