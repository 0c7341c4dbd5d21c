"""A circuit breaker for each version: one that fails again and again is not asked for a while.

It is about what a version *answers*. Whether an engine can be reached is the business of `EnginePool`, which
knows at once when one is back: such failures are not reported here. Two things open a circuit: errors (so
many in a row, or a share of the last ones) and drafts that nobody could use, for which nearly all of the last
ones have to be bad, because an odd question spoils a draft as well as an odd version does.

In this process only: each gateway finds out by itself, and nobody has to be asked on the way of a question.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from types import TracebackType
from typing import Self


class CircuitState(StrEnum):
    """Whether a version is asked."""

    CLOSED = "closed"
    #: One request finds out whether it works again.
    HALF_OPEN = "half_open"
    OPEN = "open"


class Outcome(StrEnum):
    """What came of asking."""

    GOOD = "good"
    ERROR = "error"
    #: It answered, and nothing of it could be used.
    INVALID = "invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitLimits:
    """When a circuit opens, and for how long."""

    #: Errors in a row.
    errors_in_a_row: int = 5
    #: Outcomes that a share is taken of: the last ones, not older than `window_s`, from `least` on.
    window: int = 20
    least: int = 10
    window_s: float = 120.0
    error_share: float = 0.5
    invalid_share: float = 0.9
    #: Time until the trial; twice as long after each trial that fails. 0: circuits never open.
    open_s: float = 15.0
    longest_open_s: float = 120.0
    #: A version that nobody has wanted for so long gets no traffic any more: its circuit is forgotten.
    idle_s: float = 600.0


class Permit:
    """Leave to ask once. Say how it went; without a word (the client left), it counts for nothing."""

    __slots__ = ("_gave_back", "_said", "_took")

    def __init__(
        self,
        *,
        took: Callable[[Outcome], None] = lambda _: None,
        gave_back: Callable[[], None] = lambda: None,
    ) -> None:
        self._took = took
        self._gave_back = gave_back
        self._said = False

    def say(self, outcome: Outcome) -> None:
        """How it went; only the first word counts."""
        if not self._said:
            self._said = True
            self._took(outcome)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._said:
            self._said = True
            self._gave_back()


class Circuit:
    """The circuit of one version."""

    def __init__(
        self,
        limits: CircuitLimits,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[CircuitState, Outcome], None] = lambda _state, _cause: None,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._on_change = on_change
        self._state = CircuitState.CLOSED
        #: What it was opened by.
        self._cause = Outcome.ERROR
        self._seen: deque[tuple[float, Outcome]] = deque(maxlen=limits.window)
        self._in_a_row = 0
        self._open_s = limits.open_s
        self._trial_at = 0.0
        self._trial_runs = False
        self._wanted_at = clock()
        #: Rises with each change of state: what was asked before says nothing about what is now.
        self._epoch = 0

    @property
    def state(self) -> CircuitState:
        """Whether it is asked now."""
        return self._state

    @property
    def admits(self) -> bool:
        """Whether leave would be given now."""
        if self._state is CircuitState.OPEN:
            return self._clock() >= self._trial_at
        return not self._trial_runs

    @property
    def idle_s(self) -> float:
        """Time since somebody last wanted leave."""
        return self._clock() - self._wanted_at

    def admit(self) -> Permit | None:
        """Leave to ask, or None while the circuit is open. The first after the wait is the trial."""
        self._wanted_at = self._clock()
        if not self.admits:
            return None
        if self._state is CircuitState.OPEN:
            self._become(CircuitState.HALF_OPEN)
        self._trial_runs = self._state is CircuitState.HALF_OPEN
        return Permit(took=partial(self._took, self._epoch), gave_back=partial(self._gave_back, self._epoch))

    def _took(self, epoch: int, outcome: Outcome) -> None:
        if epoch != self._epoch:
            return
        if self._state is CircuitState.HALF_OPEN:
            # What it was opened by has to be gone; one bad draft says nothing about errors.
            unlike = self._cause is Outcome.ERROR and outcome is Outcome.INVALID
            if outcome is Outcome.GOOD or unlike:
                self._close()
            else:
                self._open_s = min(2 * self._open_s, self._limits.longest_open_s)
                self._open(outcome)
            return
        now = self._clock()
        self._seen.append((now, outcome))
        self._in_a_row = self._in_a_row + 1 if outcome is Outcome.ERROR else 0
        if self._limits.open_s > 0 and (cause := self._broken(now)) is not None:
            self._open(cause)

    def _gave_back(self, epoch: int) -> None:
        """The trial was not finished: the next request is one, at once."""
        if epoch == self._epoch:
            self._trial_runs = False

    def _broken(self, now: float) -> Outcome | None:
        """What the last outcomes open the circuit by, if they do."""
        limits = self._limits
        if self._in_a_row >= limits.errors_in_a_row:
            return Outcome.ERROR
        lately = [outcome for at, outcome in self._seen if now - at <= limits.window_s]
        if len(lately) < limits.least:
            return None
        errors = lately.count(Outcome.ERROR)
        if errors >= limits.error_share * len(lately):
            return Outcome.ERROR
        unusable = errors + lately.count(Outcome.INVALID)
        if len(lately) == limits.window and unusable >= limits.invalid_share * len(lately):
            return Outcome.INVALID
        return None

    def _open(self, cause: Outcome) -> None:
        self._cause = cause
        self._trial_at = self._clock() + self._open_s
        self._become(CircuitState.OPEN)

    def _close(self) -> None:
        self._seen.clear()
        self._in_a_row = 0
        self._open_s = self._limits.open_s
        self._become(CircuitState.CLOSED)

    def _become(self, state: CircuitState) -> None:
        self._epoch += 1
        self._trial_runs = False
        self._state = state
        self._on_change(state, self._cause)


class Circuits:
    """The circuits of all versions that were asked."""

    def __init__(
        self,
        limits: CircuitLimits | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[str, CircuitState, Outcome | None], None] = lambda _id, _state, _cause: None,
    ) -> None:
        self._limits = limits or CircuitLimits()
        self._clock = clock
        self._on_change = on_change
        self._circuits: dict[str, Circuit] = {}

    def admit(self, version_id: str) -> Permit | None:
        """Leave to ask the version, or None while its circuit is open."""
        self._forget_idle()
        return self._of(version_id).admit()

    def admits(self, version_id: str) -> bool:
        """Whether leave would be given now."""
        known = self._circuits.get(version_id)
        return known is None or known.admits

    def _forget_idle(self) -> None:
        """Else the circuit of a version that was taken back would be shown open for as long as we run."""
        for version_id, circuit in list(self._circuits.items()):
            if circuit.idle_s > self._limits.idle_s:
                del self._circuits[version_id]
                self._on_change(version_id, CircuitState.CLOSED, None)

    def _of(self, version_id: str) -> Circuit:
        known = self._circuits.get(version_id)
        if known is None:
            self._on_change(version_id, CircuitState.CLOSED, None)
            known = self._circuits[version_id] = Circuit(
                self._limits,
                clock=self._clock,
                on_change=lambda state, cause: self._on_change(version_id, state, cause),
            )
        return known
