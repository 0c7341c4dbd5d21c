"""The order of a pilot's days, with days that measure nothing: resuming, changed inputs, too early."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from eval.errors import PilotError
from eval.pilot.guide import PAGE, Day, DayResult, Guide, next_day, views
from eval.pilot.reports import DayReport
from eval.pilot.state import DAYS, STATE, PilotFolder, PilotState
from eval.report import Table

ALL = list(DAYS)


class PowerCutError(Exception):
    """The machine went down."""


@dataclass
class Week:
    """Days that note when they were done, on inputs that a test can change."""

    path: Path
    done: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    inputs: dict[int, str] = field(default_factory=dict)
    #: The day in which the power goes.
    cut: int | None = None
    minutes: int = 0

    def guide(self) -> Guide:
        return Guide(
            folder=PilotFolder(self.path),
            days={day: Day(inputs=self._inputs(day), work=self._work(day)) for day in DAYS},
            say=self.said.append,
            now=self._now,
        )

    async def go(self, *days: int, redo: bool = False) -> PilotState:
        return await self.guide().go(days or ALL, redo=redo)

    def _now(self) -> datetime:
        self.minutes += 1
        return datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=self.minutes)

    def _inputs(self, day: int):  # type: ignore[no-untyped-def]
        async def inputs(state: PilotState) -> Mapping[str, str]:
            return {"file": self.inputs.get(day, "same")}

        return inputs

    def _work(self, day: int):  # type: ignore[no-untyped-def]
        async def work(state: PilotState) -> DayResult:
            if self.cut == day:
                raise PowerCutError
            self.done.append(day)
            table = Table(title="What", header=("a", "b"), rows=(("<b>bold</b>", "2"),))
            report = DayReport(sentences=(f"Day {day} says so.",), tables=(table,), notes=("mind it",))
            return DayResult(outputs={"arms": [f"arm{day}"]}, report=report)

        return work


@pytest.fixture
def week(tmp_path: Path) -> Week:
    return Week(path=tmp_path / "pilot")


async def test_a_week_in_order_leaves_a_dated_report_a_day_and_one_page(week: Week) -> None:
    state = await week.go()
    assert week.done == ALL
    assert [state.days[day].file for day in ALL] == [f"day-{day}-2026-03-01.md" for day in ALL]
    report = (week.path / "day-3-2026-03-01.md").read_text()
    assert "# Day 3. Retrieval" in report
    assert "Day 3 says so." in report
    assert "- mind it" in report
    page = (week.path / PAGE).read_text()
    assert "7 of 7 days done" in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "<b>bold" not in page
    assert "http" not in page.replace("http-equiv", ""), "nothing from elsewhere"


async def test_a_finished_week_is_left_as_it_is(week: Week) -> None:
    first = await week.go()
    again = await week.go()
    assert again == first
    assert week.done == ALL
    assert "day 7: done on 2026-03-01" in week.said


@pytest.mark.parametrize("day", ALL)
async def test_after_a_crash_in_any_day_the_rest_is_done_and_nothing_twice(week: Week, day: int) -> None:
    week.cut = day
    with pytest.raises(PowerCutError):
        await week.go()
    assert week.done == ALL[: day - 1]
    assert next_day(PilotFolder(week.path).read()) == day
    week.cut = None
    state = await week.go()
    assert week.done == ALL
    assert list(state.days) == ALL


async def test_a_crash_between_report_and_state_does_the_day_again(week: Week) -> None:
    await week.go(1)
    before = (week.path / STATE).read_bytes()
    await week.go(2)
    (week.path / STATE).write_bytes(before)
    await week.go(2)
    assert week.done == [1, 2, 2]


async def test_a_day_before_its_time_is_refused_with_what_is_missing(week: Week) -> None:
    await week.go(1)
    with pytest.raises(PilotError, match=r"--day 4: before its time; first day 2 .*; day 3 .*run --day 2"):
        await week.go(4)
    assert week.done == [1]


async def test_a_day_whose_inputs_changed_says_so_and_waits_for_redo(week: Week) -> None:
    await week.go(1)
    await week.go(2)
    await week.go(3)
    week.inputs[2] = "other"
    for day in (2, 3, 4):
        with pytest.raises(PilotError, match=r"day 2: inputs changed .*file was same, is other.*--redo"):
            await week.go(day)
    assert week.done == [1, 2, 3]
    state = await week.go(4, redo=True)
    assert week.done == [1, 2, 3, 2, 3, 4], "what rests on it is done again too"
    assert state.run_number == 2, "the old answers stay where they are"
    assert state.days[2].inputs["file"] == "other"


async def test_one_day_is_done_again_by_name_and_the_later_ones_are_due(week: Week) -> None:
    await week.go()
    state = await week.go(5, redo=True)
    assert week.done == [*ALL, 5]
    assert list(state.days) == [1, 2, 3, 4, 5]
    assert next_day(state) == 6
    await week.go()
    assert week.done == [*ALL, 5, 6, 7]


async def test_days_that_ask_nothing_keep_the_run_when_done_again(week: Week) -> None:
    await week.go()
    assert (await week.go(6, redo=True)).run_number == 1


async def test_redo_without_a_change_does_nothing(week: Week) -> None:
    first = await week.go()
    assert await week.go(redo=True) == first


async def test_a_crash_while_a_day_is_done_again_goes_on_with_it(week: Week) -> None:
    await week.go()
    week.inputs[3], week.cut = "other", 3
    with pytest.raises(PowerCutError):
        await week.go(redo=True)
    week.cut = None
    state = await week.go()
    assert week.done == [*ALL, 3, 4, 5, 6, 7]
    assert state.run_number == 2


async def test_the_page_says_what_is_still_to_be_done(week: Week) -> None:
    state = await week.go(1)
    assert [view.report is None for view in views(state)] == [False] + [True] * 6
    assert (week.path / PAGE).read_text().count("Not done yet.") == 6


@pytest.mark.parametrize("content", [b"", b"[]", b'{"days": {"1": {}}}', b'{"days": {}, "format": 9}'])
def test_a_broken_state_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / STATE).write_bytes(content)
    with pytest.raises(PilotError, match=r"pilot\.json"):
        PilotFolder(tmp_path).read()
