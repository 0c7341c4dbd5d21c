"""What came of the faults: how often the label is right, what is taken for what, and what a simpler way gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.faults.suite import Fault
from eval.labelling.labels import Label, LabelRecord, Outcome
from eval.scorers import Outcome as Scored
from eval.scorers import Score
from eval.stats import Rate

#: Share of right primary labels that the suite asks for.
BAR = 0.95
PASSED, RUN_ERROR = "passed", "run_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A fault with the label that it got, and the one that the metrics alone would give."""

    fault: Fault
    record: LabelRecord
    by_metrics: str

    @property
    def primary(self) -> str:
        """The primary label, or how the turn came out if it has none."""
        return primary_of(self.record)

    @property
    def is_right(self) -> bool:
        """Whether the primary label is the seed's."""
        return self.primary == self.fault.seed.label

    @property
    def names_both(self) -> bool:
        """Whether a mixed fault's second label stands beside the first."""
        second = self.fault.seed.contributing
        return self.is_right and second in {finding.label for finding in self.record.contributing}


def primary_of(record: LabelRecord) -> str:
    """The primary label, `passed` or `run_error`."""
    if record.outcome is Outcome.RUN_ERROR:
        return RUN_ERROR
    return record.primary.label.value if record.primary else PASSED


def label_by_metrics(scores: Mapping[str, Scored]) -> str:
    """The usual way without evidence: the first metric that is not as it should be names the layer."""
    for name, right, label in (
        ("gold_in_prompt", 1, Label.WRONG_RETRIEVAL),
        ("format_valid", 1, Label.BAD_FORMAT),
        ("hallucination_draft", 0, Label.HALLUCINATION),
        ("answer_vital", 1, Label.WEAK_REASONING),
        ("tone_kept", 1, Label.WRONG_TONE),
    ):
        score = scores.get(name)
        if isinstance(score, Score) and score.value != right:
            return label.value
    return PASSED


def rates(judged: Sequence[Judged]) -> dict[str, tuple[Rate, Rate]]:
    """For each label of the faults: right ones by evidence, and by metrics alone."""
    found: dict[str, tuple[Rate, Rate]] = {}
    for label in dict.fromkeys(each.fault.seed.label.value for each in judged):
        of_label = [each for each in judged if each.fault.seed.label == label]
        found[label] = _both_ways(of_label)
    return found


def overall(judged: Sequence[Judged]) -> tuple[Rate, Rate] | None:
    """All faults: right ones by evidence, and by metrics alone; None where there is no fault."""
    return _both_ways(judged) if judged else None


def _both_ways(judged: Sequence[Judged]) -> tuple[Rate, Rate]:
    n = len(judged)
    return (
        Rate(k=sum(each.is_right for each in judged), n=n),
        Rate(k=sum(each.by_metrics == each.fault.seed.label for each in judged), n=n),
    )


def confusion(judged: Sequence[Judged]) -> dict[str, Counter[str]]:
    """Label put in -> labels that came out."""
    table: dict[str, Counter[str]] = {}
    for each in judged:
        table.setdefault(each.fault.seed.label.value, Counter())[each.primary] += 1
    return table


def by_seed(judged: Sequence[Judged]) -> dict[str, Counter[str]]:
    """Seed -> labels that came out."""
    table: dict[str, Counter[str]] = {}
    for each in judged:
        table.setdefault(each.fault.seed.name, Counter())[each.primary] += 1
    return table
