"""Goes through the days: which may be done now, what is missing, and where to go on after a stop.

A day is a function passed in, so the order of a pilot can be followed without anything to measure. A day that
was interrupted is begun again as a whole and finds what it had measured already; a finished one stays.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from eval.errors import PilotError
from eval.pilot.reports import DayReport, DayView, markdown_day, pilot_page
from eval.pilot.state import (
    DAYS,
    DayDone,
    PilotFolder,
    PilotState,
    Standing,
    changed_inputs,
    missing_days,
    standing,
)

PAGE = "pilot.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class DayResult:
    """What a day gives back."""

    outputs: Mapping[str, Any]
    report: DayReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """A day of the plan: what it rests on now, and its work."""

    inputs: Callable[[PilotState], Awaitable[Mapping[str, str]]]
    work: Callable[[PilotState], Awaitable[DayResult]]


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """A pilot in its folder."""

    folder: PilotFolder
    days: Mapping[int, Day]
    say: Callable[[str], None]
    now: Callable[[], datetime] = _now

    async def go(self, asked: Sequence[int], *, redo: bool) -> PilotState:
        """Do the days that are asked for, in order; each finished one is kept before the next begins.

        `redo` does again what rests on changed inputs, or the one day that is asked for, and all after it.
        """
        state = self.folder.read()
        named = asked[0] if redo and len(asked) == 1 else None
        again = await self._first_to_redo(state, max(asked), named=named)
        if again is not None and not redo:
            inputs = await self._inputs(state, again)
            raise PilotError(
                f"day {again}: inputs changed since {state.days[again].at[:10]} "
                f"({'; '.join(changed_inputs(state, again, inputs))}); do it and what rests on it again with "
                "--redo, or restore the inputs"
            )
        if again is not None:
            self.say(f"day {again} and what rests on it is done again")
            state = state.begun_again(again)
            self.folder.save(state)
            asked = range(min(again, *asked), max(asked) + 1)
        for day in asked:
            if day in state.days:
                self.say(f"day {day}: done on {state.days[day].at[:10]}")
            elif missing_days(state, day):
                raise PilotError(_early(state, day))
            else:
                state = await self._do(state, day)
        self._show(state)
        return state

    async def _first_to_redo(self, state: PilotState, last: int, *, named: int | None) -> int | None:
        """The first finished day up to the last one whose inputs changed, or that somebody named."""
        for day in range(1, last + 1):
            if day not in state.days:
                return None
            changed = standing(state, day, await self._inputs(state, day)) is Standing.CHANGED
            if changed or day == named:
                return day
        return None

    async def _inputs(self, state: PilotState, day: int) -> dict[str, str]:
        """What the day rests on, the day before it among it."""
        before = state.days.get(day - 1)
        return {
            **await self.days[day].inputs(state),
            **({f"day {day - 1}": before.digest} if before else {}),
        }

    async def _do(self, state: PilotState, day: int) -> PilotState:
        self.say(f"day {day}: {DAYS[day]}")
        inputs = await self._inputs(state, day)
        found = await self.days[day].work(state)
        at = self.now()
        done = DayDone(
            at=at.isoformat(timespec="seconds"),
            inputs=inputs,
            outputs=found.outputs,
            file=f"day-{day}-{at.date().isoformat()}.md",
            report=found.report,
        )
        self.folder.write(done.file, markdown_day(_view(day, done)).encode())
        state = state.finished(day, done)
        self.folder.save(state)
        self._show(state)
        return state

    def _show(self, state: PilotState) -> None:
        self.folder.write(PAGE, page_of(self.folder, state).encode())


def page_of(folder: PilotFolder, state: PilotState) -> str:
    """All days on one page."""
    style = (files("eval.advice") / "page.css").read_text(encoding="utf-8")
    return pilot_page(folder.path.resolve().name, views(state), style=style)


def views(state: PilotState) -> list[DayView]:
    """All seven days, done or not."""
    return [
        _view(day, state.days[day]) if day in state.days else DayView(day=day, title=title)
        for day, title in DAYS.items()
    ]


def next_day(state: PilotState) -> int:
    """The first day that is not done; the last one where all are."""
    return next((day for day in DAYS if day not in state.days), max(DAYS))


def _view(day: int, done: DayDone) -> DayView:
    return DayView(day=day, title=DAYS[day], at=done.at, file=done.file, report=done.report)


def _early(state: PilotState, day: int) -> str:
    missing = missing_days(state, day)
    names = "; ".join(f"day {each} ({DAYS[each]})" for each in missing)
    return f"--day {day}: before its time; first {names}: run --day {missing[0]}, or --all"
