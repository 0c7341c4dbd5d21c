"""The steps of a long command, as they go: number, name, seconds, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Step:
    """One running step; set `detail` to say what came of it."""

    name: str
    detail: str = ""


@dataclass(slots=True)
class Progress:
    """Prints a line when a step ends, and one when a long one begins. Steps may overlap."""

    names: Sequence[str]
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    #: Seconds that each step took.
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, *, announce: str = "") -> Iterator[Step]:
        """Time a step. `announce` is said at its start: for those that take long."""
        if announce:
            self._line(name, f"{announce} ...")
        step = Step(name)
        started = self.clock()
        try:
            yield step
        except BaseException:
            self._line(name, "stopped", self.clock() - started)
            raise
        self.seconds[name] = self.clock() - started
        self._line(name, step.detail, self.seconds[name])

    def note(self, name: str, text: str) -> None:
        """Something that happens within a step."""
        self._line(name, text)

    def _line(self, name: str, text: str, seconds: float | None = None) -> None:
        number = self.names.index(name) + 1
        width = max(len(known) for known in self.names)
        took = f"{seconds:6.1f} s" if seconds is not None else " " * 8
        self.say(f"[{number}/{len(self.names)}] {name:<{width}} {took}  {text}".rstrip())
