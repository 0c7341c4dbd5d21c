"""Failures that a candidate mends and brings."""

from __future__ import annotations

from eval.labelling.labels import Finding, Label, LabelRecord, Outcome
from eval.tuning.labels_moved import Moved, moved


def record(case_id: str, arm: str, label: Label | None = None, *, source: str = "auto") -> LabelRecord:
    found = Finding(label=label, sub="", rule="1", evidence=()) if label else None
    return LabelRecord(
        run="run",
        turn_id=f"{case_id}-{arm}",
        case_id=case_id,
        arm=arm,
        cluster="",
        task_type="",
        outcome=Outcome.FAILED if label else Outcome.PASSED,
        primary=found,
        criteria="c1",
        source=source,
    )


def test_labels_that_went_and_labels_that_came() -> None:
    tone, made_up = Label.WRONG_TONE, Label.HALLUCINATION
    records = [
        *(record(f"q{n}", "strong", tone) for n in range(3)),
        *(record(f"q{n}", "strong") for n in range(3, 6)),
        *(record(f"q{n}", "candidate") for n in range(2)),
        record("q2", "candidate", made_up),
        record("q3", "candidate", made_up),
        record("q4", "candidate"),
    ]
    assert moved(records, candidate="candidate", other="strong") == (
        Moved(label="hallucination", failed=0, fixed=0, broke=1),
        Moved(label="wrong_tone", failed=3, fixed=2, broke=0),
    )


def test_what_a_person_says_counts() -> None:
    records = [
        record("q0", "strong", Label.WRONG_TONE),
        record("q0", "candidate", Label.HALLUCINATION),
        record("q0", "candidate", source="human"),
    ]
    assert moved(records, candidate="candidate", other="strong") == (
        Moved(label="wrong_tone", failed=1, fixed=1, broke=0),
    )
