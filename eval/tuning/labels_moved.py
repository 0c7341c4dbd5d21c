"""Which failures the candidate mends and which it brings, by the label of the failure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from eval.labelling.labels import LabelRecord, Outcome
from eval.labelling.records import HUMAN


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """One label, against one arm."""

    label: str
    #: Failures of this label in the other arm, and those of them that the candidate passes.
    failed: int
    fixed: int
    #: Failures of this label in the candidate on questions that the other arm passes.
    broke: int


def moved(records: Iterable[LabelRecord], *, candidate: str, other: str) -> tuple[Moved, ...]:
    """What became of each label, on questions that were judged in both arms; what a person said counts."""
    known: dict[tuple[str, str], LabelRecord] = {}
    for record in records:
        key = record.case_id, record.arm
        if key not in known or record.source == HUMAN:
            known[key] = record
    failed: Counter[str] = Counter()
    fixed: Counter[str] = Counter()
    broke: Counter[str] = Counter()
    for (case_id, arm), theirs in known.items():
        ours = known.get((case_id, candidate))
        if arm != other or ours is None or Outcome.RUN_ERROR in (ours.outcome, theirs.outcome):
            continue
        if theirs.outcome is Outcome.FAILED:
            failed[label_of(theirs)] += 1
            fixed[label_of(theirs)] += ours.outcome is Outcome.PASSED
        elif ours.outcome is Outcome.FAILED:
            broke[label_of(ours)] += 1
    return tuple(
        Moved(label=label, failed=failed[label], fixed=fixed[label], broke=broke[label])
        for label in sorted({*failed, *broke})
    )


def label_of(record: LabelRecord) -> str:
    """The primary label of a failure, with its finer cause."""
    if record.primary is None:
        return "undetermined"
    return ".".join(filter(None, (record.primary.label.value, record.primary.sub)))
