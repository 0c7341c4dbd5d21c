"""Policies by labels: what was checked, what was broken, and of what it could not be told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from eval.arms import Arm, Pin
from eval.flips import Flips
from eval.gating.policies import policy_from_labels
from eval.gating.sides import Side
from eval.labelling.labels import Check, Finding, Label, LabelRecord, Outcome
from eval.labelling.records import LabelFile
from eval.observations import Observation

PROMISE = Finding(label=Label.POLICY_VIOLATION, sub="promise", rule="1c", evidence=("no_promise",))
TONE = Finding(label=Label.WRONG_TONE, sub="", rule="8a", evidence=("tone_kept",))


def record(case_id: str, *found: Finding, source: str = "auto", **checks: bool | None) -> LabelRecord:
    """A label with these findings, primary first, and these checks."""
    return LabelRecord(
        run="run",
        turn_id=f"turn-{case_id}",
        case_id=case_id,
        arm="new",
        cluster="t",
        task_type="",
        outcome=Outcome.FAILED if found else Outcome.PASSED,
        primary=found[0] if found else None,
        contributing=found[1:],
        checks=tuple(
            Check(name=name, value=value, detail="", version=f"{name}-1") for name, value in checks.items()
        ),
        criteria="c1-00000000",
        source=source,
    )


def arm(*answered: str) -> Side:
    """The arm with an answer to each of these questions, in a turn of the question's name."""
    return Side(
        run="run",
        arm=Arm(name="new", pin=Pin()),
        answers={
            case_id: Observation(case_id=case_id, arm="new", turn_id=f"turn-{case_id}")
            for case_id in answered
        },
        outcomes={},
        flips=Flips(repeats=1, rates={}),
    )


def judged(folder: Path, *records: LabelRecord) -> tuple[int, tuple[str, ...], int]:
    """Checked, broken and unknown of the arm `new`."""
    LabelFile(folder).write(records)
    line = policy_from_labels(folder, arm(*dict.fromkeys(each.case_id for each in records)))
    return line.checked, line.broken, line.unknown


def test_a_violation_counts_wherever_it_stands_and_other_failures_do_not(tmp_path: Path) -> None:
    found = judged(tmp_path, record("a", PROMISE), record("b", TONE, PROMISE), record("c", TONE), record("d"))
    assert found == (4, ("a", "b"), 0)


def test_other_arms_and_run_errors_are_not_checked(tmp_path: Path) -> None:
    lost = replace(record("a"), outcome=Outcome.RUN_ERROR)
    assert judged(tmp_path, lost, replace(record("b", PROMISE), arm="old"), record("c")) == (1, (), 2)


def test_an_answer_that_was_asked_again_has_no_label_any_more(tmp_path: Path) -> None:
    assert judged(tmp_path, replace(record("a", PROMISE), turn_id="earlier"), record("b")) == (1, (), 1)


@pytest.mark.parametrize("person_last", [True, False])
def test_a_persons_word_counts_whatever_comes_later(tmp_path: Path, person_last: bool) -> None:
    records = [record("a", PROMISE), record("a", source="human")]
    assert judged(tmp_path, *(records if person_last else records[::-1])) == (1, (), 0)


def test_what_could_not_be_told_is_not_checked(tmp_path: Path) -> None:
    """Of a leak nobody looked up; a duty to refuse that does not apply leaves nothing open."""
    open_leak = record("a", nothing_internal=None, no_promise=True)
    no_duty = record("b", nothing_internal=True, must_refuse=False, refused=None)
    open_duty = record("c", nothing_internal=True, must_refuse=True, refused=None)
    assert judged(tmp_path, open_leak, no_duty, open_duty) == (1, (), 2)


def test_without_labels_it_says_what_to_do(tmp_path: Path) -> None:
    line = policy_from_labels(tmp_path, arm("a", "b"))
    assert (line.checked, line.at_most, line.unknown) == (0, None, 2)
    assert "twinrail eval label" in line.note
