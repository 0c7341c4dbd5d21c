"""`ingest --watch`: publish a source again whenever it changes, until told to stop.

Nothing that passes ends it: unreadable files stay as they were published, a database that restarts is waited
for, and a change that was refused is said and waits for the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from watchfiles import awatch

from deploy.errors import DeployError, UsageError
from retrieval.errors import RetrievalError
from retrieval.ingest_report import IngestReport

#: Quiet time after which a burst of changes counts as over, and the longest burst.
QUIET_MS, BURST_MS = 400, 5_000
#: Looked at again without any change: folders that come over a network announce none.
ANYWAY_S = 300.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0

Sync = Callable[[], Awaitable[IngestReport]]


class Watch:
    """Keeps a source published."""

    def __init__(
        self,
        source: Path,
        open_sync: Callable[[], AbstractAsyncContextManager[Sync]],
        *,
        interval_s: float | None,
        on_report: Callable[[IngestReport], None],
        say: Callable[[str], None],
    ) -> None:
        self._source = source
        self._open_sync = open_sync
        #: Look at this rhythm instead of waiting to be told of changes.
        self._interval_s = interval_s
        self._on_report = on_report
        self._say = say
        self._snapshot: int | None = None
        self._failures: tuple[str, ...] = ()

    async def run(self) -> None:
        """Until cancelled."""
        changed = asyncio.Event()
        pause_s = FIRST_PAUSE_S
        async with self._noticing(changed):
            while True:
                try:
                    async with self._open_sync() as sync:
                        while True:
                            changed.clear()
                            if await self._sync(sync):
                                pause_s = FIRST_PAUSE_S
                            with contextlib.suppress(TimeoutError):
                                await asyncio.wait_for(changed.wait(), self._interval_s or ANYWAY_S)
                except UsageError:
                    raise  # the same command line will not be right later
                except (RetrievalError, DeployError, OSError) as exc:
                    self._say(f"{_line(exc)}; trying again in {pause_s:g} s")
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _sync(self, sync: Sync) -> bool:
        """One run; raises what trying again may mend. A refusal waits for the source to change."""
        try:
            report = await sync()
        except RetrievalError as exc:
            if exc.retryable:
                raise
            self._say(f"not published: {_line(exc)}; waiting for the source to change")
            return False
        failures = tuple(str(failure) for failure in report.failures)
        if failures != self._failures:
            for failure in failures:
                self._say(f"left out {failure}")
        if report.snapshot != self._snapshot or report.access_changed:
            self._on_report(report)
        self._snapshot, self._failures = report.snapshot, failures
        return True

    @asynccontextmanager
    async def _noticing(self, changed: asyncio.Event) -> AsyncIterator[None]:
        if self._interval_s is not None:
            yield
            return
        noticing = asyncio.create_task(self._notice(changed), name="notice changes")
        try:
            yield
        finally:
            noticing.cancel()
            await asyncio.wait([noticing])

    async def _notice(self, changed: asyncio.Event) -> None:
        while True:
            try:
                async for _ in awatch(self._source, debounce=BURST_MS, step=QUIET_MS, recursive=True):
                    changed.set()
            except OSError as exc:
                self._say(f"cannot watch {self._source} ({exc}); looking every {ANYWAY_S:g} s")
            await asyncio.sleep(ANYWAY_S)
            changed.set()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
