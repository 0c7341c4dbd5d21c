"""The shadow of the knowledge rail: a sampled share of the stable arm's searches, repeated on a version
that only watches.

A repetition begins after the served search has its result, one at a time and out of a short queue; what finds
the queue full is dropped and counted. So no answer waits for it, and none fails with it. It reads the same
snapshot with the same filters and the principals of the key, has the whole time of a search (a shadow that is
hurried would skip its reranker), and is restated by its own version's rewriter. Its trace is its own, with a
link to the served one.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, Status, StatusCode

from gateway import instruments as names
from gateway.rails import Searcher
from gateway.rollouts.assignment import Arm
from gateway.rollouts.live import LiveRails
from retrieval.errors import RetrievalError
from retrieval.hits import SearchRequest, SearchResult

logger = logging.getLogger(__name__)

#: Searches that may wait for the shadow.
QUEUED: Final = 16


class Outcome(StrEnum):
    """What became of a search that was sampled."""

    #: The same document comes first on both.
    AGREED = "agreed"
    #: Another one does, or only one of the two found any.
    DIFFERED = "differed"
    #: Neither found anything: nothing to compare.
    EMPTY = "empty"
    #: A part of either did not work, so the order is not the version's own.
    DEGRADED = "degraded"
    FAILED = "failed"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A served search beside its repetition."""

    outcome: Outcome
    #: Documents that both found, of the longer list; None where there is nothing to compare.
    overlap: float | None = None


def compare(served: SearchResult, repeated: SearchResult) -> Compared:
    """By documents, as `twinrail knowledge compare` does: passages of two chunkers have no common measure."""
    if served.degraded or repeated.degraded:
        return Compared(outcome=Outcome.DEGRADED)
    first, second = (list(dict.fromkeys(hit.document_id for hit in each.hits)) for each in (served, repeated))
    if not first and not second:
        return Compared(outcome=Outcome.EMPTY)
    return Compared(
        outcome=Outcome.AGREED if first[:1] == second[:1] else Outcome.DIFFERED,
        overlap=len(set(first) & set(second)) / max(len(first), len(second)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Repetition:
    """A search that waits for the shadow."""

    request: SearchRequest
    served: SearchResult
    link: Link
    #: Both versions: all that a metric may know.
    labels: Mapping[str, str]


class ShadowedSearcher:
    """A searcher whose answered searches the shadow version may repeat. `close` it before the rail's pool."""

    def __init__(
        self,
        searcher: Searcher,
        live: LiveRails,
        *,
        share: float,
        timeout_s: float,
        queued: int = QUEUED,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._searcher = searcher
        self._live = live
        self._share = share
        self._timeout_s = timeout_s
        self._queued = queued
        self._draw = draw
        self._waiting: deque[_Repetition] = deque()
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    async def search(self, request: SearchRequest, *, arm: str | None = None) -> SearchResult:
        """The served search; what follows it is not waited for."""
        result = await self._searcher.search(request, arm=arm)
        # A date or snapshot of the caller's choice is an evaluation, not traffic.
        if arm == Arm.STABLE and request.as_of is None and request.effective_on is None:
            self._offer(request, result)
        return result

    async def settled(self) -> None:
        """Wait until nothing runs and nothing waits."""
        if self._running:
            await asyncio.wait([self._running])

    async def close(self) -> None:
        """Break off what runs and forget what waits."""
        self._closed = True
        self._waiting.clear()
        if self._running:
            self._running.cancel()
            await self.settled()

    def _offer(self, request: SearchRequest, served: SearchResult) -> None:
        """Maybe queue a repetition. Never waits: the pointer is the one that has just assigned the search."""
        pointer = self._live.knowledge_pointer.known
        shadow = pointer.shadow if pointer else None
        if shadow is None or shadow == served.version or self._closed or self._draw() >= self._share:
            return
        labels = {names.KNOWLEDGE_VERSION: shadow, names.SERVED_VERSION: served.version}
        if len(self._waiting) >= self._queued:
            names.shadow_searches.add(1, {**labels, names.SHADOW_OUTCOME: Outcome.DROPPED.value})
            return
        self._waiting.append(
            _Repetition(
                request=replace(request, version=shadow, as_of=served.snapshot, timeout_s=self._timeout_s),
                served=served,
                link=Link(trace.get_current_span().get_span_context()),
                labels=labels,
            )
        )
        if self._running is None:
            self._running = asyncio.create_task(self._work(), name="shadow searches")

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._repeat(self._waiting.popleft())
        finally:
            self._running = None

    async def _repeat(self, repetition: _Repetition) -> None:
        labels = repetition.labels
        with names.tracer.start_as_current_span(
            names.SHADOW_SPAN,
            context=Context(),  # a trace of its own: users wait for none of it
            links=[repetition.link],
            attributes={**labels, names.KNOWLEDGE_ARM: Arm.SHADOW.value},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            compared = await self._compared(repetition, span)
            span.set_attribute(names.SHADOW_OUTCOME, compared.outcome.value)
            if compared.overlap is not None:
                names.shadow_overlap.record(compared.overlap, labels)
            names.shadow_searches.add(1, {**labels, names.SHADOW_OUTCOME: compared.outcome.value})

    async def _compared(self, repetition: _Repetition, span: Span) -> Compared:
        try:
            async with asyncio.timeout(self._timeout_s + 0.2):
                repeated = await self._searcher.search(repetition.request, arm=Arm.SHADOW.value)
        except Exception as exc:  # the boundary of the shadow: whatever it is, nobody else has it
            span.set_attribute(names.ERROR_TYPE, type(exc).__name__)
            span.set_status(Status(StatusCode.ERROR))
            expected = isinstance(exc, (RetrievalError, TimeoutError))
            logger.log(
                logging.INFO if expected else logging.ERROR,
                "shadow search failed: %s",
                type(exc).__name__,
                exc_info=not expected,
                extra={"action": "shadow_search"},
            )
            return Compared(outcome=Outcome.FAILED)
        return compare(repetition.served, repeated)
