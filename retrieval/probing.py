"""Recall of the vector index, on a sampled share of real searches: what it proposed beside an exact scan.

An index that loses neighbours answers as quickly as ever and nobody sees it. A probe runs after the answer is
out, one at a time, and takes a small share of the time at most, however long an exact scan lasts.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping

from retrieval import instruments as telemetry
from retrieval.errors import RetrievalError

logger = logging.getLogger(__name__)

#: Seconds that one probe may take in all.
TIMEOUT_S = 10.0
#: Pause after a probe, in durations of it: probes take a twentieth of the time at most.
PAUSES = 19.0

#: Recall of one search, 0 to 1; None where there is nothing to compare.
Measure = Callable[[], Awaitable[float | None]]


class RecallProbe:
    """Samples searches. `close` ends one that runs."""

    def __init__(
        self,
        share: float,
        *,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._share = share
        self._draw = draw
        self._clock = clock
        self._not_before = 0.0
        self._running: asyncio.Task[None] | None = None

    def offer(self, measure: Measure, labels: Mapping[str, str]) -> None:
        """Maybe measure a search that has just been answered. Returns at once."""
        if self._running or self._draw() >= self._share or self._clock() < self._not_before:
            return
        self._running = asyncio.create_task(self._measure(measure, labels), name="recall probe")

    async def settled(self) -> None:
        """Wait for a probe that runs."""
        if self._running:
            await asyncio.wait([self._running])

    async def close(self) -> None:
        """End a probe that runs."""
        if self._running:
            self._running.cancel()
            await self.settled()

    async def _measure(self, measure: Measure, labels: Mapping[str, str]) -> None:
        began = self._clock()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                recall = await measure()
            if recall is not None:
                telemetry.recall_probe.record(recall, labels)
        except (TimeoutError, RetrievalError) as exc:
            logger.info("no recall probe: %s", type(exc).__name__, extra={"action": "recall_probe"})
        finally:
            self._not_before = self._clock() + PAUSES * (self._clock() - began)
            self._running = None
