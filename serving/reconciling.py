"""Makes each engine hold what the registry wants, and keeps in PostgreSQL how far that is shown.

One gateway of several reconciles, by a lease; every step is idempotent all the same, so two that do it at
once for a moment do no harm. A step that fails is tried again with growing pauses, and its reason is kept
where operators see it. Nothing is ever replaced in place: vLLM keys its prefix cache by the adapter's name.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import aiohttp

from serving import instruments
from serving.adapters import AdapterLoader, EngineLook, ListedModel, look_at
from serving.errors import (
    AdapterError,
    AdapterExistsError,
    AdapterNotFoundError,
    EngineError,
    RegistryError,
    ServingError,
)
from serving.planning import Action, Step, lacks_of, plan
from serving.prober import Prober
from serving.replicas import Fleet, Holding, HoldingState, Replica, ReplicaStore
from serving.shelf import AdapterShelf
from serving.versions import RegisteredVersion

logger = logging.getLogger(__name__)


class ModelVersions(Protocol):
    """What is registered."""

    async def versions(self) -> list[RegisteredVersion]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilerLimits:
    """How often, and how patiently."""

    every_s: float = 1.0
    #: Somebody else takes over when the one that reconciles has been silent for this long.
    lease_s: float = 10.0
    first_pause_s: float = 1.0
    longest_pause_s: float = 60.0
    #: How long an adapter stays loaded after the last move away from it.
    evict_after_s: float = 60.0
    #: Before an adapter is loaded again into an engine that was started again: by then every gateway has read
    #: that it is gone there, and sends it nothing until it is probed.
    settle_s: float = 3.0
    #: Engines of announcers that have fallen silent are forgotten.
    forget_after_s: float = 60.0
    probe_timeout_s: float = 120.0


@dataclass(slots=True)
class _Pause:
    """When a step may be tried again."""

    failures: int = 0
    until: float = 0.0


@dataclass(slots=True)
class _Round:
    """What one round works from."""

    fleet: Fleet
    wanted: list[RegisteredVersion]
    known: Mapping[str, RegisteredVersion]
    evictable: frozenset[str]


class Reconciler:
    """The loop. The session, the store and the registry's pool belong to the caller."""

    def __init__(
        self,
        store: ReplicaStore,
        registry: ModelVersions,
        session: aiohttp.ClientSession,
        *,
        shelf: AdapterShelf | None = None,
        headers: Mapping[str, str] | None = None,
        limits: ReconcilerLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._registry = registry
        self._session = session
        self._shelf = shelf
        self._headers = dict(headers or {})
        self._limits = limits or ReconcilerLimits()
        self._prober = Prober(store, session, headers=headers, timeout_s=self._limits.probe_timeout_s)
        self._clock = clock
        self._holder = f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(4)}"
        self._wake = asyncio.Event()
        #: One task an engine: one that hangs holds up no other.
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._pauses: dict[tuple[str, str, Step], _Pause] = {}
        #: Since when a served name is wanted no more.
        self._unwanted_since: dict[str, float] = {}
        self._led_since: float | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Reconcile within the block."""
        task = asyncio.create_task(self._run(), name="reconciler")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await self._stop_tasks()
            with suppress(RegistryError):
                await self._store.resign(self._holder)

    def wake(self) -> None:
        """Look now: something was staged or moved."""
        self._wake.set()

    async def settled(self) -> None:
        """One whole round, with all its steps: for tests and tools."""
        await self._round()
        await asyncio.gather(*self._tasks.values())

    # ---- the loop --------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            try:
                await self._round()
            except RegistryError as exc:
                logger.info("not reconciled: %s", exc, extra={"action": "reconcile_failed"})
                self._led_since = None
            except Exception:  # a defect in one round must not end the loop
                logger.exception("not reconciled", extra={"action": "reconcile_failed"})
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._limits.every_s)
            self._wake.clear()

    async def _round(self) -> None:
        if not await self._store.lead(self._holder, lease_s=self._limits.lease_s):
            self._led_since = None
            await self._stop_tasks()
            instruments.engines_live.show([])
            instruments.replica_versions.show([])
            instruments.unroutable.show([])
            return
        now = self._clock()
        self._led_since = self._led_since if self._led_since is not None else now
        if now - self._led_since > self._limits.forget_after_s:
            # Not before: after an outage of the database everybody is late, and nobody is gone.
            await self._store.expire(self._limits.forget_after_s)
        fleet = await self._store.fleet()
        registered = await self._registry.versions()
        by_id = {version.id: version for version in registered}
        known: dict[str, RegisteredVersion] = {}
        for version in registered:
            known.setdefault(version.served_name, version)
        wanted = [by_id[each.version] for each in fleet.wanted if each.version in by_id]
        self._show(fleet, wanted)
        round_ = _Round(
            fleet=fleet, wanted=wanted, known=known, evictable=self._evictable(wanted, known, now)
        )
        urls = {replica.url for replica in fleet.replicas}
        for url, task in list(self._tasks.items()):
            if task.done() or url not in urls:
                task.cancel()
                del self._tasks[url]
        for replica in fleet.replicas:
            if replica.url not in self._tasks:
                self._tasks[replica.url] = asyncio.create_task(
                    self._keep(replica, round_), name=f"reconcile {replica.url}"
                )

    async def _stop_tasks(self) -> None:
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _evictable(
        self, wanted: list[RegisteredVersion], known: Mapping[str, RegisteredVersion], now: float
    ) -> frozenset[str]:
        """Names of versions that have been wanted no more for long enough. What somebody else's engine calls
        its own adapters is not ours to take out, registered or not."""
        names = {version.served_name for version in wanted}
        for name in names:
            self._unwanted_since.pop(name, None)
        for name in {name for name, version in known.items() if name == version.id} - names:
            self._unwanted_since.setdefault(name, now)
        return frozenset(
            name for name, since in self._unwanted_since.items() if now - since >= self._limits.evict_after_s
        )

    # ---- one engine ------------------------------------------------------------------------------

    async def _keep(self, replica: Replica, round_: _Round) -> None:
        """Look at an engine and do what is due there."""
        try:
            found, models = await self._look(replica, round_)
            if found.life is None:
                return
            holdings = {held.version: held for held in round_.fleet.holdings if held.url == replica.url}
            if any(not each.looks for each in round_.fleet.replicas):
                self.wake()
                return  # one of them may serve as weights of its own what would be loaded here
            merged = {v.served_name for v in round_.wanted if round_.fleet.merged(v.served_name)}
            actions = plan(
                found,
                holdings,
                round_.wanted,
                merged=merged,
                evictable=round_.evictable,
                comparable=await self._comparable(found, holdings, round_),
            )
            for action in actions:
                await self._step(action, found, models, holdings.get(action.version), round_)
        except RegistryError as exc:
            logger.info("%s: not reconciled: %s", replica.url, exc, extra={"action": "reconcile_failed"})
        except Exception:  # the boundary of one engine's task
            logger.exception("%s: not reconciled", replica.url, extra={"action": "reconcile_failed"})

    async def _look(self, replica: Replica, round_: _Round) -> tuple[Replica, Mapping[str, ListedModel]]:
        try:
            look = await look_at(self._session, replica.url, headers=self._headers)
        except EngineError as exc:
            gone = replace(replica, life=None, reason=str(exc), listed=(), adapters=(), bases=(), strange=())
            await self._store.looked(gone)
            return gone, {}
        found = seen(replica, look, round_.known)
        if replica.life is not None and found.life != replica.life:
            logger.warning(
                "%s was started again", replica.url, extra={"action": "engine_restarted", "url": replica.url}
            )
        await self._store.looked(found)
        return found, {model.name: model for model in look.models}

    async def _comparable(
        self, replica: Replica, holdings: Mapping[str, Holding], round_: _Round
    ) -> frozenset[str]:
        """Versions that were not compared with their base when they were probed, and now can be."""
        found = set()
        for version in round_.wanted:
            held = holdings.get(version.id)
            if held is None or held.evidence is None or held.evidence.get("compared") is not False:
                continue
            references = await self._store.references(version.version.base_digest, build=replica.build)
            if any(reference.form == "base" for reference in references):
                found.add(version.id)
        return frozenset(found)

    async def _step(
        self,
        action: Action,
        replica: Replica,
        models: Mapping[str, ListedModel],
        held: Holding | None,
        round_: _Round,
    ) -> None:
        match action.step:
            case Step.RELEASE:
                await self._store.release(replica.url, action.version)
                return
            case Step.EVICT:
                await self._evict(replica, action.version)
                return
        version = next(each for each in round_.wanted if each.id == action.version)
        pause = self._pauses.setdefault((replica.url, version.id, action.step), _Pause())
        same_life = held is not None and held.life == replica.life
        if not same_life:
            pause.failures, pause.until = 0, 0.0
        if self._clock() < pause.until:
            return
        try:
            if action.step is Step.LOAD:
                await self._load(replica, version, held)
            await self._probe(replica, version, models.get(version.served_name))
        except (ServingError, OSError) as exc:
            pause.failures += 1
            pause.until = self._clock() + min(
                self._limits.longest_pause_s, self._limits.first_pause_s * 2 ** (pause.failures - 1)
            )
            # An engine that went away says nothing of the version, and takes nothing back that it has shown.
            gone = isinstance(exc, EngineError)
            again = action.step is Step.PROBE and same_life and held and held.state is HoldingState.PROBED
            if not (gone and again):
                state = HoldingState.WANTED if gone else HoldingState.FAILED
                await self._hold(replica, version, state, str(exc))
            instruments.reconcile_failures.add(1, {instruments.STEP: action.step.value})
            logger.warning(
                "%s: %s: %s", replica.url, version.id, exc, extra={"action": "reconcile_step_failed"}
            )
        else:
            pause.failures, pause.until = 0, 0.0

    async def _load(self, replica: Replica, version: RegisteredVersion, held: Holding | None) -> None:
        if self._shelf is None:
            raise AdapterNotFoundError(
                "not loaded, and this gateway has no adapters to load (SERVING_ADAPTERS_DIR); "
                "load it on that engine, or set the folder"
            )
        folder = await self._shelf.checked(version)
        was_there = held is not None and held.state is HoldingState.PROBED
        await self._hold(replica, version, HoldingState.LOADING)
        if was_there:
            await asyncio.sleep(self._limits.settle_s)
        loader = AdapterLoader(replica.url, self._session, headers=self._headers)
        try:
            await loader.load(version.served_name, folder)
        except AdapterExistsError:
            # Somebody loaded it between our look and now: the probe decides what it is.
            logger.info(
                "%s: %s is loaded already", replica.url, version.id, extra={"action": "adapter_exists"}
            )
        await self._hold(replica, version, HoldingState.LISTED)
        logger.info("%s: %s loaded", replica.url, version.id, extra={"action": "adapter_loaded"})

    async def _evict(self, replica: Replica, name: str) -> None:
        try:
            await AdapterLoader(replica.url, self._session, headers=self._headers).unload(name)
        except AdapterNotFoundError:
            return
        except (AdapterError, EngineError) as exc:
            logger.warning(
                "%s: %s is not taken out: %s", replica.url, name, exc, extra={"action": "evict_failed"}
            )
            return
        logger.info("%s: %s taken out", replica.url, name, extra={"action": "adapter_evicted"})

    async def _probe(self, replica: Replica, version: RegisteredVersion, model: ListedModel | None) -> None:
        if model is None:
            # Loaded a moment ago: the list says on what it sits.
            look = await look_at(self._session, replica.url, headers=self._headers)
            model = next((each for each in look.models if each.name == version.served_name), None)
        if model is None:
            raise AdapterError("the engine answered that it was loaded, and does not list it")
        if self._shelf is not None and model.parent is not None:
            await self._shelf.require_same(version, model.root)
        result = await self._prober.probe(replica, version, model)
        if not result.passed:
            await self._hold(replica, version, HoldingState.FAILED, result.reason, result.evidence)
            pause = self._pauses[(replica.url, version.id, Step.PROBE)] = _Pause(
                until=self._clock() + self._limits.longest_pause_s
            )
            pause.failures = 1
            logger.error(
                "%s: %s: %s", replica.url, version.id, result.reason, extra={"action": "probe_failed"}
            )
            return
        await self._hold(replica, version, HoldingState.PROBED, result.reason, result.evidence)

    async def _hold(
        self,
        replica: Replica,
        version: RegisteredVersion,
        state: HoldingState,
        reason: str = "",
        evidence: Mapping[str, Any] | None = None,
    ) -> None:
        await self._store.hold(
            Holding(
                url=replica.url,
                version=version.id,
                state=state,
                reason=reason,
                life=replica.life or "",
                evidence=evidence,
            )
        )

    @staticmethod
    def _show(fleet: Fleet, wanted: list[RegisteredVersion]) -> None:
        """The metrics: how many engines show each wanted version, and whether it may be routed to."""
        live = [replica for replica in fleet.replicas if replica.is_live]
        instruments.engines_live.show(
            [
                (len(live), {instruments.STATE: "live"}),
                (len(fleet.replicas) - len(live), {instruments.STATE: "down"}),
            ]
        )
        instruments.replica_versions.show(
            [
                (
                    sum(
                        1
                        for replica in live
                        if (held := fleet.holding(replica.url, version.id)) is not None
                        and held.life == replica.life
                        and held.state is state
                    ),
                    {instruments.MODEL_VERSION: version.id, instruments.STATE: state.value},
                )
                for version in wanted
                for state in HoldingState
            ]
        )
        instruments.unroutable.show(
            [
                (int(bool(lacks_of(version, fleet))), {instruments.MODEL_VERSION: version.id})
                for version in wanted
            ]
        )


def seen(replica: Replica, look: EngineLook, known: Mapping[str, RegisteredVersion]) -> Replica:
    """A replica as a look at it found it."""
    #: Without a start time only a gap in its answers tells that it was another process.
    life = look.started or replica.life or f"seen since look {replica.looks}"
    adapters = tuple(model.name for model in look.models if model.parent is not None)
    return replace(
        replica,
        life=life,
        build=look.build,
        reason="",
        listed=tuple(model.name for model in look.models),
        adapters=adapters,
        bases=tuple(
            sorted(
                {
                    found.version.base_digest
                    for model in look.models
                    if model.parent is None
                    and (found := known.get(model.name)) is not None
                    and found.version.adapter_digest is None
                }
            )
        ),
        strange=tuple(name for name in adapters if name not in known),
    )
