"""Failures counted by label, layer and cluster, each as k of n with an interval, and what that can show."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from math import ceil

from eval.advice.evidence import ArmLog, Row
from eval.advice.layers import Group, Layer, code_of, group_of, layer_of
from eval.stats import Interval, Pair, cluster_interval, mcnemar, power, wilson, worst_difference

#: Fewer decided questions than this give no verdict.
FLOOR_QUESTIONS = 50
#: A group is serious when its share is above this, by the lower end of its interval: 8 of 100.
SERIOUS_ABOVE = 0.04
#: ... and small when its share is below this by the upper end: 4 of 100.
SMALL_BELOW = 0.10
#: Failures in one cluster alone say something of that cluster, not of the system.
LEAST_CLUSTERS = 2
#: Gains that differences are asked for when nothing was measured yet.
ASKED_GAIN = 0.10
#: A difference is shown where the exact p is below this and the interval over clusters agrees.
SHOWN_BELOW = 0.05
_MOST_QUESTIONS = 5000


class State(StrEnum):
    """What the counts say of a group of failures."""

    SERIOUS = "serious"
    SMALL = "small"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """k of n questions with Wilson's interval, and in how many clusters the k stand."""

    k: int
    n: int
    value: float
    low: float
    high: float
    clusters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCount:
    """A group of failures in one arm."""

    group: Group
    share: Share
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCount:
    """A label in one arm: as the cause, and as something that was wrong beside it."""

    label: str
    layer: Layer
    share: Share
    contributing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterCount:
    """The labels of one cluster in one arm."""

    cluster: str
    asked: int
    failed: int
    labels: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two arms on the questions that both were decided on; `second` minus `first` in passed answers."""

    first: str
    second: str
    n: int
    clusters: int
    first_passed: int
    second_passed: int
    value: float
    low: float | None
    high: float | None
    #: McNemar's exact p. Draws of a few clusters that all agree give no width, which says nothing of others.
    p: float
    #: One-sided 95 % upper bound, which is not empty where no question moved.
    at_most: float

    @property
    def better(self) -> bool:
        """Whether the second arm is shown to be better."""
        return self.p < SHOWN_BELOW and self.low is not None and self.low > 0

    @property
    def worse(self) -> bool:
        """Whether the second arm is shown to be worse."""
        return self.p < SHOWN_BELOW and self.high is not None and self.high < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """How intervals over clusters are drawn; the same seed gives the same numbers."""

    resamples: int
    seed: int

    def interval(self, pairs: Sequence[Pair]) -> Interval | None:
        """Of the mean difference; None below two clusters."""
        return cluster_interval(pairs, resamples=self.resamples, seed=self.seed)

    def at_most(self, pairs: Sequence[Pair]) -> float:
        """What the mean difference is at most, 95 % one-sided."""
        turned = [Pair(cluster=pair.cluster, first=pair.second, second=pair.first) for pair in pairs]
        return -worst_difference(turned, resamples=self.resamples, seed=self.seed)


def share_of(rows: Sequence[Row], counts: Callable[[Row], bool]) -> Share:
    """The share of rows that count; there is at least one row."""
    hit = [row for row in rows if counts(row)]
    interval = wilson(len(hit), len(rows))
    return Share(
        k=len(hit),
        n=len(rows),
        value=len(hit) / len(rows),
        low=interval.low,
        high=interval.high,
        clusters=len({row.cluster for row in hit}),
    )


def state_of(share: Share) -> State:
    """Serious, small, or not to be told with so many questions."""
    if share.low > SERIOUS_ABOVE and share.clusters >= LEAST_CLUSTERS:
        return State.SERIOUS
    return State.SMALL if share.high < SMALL_BELOW else State.UNCLEAR


def group_counts(arm: ArmLog) -> dict[Group, GroupCount]:
    """Every group in an arm, also those without a failure."""
    found = {}
    for group in Group:
        share = share_of(arm.decided, lambda row, group=group: group_of(row, arm.kind) is group)  # type: ignore[misc]
        found[group] = GroupCount(group=group, share=share, state=state_of(share))
    return found


def label_counts(arm: ArmLog) -> tuple[LabelCount, ...]:
    """Every label and sub-code that occurs, most frequent first."""
    rows = arm.decided
    codes: dict[str, Row] = {code_of(row): row for row in rows if row.label is not None}
    beside = Counter(label for row in rows for label in row.contributing)
    counted = [
        LabelCount(
            label=code,
            layer=layer,
            share=share_of(rows, lambda row, code=code: code_of(row) == code),  # type: ignore[misc]
            contributing=beside[example.label] if example.label and not example.sub else 0,
        )
        for code, example in codes.items()
        if (layer := layer_of(example, arm.kind)) is not None
    ]
    return tuple(sorted(counted, key=lambda count: (-count.share.k, count.label)))


def cluster_counts(arm: ArmLog) -> tuple[ClusterCount, ...]:
    """Every cluster, most failures first."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in arm.decided:
        rows[row.cluster].append(row)
    counted = [
        ClusterCount(
            cluster=cluster,
            asked=len(found),
            failed=sum(row.failed for row in found),
            labels=dict(sorted(Counter(row.label.value for row in found if row.label).items())),
        )
        for cluster, found in rows.items()
    ]
    return tuple(sorted(counted, key=lambda count: (-count.failed, count.cluster)))


def difference(first: ArmLog, second: ArmLog, draws: Draws) -> Difference | None:
    """What the second arm passes more, with an interval over clusters; None if they share no question."""
    others = {row.case_id: row for row in second.decided}
    both = [(row, others[row.case_id]) for row in first.decided if row.case_id in others]
    if not both:
        return None
    pairs = [
        Pair(cluster=one.cluster, first=float(not one.failed), second=float(not two.failed))
        for one, two in both
    ]
    interval = draws.interval(pairs)
    return Difference(
        first=first.name,
        second=second.name,
        n=len(pairs),
        clusters=len({pair.cluster for pair in pairs}),
        first_passed=sum(pair.first > 0 for pair in pairs),
        second_passed=sum(pair.second > 0 for pair in pairs),
        value=sum(pair.second - pair.first for pair in pairs) / len(pairs),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        p=mcnemar(pairs).p,
        at_most=draws.at_most(pairs),
    )


def clearly_more(arm: ArmLog, more: Group, less: Group, draws: Draws) -> bool:
    """Whether one group is shown to hold more failures than another: by the exact test, and over clusters."""
    pairs = [
        Pair(
            cluster=row.cluster,
            first=float(group_of(row, arm.kind) is less),
            second=float(group_of(row, arm.kind) is more),
        )
        for row in arm.decided
    ]
    interval = draws.interval(pairs)
    return interval is not None and interval.low > 0 and mcnemar(pairs).p < SHOWN_BELOW


@cache
def questions_to_tell(value: float) -> int | None:
    """How many questions in all would tell whether such a share is serious; None if thousands would not."""
    for n in range(FLOOR_QUESTIONS, _MOST_QUESTIONS + 1, 10):
        interval = wilson(round(value * n), n)
        if interval.low > SERIOUS_ABOVE or interval.high < SMALL_BELOW:
            return n
    return None


@cache
def questions_for_gain(gain: float) -> int | None:
    """The smallest number of questions, in steps of 10, that shows a gain four times in five."""
    if gain <= 0:
        return None
    low, high = 1, 100
    if power(high * 10, gain) < 0.8:
        return None
    while low < high:
        middle = (low + high) // 2
        if power(middle * 10, gain) >= 0.8:
            high = middle
        else:
            low = middle + 1
    return low * 10


def missing_questions(present: int, needed: int) -> int:
    """How many are still to be asked, rounded up to tens."""
    return max(0, ceil((needed - present) / 10) * 10)
