"""The engines of a running stack: those of SERVING_ENGINES, or vLLM processes of this machine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp

from deploy.errors import DeployError, UsageError
from deploy.models import LocalModels
from deploy.placement import SPARES, EngineWeights, Placement, place
from deploy.ports import free_ports
from deploy.release import release_shipped, use_given
from serving.errors import RegistryError, ServingError
from serving.manifests import other_use
from serving.pool import EnginePool, base_url
from serving.registry import ModelRegistry
from serving.replicas import ReplicaStore
from serving.settings import ServingSettings
from serving.versions import ModelVersion
from serving.weights import merged_use

logger = logging.getLogger(__name__)

#: Between two looks at what is wanted.
LOOK_S = 2.0
#: Gateways have read by then that an engine leaves; and this long at most is waited for what runs on it.
LEAVE_S, DRAIN_S = 3.0, 120.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 15.0, 600.0


class EngineProcess(Protocol):
    """One supervised engine."""

    async def start(self) -> None:
        """Return when it answers; from then on it is kept running."""

    async def is_idle(self) -> bool:
        """Whether nothing runs on it."""

    async def stop(self) -> None:
        """End it."""


#: Makes the process of a placement on a port.
EngineFactory = Callable[[Placement, int], EngineProcess]


class Engines(Protocol):
    """What `up` needs of either kind."""

    announcement: str
    #: Why the stable version cannot be served although everything runs, or "".
    cannot_serve: str

    async def release(self, registry: ModelRegistry) -> str:
        """Register versions, decide what is to be served; returns a line about it."""

    def addresses(self) -> Mapping[str, str]:
        """Arms or names -> base URL, of all engines that there are."""

    async def start_stable(self) -> str:
        """Have the stable version served; returns a line about it."""

    def keep_wanted(self, *, spares: bool) -> None:
        """From now on have every wanted version served, without waiting for it; `spares`: those too that take
        no traffic by themselves."""

    async def stop(self) -> None:
        """End what was started."""


class GivenEngines:
    """Somebody else runs them; they are asked, never started or stopped."""

    announcement = ""

    def __init__(self, settings: ServingSettings, session: aiohttp.ClientSession) -> None:
        key = settings.engine_api_key
        self._urls = settings.engine_urls
        self._pool = EnginePool(self._urls, session, api_key=key.get_secret_value() if key else None)
        self.cannot_serve = ""

    async def release(self, registry: ModelRegistry) -> str:
        """Register what they list."""
        released = await use_given(registry, await self._pool.health())
        self.cannot_serve = released.advice
        return released.advice or f"stable {released.pointer.stable}"

    def addresses(self) -> Mapping[str, str]:
        """The URLs of SERVING_ENGINES."""
        return {f"given {n}": url for n, url in enumerate(self._urls, 1)}

    async def start_stable(self) -> str:
        """They run already, or not at all."""
        return f"{len(self._urls)} of SERVING_ENGINES"

    def keep_wanted(self, *, spares: bool) -> None:
        """The gateway's reconciler does what can be done."""

    async def stop(self) -> None:
        """Nothing to stop."""


@dataclass(slots=True)
class _Running:
    """A process, and what it is for."""

    placed: Placement
    port: int
    process: EngineProcess

    @property
    def url(self) -> str:
        return base_url(f"http://127.0.0.1:{self.port}")


class OwnEngines:
    """vLLM processes of this machine, as many as what is wanted needs.

    The stable arm's starts first. Later a newly wanted version gets a process if none of those that run can
    serve it, and a process that serves nothing wanted any more is stopped: only after the new ones are ready,
    and after what runs on it has ended.
    """

    announcement = "starting vLLM, about 40 s"

    def __init__(
        self,
        models: LocalModels,
        make: EngineFactory,
        store: ReplicaStore,
        *,
        first_port: int | None,
        most: int = 4,
        name: str = "up",
        say: Callable[[str], None],
        on_change: Callable[[Mapping[str, str]], None] = lambda _addresses: None,
        look_s: float = LOOK_S,
        leave_s: float = LEAVE_S,
    ) -> None:
        self._models = models
        self._make = make
        self._store = store
        self._first_port = first_port
        self._most = most
        self._name = name
        self._say = say
        self._on_change = on_change
        self._look_s = look_s
        self._leave_s = leave_s
        self.cannot_serve = ""
        self._registry: ModelRegistry | None = None
        self._shipped = ""
        self._running: list[_Running] = []
        self._keeper: asyncio.Task[None] | None = None
        self._announcer: asyncio.Task[None] | None = None
        self._announcing = asyncio.Lock()
        #: A cancellation may be lost in a wait that ends in the same moment; then the loops end by this.
        self._stopping = False
        self._said: set[str] = set()
        #: What could not be started: when to try again, and the pause after that.
        self._failed: dict[tuple[str, ...], tuple[float, float]] = {}

    async def release(self, registry: ModelRegistry) -> str:
        """Register what this release ships, and say what is to be served."""
        released = await release_shipped(registry, self._models)
        pointer, shipped = released.pointer, released.shipped
        self._registry, self._shipped = registry, shipped
        # Those of a run before are gone.
        await self._store.announce({}, by=self._name)
        damaged = {each.id: each.reason for each in await registry.unreadable()}
        if not any("stable" in placed.arms for placed in await self._wanted(spares=True)):
            self.cannot_serve = damaged.get(pointer.stable) or (
                f"the stable version {pointer.stable} has no weights on this machine; "
                f"`twinrail promote model {shipped}`, or set SERVING_ENGINES to engines that serve it"
            )
        if released.advice and not self.cannot_serve:
            self._say(released.advice)
        return self.cannot_serve or f"stable {pointer.stable}, fallback {pointer.fallback or 'none'}"

    def addresses(self) -> Mapping[str, str]:
        """Of all that run or are being started."""
        return {"+".join(each.placed.arms): f"http://127.0.0.1:{each.port}" for each in self._running}

    async def start_stable(self) -> str:
        """Start the most important placement and wait for it."""
        placements = await self._wanted(spares=True)
        if not placements:
            raise UsageError("model rail: nothing is placed; `release` comes first")
        started = await self._start(placements[0])
        return f"{', '.join(started.placed.answers_as)} on port {started.port}"

    def keep_wanted(self, *, spares: bool) -> None:
        """Look again and again, and start one at a time: two at once would be slower than in turn."""
        self._keeper = asyncio.create_task(self._keep(spares=spares), name="keep engines")

    async def stop(self) -> None:
        """End all at once."""
        self._stopping = True
        tasks = [task for task in (self._keeper, self._announcer) if task]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        ends = await asyncio.gather(*(each.process.stop() for each in self._running), return_exceptions=True)
        for failure in ends:
            if failure is not None:
                self._say(f"an engine was not stopped in order: {failure}")
        with suppress(ServingError):
            await self._store.announce({}, by=self._name)

    # ---- what is wanted --------------------------------------------------------------------------

    async def _wanted(self, *, spares: bool) -> list[Placement]:
        if self._registry is None:
            raise UsageError("model rail: nothing is placed; `release` comes first")
        fleet = await self._store.fleet()
        versions = await self._registry.versions()
        manifests = {each.id: each.manifest for each in versions}

        def weights_of(version: ModelVersion) -> EngineWeights | None:
            return self._weights_as_recorded(version, manifests[version.id])

        placements = place(fleet.wanted, versions, weights_of, shipped=self._shipped)
        return [placed for placed in placements if spares or set(placed.arms) - SPARES]

    def _weights_as_recorded(
        self, version: ModelVersion, manifest: Mapping[str, Any]
    ) -> EngineWeights | None:
        """The version's weights, unless they were merged with another alpha than its manifest recorded: the
        name of the folder does not tell. What is loaded as an adapter is looked at by the shelf."""
        weights = self._models.weights_of(version)
        if weights is None or (other := other_use(merged_use(weights.model), manifest)) is None:
            return weights
        self._say_once(
            f"no engine on {weights.model}: {other.field}: it was merged with {other.given}, and the "
            f"manifest of {version.id} recorded {other.recorded}; remove the folder and "
            "register the version again"
        )
        return None

    async def _keep(self, *, spares: bool) -> None:
        while not self._stopping:
            try:
                await self._adjust(await self._wanted(spares=spares), await self._wanted(spares=True))
            except (RegistryError, DeployError, OSError) as exc:
                logger.info("engines not adjusted: %s", exc, extra={"action": "engines_failed"})
            except Exception:  # a defect in one look must not end the keeping
                logger.exception("engines not adjusted", extra={"action": "engines_failed"})
            await asyncio.sleep(self._look_s)

    async def _adjust(self, to_start: Sequence[Placement], to_keep: Sequence[Placement]) -> None:
        """One step at a time: start what is missing, then let go of what nothing needs any more."""
        missing = [
            placed for placed in to_start if not any(each.placed.does(placed) for each in self._running)
        ]
        used = [
            next((each for each in self._running if each.placed.does(placed)), None) for placed in to_keep
        ]
        idle = [each for each in self._running if each not in used]
        wanted = {name for placed in to_keep for name in (*placed.needed, *placed.adapters)}
        for placed in missing:
            # Where there is no room for both, only what serves nothing wanted makes room.
            useless = [each for each in idle if not wanted & set(each.placed.answers_as)]
            if len(self._running) >= self._most and useless:
                idle.remove(useless[0])
                await self._let_go(useless[0])
            await self._try(placed)
        if not missing:
            for each in idle:
                await self._let_go(each)

    async def _try(self, placed: Placement) -> None:
        arms, key = " and ".join(placed.arms), placed.answers_as
        if len(self._running) >= self._most:
            self._say_once(
                f"no engine for {arms} ({', '.join(placed.needed or placed.adapters)}): this machine runs "
                f"{self._most} at most (SERVING_MAX_ENGINES); unstage a version, or serve tuned versions on "
                "one engine with SERVING_TUNED_AS=adapter"
            )
            return
        loop = asyncio.get_running_loop()
        again_at, pause_s = self._failed.get(key, (0.0, FIRST_PAUSE_S))
        if loop.time() < again_at:
            return
        try:
            started = await self._start(placed)
        except (DeployError, ServingError, OSError) as exc:
            self._failed[key] = (loop.time() + pause_s, min(2 * pause_s, LONGEST_PAUSE_S))
            self._say_once(f"engine for {arms} did not start: {exc}")
        else:
            self._failed.pop(key, None)
            self._say(
                f"engine for {arms} is ready too: {', '.join(placed.answers_as)} on port {started.port}"
            )

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._say(text)

    # ---- processes -------------------------------------------------------------------------------

    async def _start(self, placed: Placement) -> _Running:
        """One that fails is ended at once: half started, it would hold its memory with nobody watching it."""
        port = self._port()
        started = _Running(placed, port, self._make(placed, port))
        self._running.append(started)
        self._on_change(self.addresses())
        try:
            await self._announce()
            self._announcer = self._announcer or asyncio.create_task(
                self._announce_again(), name="announce engines"
            )
            await started.process.start()
        except Exception:
            self._running.remove(started)
            await started.process.stop()
            await self._announce()
            self._on_change(self.addresses())
            raise
        return started

    async def _let_go(self, running: _Running) -> None:
        """Take no new answers, end those that run, stop."""
        await self._store.leave(running.url)
        await asyncio.sleep(self._leave_s)
        deadline = asyncio.get_running_loop().time() + DRAIN_S
        while not await running.process.is_idle():
            if asyncio.get_running_loop().time() >= deadline:
                break
            await asyncio.sleep(self._look_s)
        self._running.remove(running)
        await running.process.stop()
        await self._announce()
        self._on_change(self.addresses())
        self._say(
            f"engine for {' and '.join(running.placed.arms)} is stopped: nothing wanted is served by it"
        )

    async def _announce(self) -> None:
        # In turn: an older list must not bring back an engine that a newer one has left out.
        async with self._announcing:
            await self._store.announce(
                {each.url: bool(each.placed.adapters) for each in self._running}, by=self._name
            )

    async def _announce_again(self) -> None:
        """Also while an engine takes minutes to start or to end: who falls silent for one is forgotten, with
        all its engines."""
        while not self._stopping:
            await asyncio.sleep(self._look_s)
            try:
                await self._announce()
            except RegistryError as exc:
                logger.info("engines not announced: %s", exc, extra={"action": "engines_failed"})
            except Exception:  # a defect in one announcement must not end the others
                logger.exception("engines not announced", extra={"action": "engines_failed"})

    def _port(self) -> int:
        if not self._first_port:
            return free_ports(1)[0]
        taken = {each.port for each in self._running}
        return next(port for port in range(self._first_port, 65_536) if port not in taken)
