"""Supervised engines that start or fail as a test wants it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from deploy.placement import Placement


@dataclass(slots=True)
class FakeEngineProcess:
    """`EngineProcess` without a process."""

    placed: Placement
    #: What `start` and `stop` raise.
    start_error: Exception | None = None
    stop_error: Exception | None = None
    #: Until it is set, the start goes on.
    slow: asyncio.Event | None = None
    started: int = 0
    stopped: int = 0

    async def start(self) -> None:
        self.started += 1
        if self.slow:
            await self.slow.wait()
        if self.start_error:
            raise self.start_error

    async def is_idle(self) -> bool:
        return True

    async def stop(self) -> None:
        self.stopped += 1
        if self.stop_error:
            raise self.stop_error


@dataclass(slots=True)
class FakeEngineFactory:
    """An `EngineFactory`; errors are by arm."""

    start_errors: dict[str, Exception] = field(default_factory=dict)
    stop_errors: dict[str, Exception] = field(default_factory=dict)
    slow: dict[str, asyncio.Event] = field(default_factory=dict)
    made: list[FakeEngineProcess] = field(default_factory=list)

    def __call__(self, placed: Placement, port: int) -> FakeEngineProcess:
        arm = placed.arms[0]
        engine = FakeEngineProcess(
            placed, self.start_errors.get(arm), self.stop_errors.get(arm), self.slow.get(arm)
        )
        self.made.append(engine)
        return engine
