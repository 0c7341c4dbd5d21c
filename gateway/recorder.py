"""Records turns off the path of the question: a bounded queue, batched writes, a spool when the database is
away.

`record` never waits and never fails a request. A turn can be read from the moment it was recorded, whether it
is in the database yet or not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol
from uuid import UUID

from gateway import instruments as names
from gateway.errors import RecordsUnavailableError
from gateway.spool import Spool
from gateway.turns import UnstorableTurnError

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]
_BATCH = 200
#: Time between two tries while the database is away.
_RETRY_S = 1.0


class TurnWriter(Protocol):
    """Where turns end up."""

    async def write(self, rows: Sequence[Row]) -> None: ...


class TurnRecorder:
    """The queue between the requests and the store. Start it with `async with`; leaving flushes."""

    def __init__(
        self, store: TurnWriter, spool: Spool, *, queue_size: int = 2000, flush_s: float = 0.1
    ) -> None:
        self._store = store
        self._spool = spool
        self._queue_size = queue_size
        self._flush_s = flush_s
        self._queue: list[Row] = []
        #: Recorded and not in the database yet: queued, being written or spooled.
        self._pending: dict[UUID, Row] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._worker: asyncio.Task[None] | None = None
        self._closing = False
        self._database_away = False
        self._spooled = not spool.is_empty

    async def __aenter__(self) -> TurnRecorder:
        self._worker = asyncio.create_task(self._work(), name="turn-recorder")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        self._wake.set()
        if self._worker is not None:
            with suppress(asyncio.CancelledError):
                await self._worker

    @property
    def waiting(self) -> int:
        """Turns that are not in the database yet."""
        return len(self._pending)

    def record(self, row: Row) -> None:
        """Take a finished turn."""
        self._pending[UUID(row["id"])] = row
        names.turns_pending.add(1)
        if (
            len(self._pending) > 2 * self._queue_size
        ):  # the oldest are in the spool; only reading them early ends
            self._forget([next(iter(self._pending.values()))])
        self._queue.append(row)
        self._idle.clear()
        self._wake.set()

    def pending(self, turn_id: UUID) -> Row | None:
        """A turn that is not in the database yet."""
        return self._pending.get(turn_id)

    def pending_of(self, tenant: str) -> list[Row]:
        """The tenant's turns that are not in the database yet, newest first."""
        return [row for row in reversed(self._pending.values()) if row["tenant"] == tenant]

    async def flushed(self) -> None:
        """Wait until nothing is queued (in the database or in the spool)."""
        await self._idle.wait()

    async def _work(self) -> None:
        """Rounds until the recorder closes; an error that nobody thought of ends its round and no more."""
        while True:
            try:
                if await self._round():
                    return
            except Exception:
                logger.exception("recording failed, going on", extra={"action": "record_failed"})
                if self._closing:
                    return
                self._wake.set()
                await asyncio.sleep(_RETRY_S)

    async def _round(self) -> bool:
        """Write what is queued and replay what is spooled; whether that was the last round."""
        timeout = _RETRY_S if self._spooled else None
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._wake.wait()
        if not self._closing and self._queue:
            await asyncio.sleep(self._flush_s / 2)  # let a batch gather
        self._wake.clear()
        while self._queue:
            batch, self._queue = self._queue[:_BATCH], self._queue[_BATCH:]
            await self._write(batch)
        if self._spooled:
            await self._replay()
        if self._queue:
            return False
        self._idle.set()
        return self._closing

    async def _write(self, batch: Sequence[Row]) -> None:
        # While the database is known to be away only the replay asks it, so that a queue does not pile up
        # behind
        # connection timeouts; too long a queue goes to the spool at once for the same reason.
        if not self._database_away and len(self._queue) <= self._queue_size:
            try:
                await self._store.write(batch)
            except RecordsUnavailableError:
                self._database_away = True
                logger.warning("database away, turns go to the spool", extra={"action": "spool_begin"})
            except UnstorableTurnError:
                await self._write_one_by_one(batch)
                return
            except Exception:
                logger.exception("turns not written", extra={"action": "spool_begin"})
            else:
                self._forget(batch)
                return
        await self._to_spool(batch)

    async def _write_one_by_one(self, batch: Sequence[Row]) -> None:
        for row in batch:
            try:
                await self._store.write([row])
            except RecordsUnavailableError:
                await self._to_spool([row])
                continue
            except Exception as exc:
                logger.exception(
                    "turn refused by the database", extra={"action": "turn_refused", "turn": row["id"]}
                )
                await self._keep_refused(row, str(exc))
            self._forget([row])

    async def _keep_refused(self, row: Row, reason: str) -> None:
        try:
            await asyncio.to_thread(self._spool.refuse, row, reason)
        except OSError:
            logger.exception("refused turn not kept", extra={"action": "turn_lost", "turn": row["id"]})

    async def _to_spool(self, batch: Sequence[Row]) -> None:
        try:
            await asyncio.to_thread(self._spool.append, batch)
        except OSError:
            # Neither database nor disk: keep them in memory and try again, oldest first.
            logger.exception("spool not writable", extra={"action": "spool_failed", "turns": len(batch)})
            if self._closing:
                logger.critical(  # the trace was logged a line above
                    "turns lost", extra={"action": "turn_lost", "turns": [row["id"] for row in batch]}
                )
                return
            self._queue[:0] = batch
            await asyncio.sleep(_RETRY_S)
            self._database_away = False
            return
        except (TypeError, ValueError):
            await self._spool_one_by_one(batch)
            return
        names.turns_spooled.add(len(batch))
        self._spooled = True

    async def _spool_one_by_one(self, batch: Sequence[Row]) -> None:
        """A turn that cannot even be written as JSON is lost; the others are not."""
        for row in batch:
            try:
                await asyncio.to_thread(self._spool.append, [row])
            except (TypeError, ValueError):
                logger.exception("turn not kept", extra={"action": "turn_lost", "turn": row["id"]})
                self._forget([row])
            else:
                names.turns_spooled.add(1)
                self._spooled = True

    async def _replay(self) -> None:
        rows = await asyncio.to_thread(self._spool.take)
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            try:
                await self._store.write(batch)
            except RecordsUnavailableError:
                return
            except Exception:  # one by one, so that a turn that cannot be written holds up no other
                logger.exception("turns not replayed", extra={"action": "replay_failed"})
                await self._write_one_by_one(batch)
            self._forget(batch)
        await asyncio.to_thread(self._spool.done)
        self._database_away = False
        self._spooled = not self._spool.is_empty
        if rows:
            logger.info("spool replayed", extra={"action": "spool_replayed", "turns": len(rows)})

    def _forget(self, batch: Sequence[Row]) -> None:
        known = [self._pending.pop(UUID(row["id"]), None) is not None for row in batch]
        names.turns_pending.add(-sum(known))
