"""The engines of a running stack: those of SERVING_ENGINES, or vLLM processes of this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

import aiohttp

from deploy.errors import DeployError, UsageError
from deploy.models import LocalModels
from deploy.placement import Placement, place
from deploy.ports import free_ports
from deploy.release import release_shipped, use_given
from serving.errors import ServingError
from serving.pool import EnginePool
from serving.registry import ModelRegistry
from serving.settings import ServingSettings


class EngineProcess(Protocol):
    """One supervised engine."""

    async def start(self) -> None:
        """Return when it answers; from then on it is kept running."""

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
        """Arms or names -> base URL, of all engines that are to be used."""

    async def start_stable(self) -> str:
        """Have the stable version served; returns a line about it."""

    def start_others(self) -> None:
        """Have the other arms served too, without waiting for it."""

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

    def start_others(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop."""


class OwnEngines:
    """vLLM processes of this machine: the stable arm's first, the others once it is ready."""

    announcement = "starting vLLM, about 40 s"

    def __init__(
        self, models: LocalModels, make: EngineFactory, *, first_port: int | None, say: Callable[[str], None]
    ) -> None:
        self._models = models
        self._make = make
        self._first_port = first_port
        self._say = say
        self.cannot_serve = ""
        self._placements: list[tuple[Placement, int]] = []
        self._running: list[EngineProcess] = []
        self._others: asyncio.Task[None] | None = None

    async def release(self, registry: ModelRegistry) -> str:
        """Register what this release ships, and place it."""
        released = await release_shipped(registry, self._models)
        pointer, shipped = released.pointer, released.shipped
        placements = place(pointer, await registry.versions(), self._models.weights_of, shipped=shipped)
        if not any("stable" in placed.arms for placed in placements):
            self.cannot_serve = (
                f"the stable version {pointer.stable} has no weights on this machine; "
                f"`twinrail promote model {shipped}`, or set SERVING_ENGINES to engines that serve it"
            )
        ports = (
            range(self._first_port, self._first_port + len(placements))
            if self._first_port
            else free_ports(len(placements))
        )
        self._placements = list(zip(placements, ports, strict=True))
        if released.advice and not self.cannot_serve:
            self._say(released.advice)
        return self.cannot_serve or f"stable {pointer.stable}, fallback {pointer.fallback or 'none'}"

    def addresses(self) -> Mapping[str, str]:
        """All that are placed, also those still to be started: the gateway finds them when they answer."""
        return {"+".join(placed.arms): f"http://127.0.0.1:{port}" for placed, port in self._placements}

    async def start_stable(self) -> str:
        """Start the first placement and wait for it."""
        if not self._placements:
            raise UsageError("model rail: nothing is placed; `release` comes first")
        placed, port = self._placements[0]
        await self._start(placed, port)
        return f"{', '.join(placed.answers_as)} on port {port}"

    def start_others(self) -> None:
        """Start the other placements, one after the other: two at once would be slower than in turn."""
        self._others = asyncio.create_task(self._start_others(), name="start other engines")

    async def stop(self) -> None:
        """End all at once."""
        if self._others:
            self._others.cancel()
            await asyncio.wait([self._others])
        ends = await asyncio.gather(*(engine.stop() for engine in self._running), return_exceptions=True)
        for failure in ends:
            if failure is not None:
                self._say(f"an engine was not stopped in order: {failure}")

    async def _start_others(self) -> None:
        for placed, port in self._placements[1:]:
            arms = " and ".join(placed.arms)
            try:
                await self._start(placed, port)
                self._say(f"engine for {arms} is ready too: {', '.join(placed.answers_as)} on port {port}")
            except (DeployError, ServingError, OSError) as exc:
                self._say(f"engine for {arms} did not start: {exc}")

    async def _start(self, placed: Placement, port: int) -> None:
        """One that fails is ended at once: half started, it would hold its memory with nobody watching it."""
        engine = self._make(placed, port)
        self._running.append(engine)
        try:
            await engine.start()
        except Exception:
            await engine.stop()
            raise
