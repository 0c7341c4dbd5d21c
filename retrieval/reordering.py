"""The reranking stage of a search: the best fused hits, read again with the question while time is left."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from retrieval import instruments as telemetry
from retrieval.errors import RetrievalError
from retrieval.hits import Hit
from retrieval.reranking import Reranker, blend
from retrieval.versions import KnowledgeVersion

logger = logging.getLogger(__name__)

#: Hits that are read again. More make rerankers worse, not only slower (arXiv 2411.11767).
RERANKED = 20
#: Seconds left to whoever waits for the search, to pack and send what was found.
MARGIN_S = 0.05
DEGRADED = "rerank"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reordered:
    """Hits in their final order. `seconds` is None where no reranker was asked."""

    hits: tuple[Hit, ...]
    seconds: float | None = None
    degraded: tuple[str, ...] = ()


class RerankStage:
    """Asks the reranker that a version names; without an answer in time the fused order stands, marked."""

    def __init__(self, rerankers: Mapping[str, Reranker], *, timeout_s: float) -> None:
        self._rerankers = dict(rerankers)
        self._timeout_s = timeout_s
        self._missed: set[str] = set()

    def wanted(self, version: KnowledgeVersion, k: int) -> int:
        """How many fused hits to fetch so that `k` come out."""
        return max(k, RERANKED) if self._reranker(version) else k

    async def order(
        self,
        version: KnowledgeVersion,
        question: str,
        hits: Sequence[Hit],
        *,
        k: int,
        deadline: float,
        labels: Mapping[str, str],
    ) -> Reordered:
        """The best `k` of the hits. `deadline` is of `time.monotonic`."""
        fused = tuple(hits[:k])
        if not version.reranker or not hits:
            return Reordered(hits=fused)
        reranker = self._reranker(version)
        left_s = min(self._timeout_s, deadline - time.monotonic() - MARGIN_S)
        if reranker is None or left_s <= 0:
            return Reordered(hits=fused, degraded=(DEGRADED,))
        pool = hits[:RERANKED]
        with telemetry.measured(
            f"rerank {reranker.id}",
            telemetry.operation_duration,
            labels={telemetry.OPERATION: "rerank", telemetry.REQUEST_MODEL: reranker.id, **labels},
            attributes={telemetry.CANDIDATES: len(pool)},
            stage="rerank",
        ) as stage:
            try:
                async with asyncio.timeout(left_s):
                    logits = await reranker.scores(question, [passage_of(hit) for hit in pool])
            except (TimeoutError, RetrievalError) as exc:
                # An order that is there already needs no error, but the span should say why it stayed.
                stage.note({telemetry.ERROR_TYPE: type(exc).__name__})
                logits = None
        if logits is None or len(logits) != len(pool) or not all(map(math.isfinite, logits)):
            return Reordered(hits=fused, seconds=stage.seconds, degraded=(DEGRADED,))
        ordered = blended(pool, logits, weight=version.rerank_weight) + tuple(hits[RERANKED:])
        best = tuple(replace(hit, rank=rank) for rank, hit in enumerate(ordered[:k], start=1))
        return Reordered(hits=best, seconds=stage.seconds)

    def _reranker(self, version: KnowledgeVersion) -> Reranker | None:
        if not version.reranker:
            return None
        reranker = self._rerankers.get(version.reranker)
        if reranker is None and version.id not in self._missed:
            self._missed.add(version.id)
            logger.warning(
                "index version %s names reranker %s, not at hand (%s): searches keep the fused order",
                version.id,
                version.reranker,
                ", ".join(self._rerankers) or "none is",
                extra={"action": "rerank"},
            )
        return reranker


def passage_of(hit: Hit) -> str:
    """A hit as the reranker reads it: as the chunk was embedded, with title and headings."""
    return "\n".join(part for part in (hit.title, " > ".join(hit.heading_path), hit.text) if part)


def blended(hits: Sequence[Hit], logits: Sequence[float], *, weight: float) -> tuple[Hit, ...]:
    """Hits by the blend of both scores, the best first; equals stay in the fused order."""
    final = blend([hit.score for hit in hits], logits, weight)
    judged = [replace(hit, rerank_score=logit) for hit, logit in zip(hits, logits, strict=True)]
    return tuple(judged[place] for place in sorted(range(len(judged)), key=lambda place: -final[place]))
