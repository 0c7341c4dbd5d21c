"""Keeps a gateway's pool of engines up to date with what is announced, wanted and shown.

Reads the tables of the engines about once a second. While they cannot be read, what was read last stays (fail
static): losing the database must not take engines away.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from serving.errors import RegistryError
from serving.planning import lacks_of
from serving.pool import Admissions, EnginePool, base_url
from serving.prober import Probed, Prober
from serving.reconciling import ModelVersions
from serving.replicas import Fleet, Lack, ReplicaStore
from serving.versions import RegisteredVersion

logger = logging.getLogger(__name__)

#: How often engines that are given by settings are announced again; `forget_after_s` is several of these.
ANNOUNCE_S = 10.0
#: Who waits for news has a question to answer.
NEWS_TIMEOUT_S = 0.5
#: A database that neither answers nor refuses counts as away after this.
SILENT_S = 3.0


class Roster:
    """Which engines there are, and why a version may not be routed to yet."""

    def __init__(
        self,
        store: ReplicaStore,
        registry: ModelVersions,
        pool: EnginePool,
        prober: Prober,
        *,
        given: Sequence[str] = (),
        every_s: float = 1.0,
        wake: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._registry = registry
        self._pool = pool
        self._given = tuple(base_url(url) for url in given)
        self._every_s = every_s
        self._prober = prober
        self._wake = wake
        self._clock = clock
        self._announcer = f"gateway {socket.gethostname()} {os.getpid()}"
        self._announced_at = float("-inf")
        self._read_at = float("-inf")
        self._names: dict[str, str] = {}
        self._reading: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the pool up to date within the block; the first reading is over when it begins."""
        await self.refresh()
        self._pool.on_miss = self.news
        task = asyncio.create_task(self._run(), name="engine roster")
        try:
            yield
        finally:
            self._pool.on_miss = None
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def refresh(self) -> None:
        """Read now; raises RegistryError."""
        if self._given and self._clock() - self._announced_at >= ANNOUNCE_S:
            # Another gateway may have announced them too: an engine is gone when nobody names it any more.
            await self._store.announce(dict.fromkeys(self._given), by=self._announcer, others_too=True)
            self._announced_at = self._clock()
        fleet = await self._store.fleet()
        await self._learn_names(fleet)
        self._pool.use([replica.url for replica in fleet.replicas])
        self._pool.admit(self._admissions(fleet))
        self._read_at = self._clock()

    async def news(self) -> None:
        """Read again, once for all who ask at the same time; what cannot be read changes nothing."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._quietly())
        await asyncio.wait([self._reading], timeout=NEWS_TIMEOUT_S)
        if self._clock() - self._read_at > SILENT_S:
            self._pool.admit(None)

    async def fleet(self) -> Fleet:
        """All engines and what they hold, read now."""
        return await self._store.fleet()

    async def lacks(self, version: RegisteredVersion) -> list[Lack]:
        """Why the version may not be routed to yet, engine by engine; empty: it may."""
        return lacks_of(version, await self._store.fleet())

    async def stage(self, version_id: str, *, by: str) -> None:
        """Have engines hold the version before it is an arm."""
        await self._store.stage(version_id, by=by)
        self._wake()

    async def unstage(self, version_id: str) -> None:
        """Take it back; an arm is held all the same."""
        await self._store.unstage(version_id)
        self._wake()

    async def probe(self, version: RegisteredVersion) -> list[Probed]:
        """Probe the version on every live engine that lists it, now."""
        return await self._prober.probe_all(version, await self._store.fleet())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self.news()

    async def _quietly(self) -> None:
        try:
            await self.refresh()
        except RegistryError as exc:
            self._pool.admit(None)
            logger.info("engines not read: %s", exc, extra={"action": "roster_unread"})
        except Exception:  # a defect in one reading must not end the loop
            self._pool.admit(None)
            logger.exception("engines not read", extra={"action": "roster_unread"})

    async def _learn_names(self, fleet: Fleet) -> None:
        """A version's served name never changes. One whose row was damaged since keeps its name, so that it
        is routable only where it is still shown, and nobody shows it."""
        if any(wanted.version not in self._names for wanted in fleet.wanted):
            self._names |= {each.id: each.served_name for each in await self._registry.versions()}

    def _admissions(self, fleet: Fleet) -> Admissions:
        managed = {self._names[each.version] for each in fleet.wanted if each.version in self._names}
        shown: dict[str, set[str]] = {replica.url: set() for replica in fleet.replicas}
        lives = {replica.url: replica.life for replica in fleet.replicas}
        for held in fleet.holdings:
            if held.state == "probed" and held.life == lives.get(held.url) and held.version in self._names:
                shown[held.url].add(self._names[held.version])
        return Admissions(
            managed=frozenset(managed),
            shown={url: frozenset(names) for url, names in shown.items()},
            leaving=frozenset(replica.url for replica in fleet.replicas if replica.leaving),
            looks={replica.url: replica.looks for replica in fleet.replicas},
        )
