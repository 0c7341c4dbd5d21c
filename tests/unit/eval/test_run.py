"""Runs: what is asked, in which order, and what a second session does."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from eval.arms import Arm, Pin
from eval.cases import Case, CaseSet, GivenPassage
from eval.errors import GatewayUnavailableError, RunError
from eval.observations import Observation, Ranking
from eval.record import RunFolder
from eval.run import Progress, measure, plan

CASES = CaseSet.of(
    "set",
    [
        *(Case(id=f"q{n}", topic=f"t{n}", split="dev", text=f"question {n}") for n in range(4)),
        Case(id="s1", topic="t9", split="dev", text="staff question", asker="staff"),
    ],
)
ARMS = (
    Arm(name="base", pin=Pin(knowledge="k-1@3", model="m-base-1")),
    Arm(name="tuned", pin=Pin(knowledge="k-1@3", model="m-tuned-1")),
)


class Gateway:
    """Answers everything until it is told to fail."""

    def __init__(self, *, askers: frozenset[str] = frozenset({"customer"})) -> None:
        self.askers = askers
        self.asked: list[tuple[str, str]] = []
        self.searched: list[tuple[str, str]] = []
        self.stop_after: int | None = None
        self.failing: set[str] = set()

    async def answer(self, case: Case, arm: Arm) -> Observation:
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise GatewayUnavailableError("gone")
        self.asked.append((case.id, arm.name))
        if case.id in self.failing:
            return Observation(case_id=case.id, arm=arm.name, error="504")
        return Observation(case_id=case.id, arm=arm.name, status="answered", answer="yes")

    async def search(self, case: Case, knowledge: str, *, depth: int) -> Ranking:
        self.searched.append((case.id, knowledge))
        return Ranking(case_id=case.id, knowledge=knowledge)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    record = plan(
        run_id="run",
        gateway_url="http://gateway.invalid",
        cases=CASES,
        selection={},
        requested=ARMS,
        arms=ARMS,
        stable_knowledge="k-1@3",
    )
    folder.create(record, CASES)
    return folder


async def test_asks_question_by_question_and_searches_once_per_knowledge_version(folder: RunFolder) -> None:
    gateway = Gateway()
    data = await measure(folder, gateway, concurrency=1, out=io.StringIO())
    assert gateway.asked[:4] == [("q0", "base"), ("q0", "tuned"), ("q1", "base"), ("q1", "tuned")]
    assert gateway.searched == [(f"q{n}", "k-1@3") for n in range(4)]
    assert len(data.observations) == 8
    (session,) = data.record.sessions
    assert session["outcome"] == "complete"
    assert session["ended"] >= session["started"]
    assert {"git_revision", "packages", "machine"} <= set(session)


async def test_staff_questions_wait_for_a_staff_key(folder: RunFolder) -> None:
    first = await measure(folder, Gateway(), concurrency=2, out=io.StringIO())
    assert ("s1", "base") not in first.observations
    staff = Gateway(askers=frozenset({"customer", "staff"}))
    second = await measure(folder, staff, concurrency=2, out=io.StringIO())
    assert staff.asked == [("s1", "base"), ("s1", "tuned")]
    assert len(second.observations) == 10


async def test_an_interrupted_run_goes_on_and_asks_nothing_twice(folder: RunFolder) -> None:
    gateway = Gateway()
    gateway.stop_after = 3
    with pytest.raises(GatewayUnavailableError):
        await measure(folder, gateway, concurrency=1, out=io.StringIO())
    assert folder.read().record.sessions[0]["outcome"] == "stopped: gone"
    again = Gateway()
    data = await measure(folder, again, concurrency=1, out=io.StringIO())
    assert gateway.asked + again.asked == [(f"q{n}", arm) for n in range(4) for arm in ("base", "tuned")]
    assert [session["outcome"] for session in data.record.sessions] == ["stopped: gone", "complete"]


async def test_failed_answers_are_asked_again_and_the_last_counts(folder: RunFolder) -> None:
    gateway = Gateway()
    gateway.failing = {"q2"}
    data = await measure(folder, gateway, concurrency=1, out=io.StringIO())
    assert data.observations["q2", "base"].failed
    gateway.failing, gateway.asked = set(), []
    data = await measure(folder, gateway, concurrency=1, out=io.StringIO())
    assert gateway.asked == [("q2", "base"), ("q2", "tuned")]
    assert not data.observations["q2", "base"].failed


async def test_a_line_cut_off_by_a_crash_is_asked_again(folder: RunFolder) -> None:
    await measure(folder, Gateway(), concurrency=1, out=io.StringIO())
    results = folder.path / "results.jsonl"
    results.write_bytes(results.read_bytes()[:-40])
    assert len(folder.read().observations) == 7
    gateway = Gateway()
    data = await measure(folder, gateway, concurrency=1, out=io.StringIO())
    assert gateway.asked == [("q3", "tuned")]
    assert len(data.observations) == 8


async def test_repeats_come_after_everything_was_asked_once(folder: RunFolder) -> None:
    folder.save(replace(folder.read().record, repeats=3))
    gateway = Gateway()
    data = await measure(folder, gateway, concurrency=1, out=io.StringIO())
    once = [(f"q{n}", arm) for n in range(4) for arm in ("base", "tuned")]
    assert gateway.asked == once * 3
    assert len(gateway.searched) == 4, "a search is not repeated"
    assert set(data.observations) == set(once)
    assert set(data.repeated) == {(*key, repeat) for key in once for repeat in (1, 2)}
    assert data.seen("q1", "base", 2) == replace(data.observations["q1", "base"], repeat=2)


async def test_an_interrupted_repeat_goes_on_where_it_stopped(folder: RunFolder) -> None:
    folder.save(replace(folder.read().record, repeats=2))
    gateway = Gateway()
    gateway.stop_after = 11
    with pytest.raises(GatewayUnavailableError):
        await measure(folder, gateway, concurrency=1, out=io.StringIO())
    again = Gateway()
    data = await measure(folder, again, concurrency=1, out=io.StringIO())
    assert again.asked == [("q1", "tuned"), *((f"q{n}", arm) for n in (2, 3) for arm in ("base", "tuned"))]
    assert len(data.observations) == len(data.repeated) == 8


async def test_a_question_that_comes_with_its_passages_is_searched_nowhere_and_survives_its_line(
    tmp_path: Path,
) -> None:
    case = Case(
        id="row",
        topic="plans",
        split="test",
        text="how much?",
        facts=(("$9",), ("14 days",)),
        side_facts=(("14 days",),),
        fields=(("intent", "billing"), ("escalate", False)),
        required=("Ask again.",),
        passages=(GivenPassage(title="Prices", text="$9 a month.", effective_from="2026-01-01"),),
    )
    folder, gateway = RunFolder(tmp_path / "rows"), Gateway()
    cases = CaseSet.of("rows", [case])
    record = plan(
        run_id="rows",
        gateway_url="",
        cases=cases,
        selection={},
        requested=ARMS,
        arms=ARMS,
        stable_knowledge="k-1@3",
    )
    folder.create(record, cases)
    data = await measure(folder, gateway, concurrency=1, out=io.StringIO())
    assert (gateway.searched, data.rankings) == ([], {})
    assert data.cases == (case,)
    assert data.cases[0].vital_facts == (("$9",),)


def test_changed_questions_are_noticed(folder: RunFolder) -> None:
    cases = folder.path / "cases.jsonl"
    cases.write_text(cases.read_text().replace("question 1", "another question"))
    with pytest.raises(RunError, match=r"cases\.jsonl: changed"):
        folder.read()


def test_a_folder_with_other_files_is_not_taken(folder: RunFolder, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="holds other files"):
        RunFolder(other).create(folder.read().record, CASES)
    assert sorted(path.name for path in other.iterdir()) == ["letter.txt"]


def test_what_is_not_a_run_is_refused(folder: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run\.json"):
        RunFolder(tmp_path / "nowhere").read()
    folder.save(replace(folder.read().record, format=99))
    with pytest.raises(RunError, match="format 99"):
        folder.read()
    (folder.path / "run.json").write_text("[]")
    with pytest.raises(RunError, match="not a run record"):
        folder.read()


def test_an_arm_without_retrieval_is_held_against_the_stable_version() -> None:
    record = plan(
        run_id="run",
        gateway_url="",
        cases=CASES,
        selection={},
        requested=ARMS,
        arms=[Arm(name="prompt_only", pin=Pin(model="m-base-1", context="none"))],
        stable_knowledge="k-1@3",
    )
    assert record.knowledge == ("k-1@3",)


def test_progress_says_how_far_how_fast_and_how_long_still() -> None:
    now = iter([0.0, *[10.0] * 9])
    out = io.StringIO()
    progress = Progress(out=out, total=20, skipped=10, clock=lambda: next(now))
    progress.step(failed=True)
    assert out.getvalue() == "eval: 11/20, 0.10/s, 1 min 30 s left, 1 failed\n"
