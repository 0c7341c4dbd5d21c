"""Who may write an answer, in order: the assigned version, and those that stand in for it.

    assigned -> previous -> base -> endpoint

`previous` is what the assigned version took over from: the stable one for a canary, the pointer's previous
one for the stable, unless an undo took it back. It has to be another model or prompt for the same task, and
served.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gateway.drafting import Drafter
from gateway.rails import EngineRoster
from gateway.rollouts.assignment import Arm, Assignment
from gateway.rollouts.live import LiveRails
from gateway.schemas.answers import Step
from gateway.turn import Question
from serving.endpoint import Endpoint
from serving.errors import UnknownModelVersionError, VersionUnreadableError
from serving.versions import Pointer, RegisteredVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """A version at its step of the chain, and what writes with it."""

    step: Step
    version: RegisteredVersion
    drafter: Drafter
    #: Set where it writes outside the house.
    endpoint: Endpoint | None = None


class Chain:
    """Finds the writers of a turn."""

    def __init__(
        self,
        *,
        live: LiveRails,
        engines: EngineRoster,
        drafter: Drafter,
        endpoint: Endpoint | None = None,
        endpoint_drafter: Drafter | None = None,
    ) -> None:
        self._live = live
        self._engines = engines
        self._drafter = drafter
        self._endpoint = endpoint
        self._endpoint_drafter = endpoint_drafter

    async def first(self, assigned: Assignment, version: RegisteredVersion) -> Writer:
        """The first writer: the assigned version, or what stands in because it cannot be read."""
        step = Step.ASSIGNED
        if assigned.version != version.id:
            fallback = (await self._live.model_pointer.get()).fallback
            step = Step.BASE if version.id == fallback else Step.PREVIOUS
        return Writer(step=step, version=version, drafter=self._drafter)

    async def in_place_of(self, assigned: Assignment) -> RegisteredVersion | None:
        """What answers where the registry's row of the assigned version was damaged; None: nothing can."""
        pointer = await self._live.model_pointer.get()
        return await stands_in(pointer, assigned.arm, read=self._known, engines=self._engines)

    async def stand_ins(
        self, question: Question, assigned: Assignment, version: RegisteredVersion
    ) -> Sequence[Writer]:
        """Those that follow, in order. A pinned version stands for itself alone, and no evaluation leaves the
        house."""
        if assigned.arm is Arm.PINNED:
            return ()
        pointer = await self._live.model_pointer.get()
        base = await self._base(pointer, version)
        found: list[Writer] = []
        if (previous := await self._previous(pointer, assigned.arm, version)) is not None:
            found.append(Writer(step=Step.PREVIOUS, version=previous, drafter=self._drafter))
        if base is not None:
            found.append(Writer(step=Step.BASE, version=base, drafter=self._drafter))
        if self._endpoint is not None and self._endpoint_drafter is not None and question.pin is None:
            found.append(
                Writer(
                    step=Step.ENDPOINT,
                    version=self._endpoint.version_like(base or version),
                    drafter=self._endpoint_drafter,
                    endpoint=self._endpoint,
                )
            )
        return found

    def is_at_hand(self, writer: Writer) -> bool:
        """Whether there is a use in asking now. A base that nobody serves is asked all the same: that it is
        away is what the answer then says."""
        return writer.step is not Step.PREVIOUS or writer.version.served_name in self._engines.served()

    async def _previous(
        self, pointer: Pointer, arm: Arm, assigned: RegisteredVersion
    ) -> RegisteredVersion | None:
        wanted = _before(pointer, arm)
        if wanted is None or wanted in (assigned.id, pointer.fallback):
            return None
        version = await self._known(wanted)
        if version is None or not version.releasable or not _differs(version, assigned):
            return None
        return version if version.version.task == assigned.version.task else None

    async def _base(self, pointer: Pointer, assigned: RegisteredVersion) -> RegisteredVersion | None:
        if pointer.fallback is None or pointer.fallback == assigned.id:
            return None
        return await self._known(pointer.fallback)

    async def _known(self, version_id: str) -> RegisteredVersion | None:
        try:
            return await self._live.model_version(version_id)
        except (UnknownModelVersionError, VersionUnreadableError):
            return None


async def stands_in(
    pointer: Pointer,
    arm: Arm,
    *,
    read: Callable[[str], Awaitable[RegisteredVersion | None]],
    engines: EngineRoster,
) -> RegisteredVersion | None:
    """What answers for an arm whose version cannot be read: what it took over from, where that is served, or
    the fallback, served or not.

    Which task the version did is not known any more, so the fallback says it.
    """
    fallback = await read(pointer.fallback) if pointer.fallback else None
    before = _before(pointer, arm)
    previous = await read(before) if before and before != pointer.fallback else None
    if (
        previous is not None
        and previous.releasable
        and (fallback is None or previous.version.task == fallback.version.task)
        and await engines.ready(previous.served_name)
    ):
        return previous
    return fallback


def _before(pointer: Pointer, arm: Arm) -> str | None:
    """What an arm's version took over from."""
    if arm is Arm.CANARY:
        return pointer.stable
    return None if pointer.taken_back else pointer.previous


def _differs(one: RegisteredVersion, other: RegisteredVersion) -> bool:
    """Whether it could write something else: other weights, or another prompt."""
    a, b = one.version, other.version
    return (a.base_digest, a.adapter_digest, a.prompt) != (b.base_digest, b.adapter_digest, b.prompt)
