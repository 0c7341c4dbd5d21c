"""One search, end to end: restate, embed, one SQL round trip, rerank, a confidence, and the facts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from retrieval import instruments as telemetry
from retrieval.confidence import LOOKED_AT, features_of
from retrieval.documents import is_storable
from retrieval.embedding import Embedder, Vector
from retrieval.errors import (
    EmbedderMismatchError,
    RequestError,
    RetrievalTimeoutError,
    UnknownVersionError,
)
from retrieval.filters import FilterTree, filter_tree
from retrieval.hits import Hit, SearchRequest, SearchResult
from retrieval.probing import TIMEOUT_S as PROBE_TIMEOUT_S
from retrieval.probing import RecallProbe
from retrieval.reordering import RerankStage
from retrieval.reranking import Reranker
from retrieval.rewriting import Restated, Rewriter, RewriteStage
from retrieval.store import CANDIDATES, Found, KnowledgeStore, Legs
from retrieval.versions import KnowledgeVersion

MAX_K = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A search on its way through the stages."""

    request: SearchRequest
    #: What is searched: the request's question, or a follow-up made to stand alone.
    question: str
    filters: FilterTree | None
    version: KnowledgeVersion
    legs: Legs
    #: Of `time.monotonic`.
    deadline: float
    #: Of the stages' metrics.
    labels: Mapping[str, str]

    @property
    def left_s(self) -> float:
        """Seconds that are left."""
        return self.deadline - time.monotonic()


class Retriever:
    """Searches. Holds no state but the versions it has seen, which never change, and a recall probe."""

    def __init__(
        self,
        *,
        store: KnowledgeStore,
        embedders: Mapping[str, Embedder],
        rerankers: Mapping[str, Reranker] | None = None,
        rewriters: Mapping[str, Rewriter] | None = None,
        rerank_timeout_s: float = 0.8,
        rewrite_timeout_s: float = 1.5,
        probe_share: float = 0.0,
    ) -> None:
        self._store = store
        self._embedders = dict(embedders)
        self._rerank = RerankStage(rerankers or {}, timeout_s=rerank_timeout_s)
        self._rewrite = RewriteStage(rewriters or {}, timeout_s=rewrite_timeout_s)
        self._probe = RecallProbe(probe_share)
        self._versions: dict[str, KnowledgeVersion] = {}

    async def settled(self) -> None:
        """Wait for what runs in the background."""
        await self._probe.settled()

    async def close(self) -> None:
        """End what runs in the background. Before the store's pool is closed."""
        await self._probe.close()

    async def search(
        self, request: SearchRequest, *, arm: str | None = None, legs: Legs = "both"
    ) -> SearchResult:
        """The best chunks for a question. `arm` labels the metrics; `legs` leaves one out, to compare."""
        require_searchable(request)
        filters = filter_tree(request.filters)
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
            deadline = time.monotonic() + request.timeout_s
            try:
                async with asyncio.timeout(request.timeout_s):
                    asked = Asked(
                        request=request,
                        question=request.question,
                        filters=filters,
                        version=await self._version(request.version),
                        legs=legs,
                        deadline=deadline,
                        labels={key: value for key, value in labels.items() if key != telemetry.OPERATION},
                    )
                    result = await self._search(asked)
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

    async def candidates(self, request: SearchRequest) -> Found:
        """Every candidate of a search with both exact scores, in fused order: what a weight is fitted on."""
        require_searchable(request)
        asked = Asked(
            request=request,
            question=request.question,
            filters=filter_tree(request.filters),
            version=await self._version(request.version),
            legs="both",
            deadline=time.monotonic() + request.timeout_s,
            labels={telemetry.KNOWLEDGE_VERSION: request.version},
        )
        asked, _ = await self._restated(asked)
        vector, _ = await self._embed(asked)
        return await self._store.search(
            request.access,
            version=asked.version.id,
            question=asked.question,
            embedding=vector,
            k=2 * CANDIDATES,
            filters=asked.filters,
            exclude_documents=request.exclude_documents,
            as_of=request.as_of,
            effective_on=request.effective_on,
            timeout_s=asked.left_s,
            candidates=CANDIDATES,
        )

    async def _search(self, asked: Asked) -> SearchResult:
        """The stages in their order."""
        request, version = asked.request, asked.version
        asked, restated = await self._restated(asked)
        vector, embed_s = await self._embed(asked)
        found, search_s = await self._find(asked, vector)
        ordered = await self._rerank.order(
            version,
            asked.question,
            found.hits,
            k=max(request.k, LOOKED_AT),
            deadline=asked.deadline,
            labels=asked.labels,
        )
        judged = judge(asked.question, ordered.hits, found, version)
        stages = {
            "rewrite": restated.seconds,
            "embed": embed_s,
            "search": search_s,
            "rerank": ordered.seconds,
        }
        return SearchResult(
            hits=ordered.hits[: request.k],
            version=version.id,
            snapshot=found.snapshot,
            confidence=judged.confidence,
            abstain_below=judged.abstain_below,
            mode=found.mode,
            candidates=found.candidates,
            underfilled=len(ordered.hits) < request.k,
            degraded=restated.degraded + ordered.degraded,
            timings_ms={name: value * 1000 for name, value in stages.items() if value is not None},
            calibration=judged.calibration,
            features=judged.features,
            rewritten=restated.rewritten,
        )

    async def _restated(self, asked: Asked) -> tuple[Asked, Restated]:
        restated = await self._rewrite.restate(
            asked.version, asked.request, deadline=asked.deadline, labels=asked.labels
        )
        return replace(asked, question=restated.question), restated

    async def _embed(self, asked: Asked) -> tuple[Vector, float]:
        version = asked.version
        embedder = self._embedders.get(version.embedder)
        if embedder is None:
            raise EmbedderMismatchError(
                f"version: {version.id} needs embedder {version.embedder}; "
                f"at hand: {', '.join(self._embedders) or 'none'}"
            )
        with telemetry.measured(
            f"embeddings {embedder.id}",
            telemetry.operation_duration,
            labels={
                telemetry.OPERATION: "embeddings",
                telemetry.REQUEST_MODEL: embedder.id,
                **asked.labels,
            },
            attributes={telemetry.EMBEDDING_DIMENSIONS: embedder.dims},
            stage="embed",
        ) as stage:
            vector = await embedder.embed_query(asked.question)
        return vector, stage.seconds

    async def _find(self, asked: Asked, vector: Vector) -> tuple[Found, float]:
        request = asked.request
        with telemetry.measured(
            telemetry.QUERY_SPAN,
            telemetry.query_duration,
            labels={**telemetry.DB, **asked.labels},
            stage="search",
        ) as stage:
            found = await self._store.search(
                request.access,
                version=asked.version.id,
                question=asked.question,
                embedding=vector,
                k=self._rerank.wanted(asked.version, max(request.k, LOOKED_AT)),
                filters=asked.filters,
                exclude_documents=request.exclude_documents,
                as_of=request.as_of,
                effective_on=request.effective_on,
                timeout_s=asked.left_s,
                legs=asked.legs,
            )
            stage.note({telemetry.MODE: found.mode, telemetry.CANDIDATES: found.candidates})
        if found.mode.startswith("index+"):
            # What was compared with everything anyway has nothing to lose.
            version_label = {telemetry.KNOWLEDGE_VERSION: asked.version.id}
            self._probe.offer(lambda: self._recall(asked, vector, found.snapshot), version_label)
        return found, stage.seconds

    async def _recall(self, asked: Asked, vector: Vector, snapshot: int) -> float | None:
        """Share of the exact nearest `k` that the vector index proposes, at the snapshot that was read."""
        request = asked.request
        nearest: list[set[int]] = []
        for exact in (False, True):
            found = await self._store.search(
                request.access,
                version=asked.version.id,
                question=asked.question,
                embedding=vector,
                k=request.k,
                filters=asked.filters,
                exclude_documents=request.exclude_documents,
                as_of=snapshot,
                effective_on=request.effective_on,
                timeout_s=PROBE_TIMEOUT_S,
                legs="dense",
                exact=exact,
            )
            nearest.append({hit.chunk_id for hit in found.hits})
        proposed, true = nearest
        return len(proposed & true) / len(true) if true else None

    async def _version(self, version_id: str) -> KnowledgeVersion:
        """A version by id. Its parts are its identity, so what was read once stays true."""
        if version_id not in self._versions:
            self._versions = {version.id: version for version in await self._store.versions()}
        try:
            return self._versions[version_id]
        except KeyError:
            known = ", ".join(self._versions) or "none"
            raise UnknownVersionError(f"version: no index version {version_id}; known: {known}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """How sure a search is, by whose fit, and why."""

    confidence: float
    abstain_below: float
    calibration: str
    features: Mapping[str, float]


def judge(question: str, hits: Sequence[Hit], found: Found, version: KnowledgeVersion) -> Judged:
    """Probability that the hits in their final order hold the answer, 0.0 without any.

    By the tenant's own fit if there is one.
    """
    features = features_of(question, hits, top_dense=found.top_dense, lexical_unit=found.lexical_unit)
    calibration = found.fitted.calibration if found.fitted else version.calibration
    return Judged(
        confidence=calibration.probability(features) if features else 0.0,
        abstain_below=found.fitted.abstain_below if found.fitted else version.abstain_below,
        calibration=found.fitted.name if found.fitted else "default",
        features=features,
    )


def require_searchable(request: SearchRequest) -> None:
    """Refuse what cannot be searched, by the field's name."""
    if not request.question.strip():
        raise RequestError("question: is empty; write what to search for")
    if not is_storable(request.question):
        raise RequestError("question: contains a NUL character or half of a character pair; remove it")
    if not 1 <= request.k <= MAX_K:
        raise RequestError(f"k: {request.k} is not between 1 and {MAX_K}")
    if request.timeout_s <= 0:
        raise RetrievalTimeoutError("timeout_s: no time is left for the search")
