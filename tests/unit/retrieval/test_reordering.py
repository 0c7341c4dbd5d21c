"""The reranking stage: its order, its deadline, and what happens without a reranker."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

import pytest

from retrieval.errors import RerankerUnavailableError
from retrieval.hits import Hit
from retrieval.reordering import RERANKED, RerankStage, blended, passage_of
from retrieval.versions import KnowledgeVersion

VERSION = KnowledgeVersion.make(
    name="any", embedder="any", dims=3, reranker="reads-length", rerank_weight=1.0
)


class LengthReranker:
    """The longer the passage, the better."""

    id = "reads-length"

    def __init__(self, *, stall: bool = False, error: Exception | None = None, extra: int = 0) -> None:
        self.seen: list[str] = []
        self._stall = stall
        self._error = error
        self._extra = extra

    async def scores(self, question: str, passages: Sequence[str]) -> list[float]:
        self.seen = list(passages)
        if self._stall:
            await asyncio.Event().wait()
        if self._error:
            raise self._error
        return [len(passage) / 100 for passage in passages] + [0.0] * self._extra


def hits(count: int) -> tuple[Hit, ...]:
    return tuple(
        Hit(
            rank=number + 1,
            chunk_id=number,
            document_id=f"d{number}",
            document_version=1,
            title="",
            url="",
            heading_path=(),
            text="x" * (number + 1),
            start=0,
            end=number + 1,
            score=1 - number / 100,
            dense_score=0.5,
            lexical_score=0.0,
            effective_from=None,
            effective_to=None,
            metadata={},
        )
        for number in range(count)
    )


async def test_the_best_of_the_pool_come_first_with_their_logits() -> None:
    reranker = LengthReranker()
    stage = RerankStage({reranker.id: reranker}, timeout_s=5)
    assert (stage.wanted(VERSION, 3), stage.wanted(VERSION, 50)) == (RERANKED, 50)
    result = await stage.order(VERSION, "q", hits(25), k=22, deadline=time.monotonic() + 5, labels={})
    assert [hit.chunk_id for hit in result.hits] == [*range(19, -1, -1), 20, 21]
    assert [hit.rank for hit in result.hits] == list(range(1, 23))
    assert result.hits[0].rerank_score == pytest.approx(0.2)
    assert result.hits[20].rerank_score is None
    assert (len(reranker.seen), result.degraded, result.seconds is None) == (RERANKED, (), False)


@pytest.mark.parametrize(
    ("reranker", "left_s"),
    [
        (LengthReranker(stall=True), 5.0),
        (LengthReranker(error=RerankerUnavailableError()), 5.0),
        (LengthReranker(extra=1), 5.0),
        (LengthReranker(), 0.01),
        (None, 5.0),
    ],
    ids=["too slow", "away", "wrong count", "no time left", "not at hand"],
)
async def test_without_an_answer_the_fused_order_stands_and_is_marked(
    reranker: LengthReranker | None, left_s: float
) -> None:
    stage = RerankStage({reranker.id: reranker} if reranker else {}, timeout_s=0.05)
    found = hits(6)
    result = await stage.order(VERSION, "q", found, k=4, deadline=time.monotonic() + left_s, labels={})
    assert (result.hits, result.degraded) == (found[:4], ("rerank",))


async def test_a_version_without_a_reranker_is_as_it_was() -> None:
    plain = KnowledgeVersion.make(name="any", embedder="any", dims=3)
    stage = RerankStage({"reads-length": LengthReranker()}, timeout_s=5)
    result = await stage.order(plain, "q", hits(6), k=4, deadline=time.monotonic() + 5, labels={})
    assert (result.hits, result.degraded, result.seconds, stage.wanted(plain, 4)) == (hits(4), (), None, 4)


async def test_a_missing_reranker_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    stage = RerankStage({}, timeout_s=5)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await stage.order(VERSION, "q", hits(2), k=2, deadline=time.monotonic() + 5, labels={})
    assert [record.getMessage().count("reads-length") for record in caplog.records] == [1]


def test_blending_keeps_the_fused_order_at_weight_zero_and_among_equals() -> None:
    found = hits(4)
    assert [hit.chunk_id for hit in blended(found, [0, 1, 2, 3], weight=0.0)] == [0, 1, 2, 3]
    assert [hit.chunk_id for hit in blended(found, [0, 1, 1, 0], weight=1.0)] == [1, 2, 0, 3]


def test_a_passage_is_what_was_embedded() -> None:
    (hit,) = hits(1)
    assert passage_of(hit) == "x"
