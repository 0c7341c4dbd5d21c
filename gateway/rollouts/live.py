"""What is live on both rails, read often enough and never in the way.

Pointers are re-read when they are older than a second, by one reader for all requests. When they cannot be
read, the last known ones stay (fail static): losing the database must not move traffic. Versions are
immutable and kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from gateway.rails import KnowledgeRail, ModelRail
from gateway.rollouts.assignment import Assignment, Rail, choose_arm
from retrieval.errors import RetrievalError, UnknownVersionError
from retrieval.versions import KnowledgeVersion
from retrieval.versions import Pointer as KnowledgePointer
from serving.errors import ServingError
from serving.versions import Pointer as ModelPointer
from serving.versions import RegisteredVersion

T = TypeVar("T")

#: A pointer that does not arrive within this time counts as unreadable.
READ_TIMEOUT_S = 1.0


class Remembered(Generic[T]):
    """The last value of a read, not older than `max_age_s` unless reading fails."""

    def __init__(
        self,
        read: Callable[[], Awaitable[T]],
        *,
        max_age_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._max_age_s = max_age_s
        self._clock = clock
        self._value: T | None = None
        self._stale_at = float("-inf")
        self._reading: asyncio.Task[T] | None = None
        #: Rises with each `forget`, so that a read that began before does not count as fresh after.
        self._generation = 0
        #: The value is older than it should be, because reading fails.
        self.is_static = False

    async def get(self) -> T:
        """The value; raises what the read raised only if there never was one."""
        if self._value is not None and self._clock() < self._stale_at:
            return self._value
        if self._reading is None:
            self._reading = asyncio.create_task(self._refresh())
            self._reading.add_done_callback(self._done)
        return await asyncio.shield(self._reading)

    @property
    def known(self) -> T | None:
        """The last value, whatever its age, without a read."""
        return self._value

    def forget(self) -> None:
        """Read again at the next `get`; the value stays as what to fall back on."""
        self._generation += 1
        self._stale_at = float("-inf")
        self._reading = None

    async def _refresh(self) -> T:
        generation = self._generation
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                value = await self._read()
            if generation != self._generation and self._value is not None:
                return value  # for those who asked before; what is read now is newer
            self._value = value
            self.is_static = False
        except (RetrievalError, ServingError, TimeoutError):
            if self._value is None:
                raise
            self.is_static = self.is_static or generation == self._generation
        if generation == self._generation:
            self._stale_at = self._clock() + self._max_age_s
        return self._value

    def _done(self, task: asyncio.Task[T]) -> None:
        if self._reading is task:
            self._reading = None
        if not task.cancelled():
            task.exception()  # seen here, in case that every waiter has left


class LiveRails:
    """Assigns turns to arms and knows the versions behind them."""

    def __init__(
        self,
        knowledge: KnowledgeRail,
        models: ModelRail,
        *,
        max_age_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._knowledge = knowledge
        self._models = models
        self.knowledge_pointer: Remembered[KnowledgePointer] = Remembered(
            knowledge.pointer, max_age_s=max_age_s, clock=clock
        )
        self.model_pointer: Remembered[ModelPointer] = Remembered(
            models.pointer, max_age_s=max_age_s, clock=clock
        )
        self._knowledge_versions: dict[str, KnowledgeVersion] = {}
        self._model_versions: dict[str, RegisteredVersion] = {}

    async def assign_knowledge(self, unit: str) -> Assignment:
        """The unit's arm of the knowledge rail."""
        return choose_arm(await self.knowledge_pointer.get(), rail=Rail.KNOWLEDGE, unit=unit)

    async def assign_model(self, unit: str) -> Assignment:
        """The unit's arm of the model rail."""
        return choose_arm(await self.model_pointer.get(), rail=Rail.MODEL, unit=unit)

    async def knowledge_version(self, version_id: str) -> KnowledgeVersion:
        """The version of that id; raises UnknownVersionError."""
        if version_id not in self._knowledge_versions:
            for version in await self._knowledge.versions():
                self._knowledge_versions[version.id] = version
        try:
            return self._knowledge_versions[version_id]
        except KeyError as exc:
            raise UnknownVersionError(f"There is no knowledge version {version_id!r}.") from exc

    async def model_version(self, version_id: str) -> RegisteredVersion:
        """The version of that id; raises UnknownModelVersionError."""
        known = self._model_versions.get(version_id)
        if known is None:
            known = self._model_versions[version_id] = await self._models.version(version_id)
        return known

    def forget(self) -> None:
        """Read both pointers again before the next turn: one was moved here, or a version turned out to be
        gone."""
        self.knowledge_pointer.forget()
        self.model_pointer.forget()
