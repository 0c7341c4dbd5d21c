"""Metrics of what stands in the database: read again and again, and shown as they were read.

Times, not ages: those stay true, and get old, while the database is away. That is what the alarms look at.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from retrieval import instruments as telemetry
from retrieval.errors import RetrievalError
from retrieval.freshness import Lender, oldest_syncs
from retrieval.jobs import JobKind, JobStore, QueueState

logger = logging.getLogger(__name__)

#: How often they are renewed: alarms think in minutes and hours.
WATCH_S = 60.0


class Gauges(Protocol):
    """Some metrics that are read together."""

    async def show(self) -> None:
        """Read and show them now."""


@asynccontextmanager
async def watched(*gauges: Gauges, every_s: float = WATCH_S) -> AsyncIterator[None]:
    """Show them again and again within the block."""
    task = asyncio.create_task(_watch(gauges, every_s), name="gauges")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _watch(gauges: tuple[Gauges, ...], every_s: float) -> None:
    while True:
        for each in gauges:
            try:
                await each.show()
            except RetrievalError as exc:
                logger.info("%s not read: %s", type(each).__name__, exc, extra={"action": "gauges_unread"})
        await asyncio.sleep(every_s)


class SyncGauges:
    """The oldest look at each source, and by when another one is due."""

    def __init__(self, store: Lender) -> None:
        self._store = store

    async def show(self) -> None:
        """Read and show them now; a source that is gone, or no longer due, is shown no longer."""
        syncs = await oldest_syncs(self._store)
        telemetry.last_sync.show(
            [(sync.checked_at.timestamp(), {telemetry.SOURCE: sync.source}) for sync in syncs]
        )
        telemetry.sync_due.show(
            [(sync.due_at.timestamp(), {telemetry.SOURCE: sync.source}) for sync in syncs if sync.due_at]
        )


class JobGauges:
    """Jobs that have not ended well, since when the oldest waits, and the workers that there are."""

    def __init__(self, jobs: JobStore) -> None:
        self._jobs = jobs

    async def show(self) -> None:
        """Read and show them now. Every kind in every state: no such job is a zero and not a gap."""
        queue = await self._jobs.queue()
        telemetry.jobs.show(
            [
                (queue.jobs.get((kind, state), 0), {telemetry.JOB_KIND: kind, telemetry.JOB_STATE: state})
                for kind in JobKind
                for state in QueueState
            ]
        )
        telemetry.jobs_waiting.show(
            [(since.timestamp(), {telemetry.JOB_STATE: state}) for state, since in queue.waits_since.items()]
        )
        telemetry.job_workers.show([(queue.workers, {})])
