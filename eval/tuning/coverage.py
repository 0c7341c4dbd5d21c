"""What an answer's confidence is worth: risk against coverage, and abstaining at equal cost.

Confidence is what the gateway says of an answer: that the hits hold it, times the share of its claims that a
passage supports. Where one of the two is not known the other stands alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from eval.cases import Case
from eval.gating.sides import METRIC, Side
from eval.observations import Observation
from eval.stats import Rate

#: Shares of all questions at which the risk is told.
COVERAGES = (0.25, 0.5, 0.75)
#: Endings without an answer of the model.
_SILENT = ("abstained", "fallback")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The answers that are at least so sure."""

    #: Of all questions.
    coverage: float
    #: Share of wrong ones among these answers.
    risk: float
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One arm: what is served at each cut, from the surest answer on."""

    questions: int
    served: Rate
    points: tuple[Point, ...]
    #: Mean risk over the coverage that the arm reaches; None where it serves nothing.
    area: float | None

    def risk_at(self, coverage: float) -> float | None:
        """The risk where at least so many questions are served; None where the arm never serves so many."""
        return next((point.risk for point in self.points if point.coverage >= coverage - 1e-9), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Abstaining:
    """Two arms, each cut where the one that abstains more without need does."""

    #: Questions that must not be answered and got no answer: as they came, and at the cut.
    own: Rate
    theirs: Rate
    at_equal_own: Rate
    at_equal_theirs: Rate
    #: Of those that have an answer, the ones given up at the cut.
    given_up_own: Rate
    given_up_theirs: Rate

    def rates(self) -> dict[str, Rate]:
        """Each by its name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def confidence(seen: Observation) -> float:
    """How sure the gateway is of an answer, 0 to 1."""
    known = [value for value in (seen.confidence, seen.grounded) if value is not None]
    sure = 1.0
    for value in known:
        sure *= value
    return sure


def curve(side: Side, cases: Sequence[Case], metric: str) -> Curve | None:
    """Risk by coverage over the questions of which it is known whether the answer is right."""
    judged = [
        (case.id, right) for case in cases if (right := side.passes(case.id, METRIC[metric])) is not None
    ]
    if not judged:
        return None
    served = sorted(
        (
            (confidence(side.answers[case_id]), right)
            for case_id, right in judged
            if side.answers[case_id].status not in (*_SILENT, "clarify")
        ),
        key=lambda each: -each[0],
    )
    points: list[Point] = []
    wrong = 0
    for n, (sure, right) in enumerate(served, start=1):
        wrong += not right
        # Answers that are equally sure come and go together.
        if n == len(served) or served[n][0] < sure:
            points.append(Point(coverage=n / len(judged), risk=wrong / n, confidence=sure))
    return Curve(
        questions=len(judged),
        served=Rate(k=len(served), n=len(judged)),
        points=tuple(points),
        area=_area(points),
    )


def _area(points: Sequence[Point]) -> float | None:
    if not points:
        return None
    covered, area = 0.0, 0.0
    for point in points:
        area += point.risk * (point.coverage - covered)
        covered = point.coverage
    return area / covered


def abstaining(own: Side, other: Side, cases: Iterable[Case]) -> Abstaining | None:
    """Whether an arm that abstains more knows more, or only says less.

    The arm that gives up fewer answerable questions is cut at its least sure answers until it gives up as
    many as the other one. None where no question of either kind is there.
    """
    both = [case for case in cases if case.id in own.answered & other.answered and case.status is not None]
    due = [case.id for case in both if case.status == "abstained"]
    have = [case.id for case in both if case.status != "abstained"]
    if not due or not have:
        return None
    wanted = max(_silent(side, have, cut=-1.0) for side in (own, other))
    cuts = {side.arm.name: _cut(side, have, wanted) for side in (own, other)}

    def rate(side: Side, ids: Sequence[str], cut: float) -> Rate:
        return Rate(k=_silent(side, ids, cut=cut), n=len(ids))

    return Abstaining(
        own=rate(own, due, -1.0),
        theirs=rate(other, due, -1.0),
        at_equal_own=rate(own, due, cuts[own.arm.name]),
        at_equal_theirs=rate(other, due, cuts[other.arm.name]),
        given_up_own=rate(own, have, cuts[own.arm.name]),
        given_up_theirs=rate(other, have, cuts[other.arm.name]),
    )


def _silent(side: Side, ids: Sequence[str], *, cut: float) -> int:
    """Questions that get no answer where what is not surer than the cut is held back."""
    return sum(
        side.answers[case_id].status in _SILENT or confidence(side.answers[case_id]) <= cut for case_id in ids
    )


def _cut(side: Side, ids: Sequence[str], wanted: int) -> float:
    """The lowest cut at which at least so many are given up."""
    cuts = sorted({-1.0, *(confidence(side.answers[case_id]) for case_id in ids)})
    return next(cut for cut in cuts if _silent(side, ids, cut=cut) >= wanted)
