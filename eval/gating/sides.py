"""The two arms of a gate, and the questions that both were measured on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log

from eval.arms import Arm
from eval.cases import Case
from eval.errors import ArmError
from eval.flips import Flips
from eval.gating.verdicts import Subject
from eval.metrics import METRICS, Metric
from eval.observations import Observation
from eval.scorers import Outcome, Score, ScoreFailure
from eval.stats import Pair, Rate

METRIC = {metric.name: metric for metric in METRICS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One arm of one run. Answers and scores by question; an answer that failed has no scores."""

    run: str
    arm: Arm
    answers: Mapping[str, Observation]
    outcomes: Mapping[str, Mapping[str, Outcome]]
    flips: Flips

    @property
    def answered(self) -> frozenset[str]:
        """Questions with an answer."""
        return frozenset(case_id for case_id, seen in self.answers.items() if not seen.failed)

    def passes(self, case_id: str, metric: Metric) -> bool | None:
        """Whether the answer is right by this metric; None where there is no score."""
        outcome = self.outcomes.get(case_id, {}).get(metric.name)
        if not isinstance(outcome, Score):
            return None
        return (outcome.value > 0.5) == metric.higher_is_better

    def could_not_tell(self, case_id: str, metric: Metric) -> bool:
        """Whether the metric applies and its score is missing."""
        return isinstance(self.outcomes.get(case_id, {}).get(metric.name), ScoreFailure)

    def detail(self, case_id: str, metric: Metric) -> str:
        """Why it has the score that it has."""
        outcome = self.outcomes.get(case_id, {}).get(metric.name)
        if isinstance(outcome, Score):
            return outcome.detail
        return outcome.reason if outcome is not None else "no answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """One metric on the questions that both arms were scored on. A pair's values say 1 for good."""

    metric: Metric
    pairs: tuple[Pair, ...]
    #: Questions of which a score is missing in an arm, and those that it applies to in one arm only.
    missing: int
    one_arm_only: int

    @property
    def stable(self) -> Rate:
        """As the metric counts, so that a hallucination rate stays one."""
        return self._rate([pair.first for pair in self.pairs])

    @property
    def candidate(self) -> Rate:
        """The same of the other arm."""
        return self._rate([pair.second for pair in self.pairs])

    def _rate(self, good: Sequence[float]) -> Rate:
        k = sum(value > 0.5 for value in good)
        return Rate(k=k if self.metric.higher_is_better else len(good) - k, n=len(good))


def match(metric: Metric, stable: Side, candidate: Side, cases: Iterable[Case]) -> Matched:
    """Pair the scores of both arms, question by question."""
    pairs: list[Pair] = []
    missing = one_arm_only = 0
    for case in cases:
        first, second = stable.passes(case.id, metric), candidate.passes(case.id, metric)
        if first is not None and second is not None:
            pairs.append(Pair(cluster=case.topic, first=float(first), second=float(second)))
        elif any(side.could_not_tell(case.id, metric) for side in (stable, candidate)):
            missing += 1
        elif first is not None or second is not None:
            one_arm_only += 1
    return Matched(metric=metric, pairs=tuple(pairs), missing=missing, one_arm_only=one_arm_only)


def flip_rate(metric: Metric, stable: Side, candidate: Side) -> Rate | None:
    """The larger flip rate of the two arms: a difference is no clearer than its shakier side."""
    rates = [
        rate
        for side in (stable, candidate)
        if (rate := side.flips.rate(side.arm.name, metric.name)) is not None
    ]
    return max(rates, key=lambda rate: rate.value, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A figure of both arms on the same questions: values as they are, and pairs of their logarithms."""

    stable: tuple[float, ...]
    candidate: tuple[float, ...]
    logs: tuple[Pair, ...]


def match_measure(measure: str, stable: Side, candidate: Side, cases: Iterable[Case]) -> Measured:
    """Pair a figure. An answer without one, an abstention before generation for instance, says nothing."""
    rows = []
    for case in cases:
        values = [_measure(side.answers.get(case.id), measure) for side in (stable, candidate)]
        if values[0] and values[1]:
            rows.append((case.topic, values[0], values[1]))
    return Measured(
        stable=tuple(first for _, first, _ in rows),
        candidate=tuple(second for _, _, second in rows),
        logs=tuple(
            Pair(cluster=topic, first=log(first), second=log(second)) for topic, first, second in rows
        ),
    )


def _measure(seen: Observation | None, measure: str) -> float | None:
    if seen is None or seen.failed:
        return None
    return {
        "wall_ms": seen.wall_ms,
        "prompt_tokens": seen.prompt_tokens,
        "completion_tokens": seen.completion_tokens,
    }[measure]


def subject_of(stable: Arm, candidate: Arm, *, rail: str | None = None) -> Subject:
    """The one version in which the arms differ: a verdict about two changes at once would be about neither.

    `rail` names it where both rails differ, for a candidate that goes out as a whole.
    """
    for arm in (stable, candidate):
        if arm.pin.prompt is not None:
            raise ArmError(
                f"{arm.name}: was asked with a prompt of no version ({arm.pin.prompt.name}), and a verdict "
                "is about a version; register it (`twinrail model register`) and pin its id"
            )
    if stable.pin.context != candidate.pin.context:
        raise ArmError(
            f"{candidate.name}, {stable.name}: one is given its context and the other is not, so they are no "
            "two versions; use `twinrail eval compare`"
        )
    ids = {
        name: tuple((getattr(arm.pin, name) or "").partition("@")[0] for arm in (stable, candidate))
        for name in ("knowledge", "model")
    }
    changed = [name for name, (first, second) in ids.items() if first != second]
    if not changed:
        same = ", ".join(filter(None, (first for first, _ in ids.values())))
        raise ArmError(f"{candidate.name}, {stable.name}: the same versions ({same}); a gate compares two")
    if rail is None and len(changed) > 1:
        raise ArmError(
            f"{candidate.name}, {stable.name}: differ on both rails, so the cause of a difference is not "
            "known; run them with one rail changed, or say --rail knowledge or --rail model"
        )
    if rail is not None and rail not in changed:
        raise ArmError(f"--rail {rail}: both arms use {ids[rail][0]} there; leave it out")
    chosen = rail or changed[0]
    first, second = ids[chosen]
    return Subject(rail=chosen, version=second, against=first)
