"""Two index versions on the same questions: how well each finds, how much they differ, what tells them apart.

Documents are compared, not chunks: versions may cut texts differently. A question that one version failed on
counts in no figure; it is counted beside them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from eval.cases import Case
from eval.comparing import Searched, Sides
from eval.observations import Ranking
from eval.stats import Interval, Pair, Rate, cluster_interval, exact_p, mean, median, ndcg

#: What a ranking is judged by to its tenth document, whatever k is.
_RANKING_DEPTH = 10
#: The figure that is right or wrong for each question.
HIT = "hit@1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """One figure of both versions over the same questions. Intervals are of draws of whole topics."""

    name: str
    n: int
    clusters: int
    first: float
    first_interval: Interval | None
    second: float
    second_interval: Interval | None
    difference: float
    interval: Interval | None
    #: Questions on which the second is higher, and lower.
    wins: int
    losses: int
    #: Of the exact sign test.
    p: float

    @property
    def resolved(self) -> bool:
        """Whether the questions tell the versions apart: by the sign test and by the interval."""
        apart = self.interval is not None and (self.interval.low > 0 or self.interval.high < 0)
        return self.p < 0.05 and apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One question that a version answers better than the other."""

    case: Case
    #: Rank of the first gold document, by document; None: not found.
    first_rank: int | None
    second_rank: int | None
    #: nDCG@10, second minus first.
    difference: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Figures over questions with gold documents."""

    n: int
    figures: tuple[Paired, ...]
    #: nDCG@10 by kind of question.
    kinds: Mapping[str, Paired]
    #: Worst first: what the second version loses, then what it gains.
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One version on the questions that both were asked."""

    knowledge: str
    empty: int
    median_confidence: float | None
    #: Questions that would get no answer, of those whose threshold the gateway told.
    abstained: Rate | None
    median_ms: float | None
    median_wall_ms: float | None
    degraded: Mapping[str, int]
    #: Why there is no reply, with counts.
    failures: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One question whose first k documents differ."""

    case: Case
    #: 0 to 1, first places counting most: 1 less the mean share that the first 1, 2 ... k have in common.
    distance: float
    #: Documents that both have among their first k.
    shared: int
    #: Their first k documents.
    first: tuple[str, ...]
    second: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How much the two orders differ, gold or not: over the first k documents."""

    #: Share of the first k that both have; None: neither found anything anywhere.
    overlap: float | None
    #: Of questions with hits on both sides.
    top_changed: Rate | None
    #: Places that a document moves, over documents that both have among their first k.
    displacement: float | None
    #: Questions whose first k are the same documents in the same order.
    same: int
    confidence: Paired | None
    #: Which questions those are that differ, the most moved first.
    moved: tuple[Move, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionComparison:
    """Everything that a report shows."""

    sides: Sides
    k: int
    asked: int
    n: int
    quality: Quality | None
    agreement: Agreement
    first: Side
    second: Side
    #: Why this is too little to decide on; empty if it is enough.
    thin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A comparison, and where its questions come from."""

    comparison: VersionComparison
    source: str
    #: Questions that were not asked and why, in words.
    left_out: str = ""


def compare_versions(
    searched: Sequence[Searched], sides: Sides, *, k: int, min_questions: int, resamples: int, seed: int
) -> VersionComparison:
    """All figures. The same replies give the same numbers every time."""
    both = [each for each in searched if not each.failed]
    draws = _Draws(resamples=resamples, seed=seed)
    wants_gold = any(each.query.case.gold for each in searched)
    gold = [each for each in both if each.query.case.gold]
    enough = len(gold if wants_gold else both)
    what = "with gold documents answered by both" if wants_gold else "answered by both"
    return VersionComparison(
        sides=sides,
        k=k,
        asked=len(searched),
        n=len(both),
        quality=_quality(gold, k=k, draws=draws) if gold else None,
        agreement=_agreement(both, k=k, draws=draws),
        first=_side(sides.first, [each.first for each in searched], [each.first for each in both]),
        second=_side(sides.second, [each.second for each in searched], [each.second for each in both]),
        thin=""
        if enough >= min_questions
        else f"{enough} questions {what}; at least {min_questions} are needed",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draws:
    """How intervals are drawn."""

    resamples: int
    seed: int

    def paired(self, name: str, pairs: Sequence[Pair]) -> Paired:
        """The figure `name` from its value on each question."""
        wins = sum(pair.second > pair.first for pair in pairs)
        losses = sum(pair.second < pair.first for pair in pairs)
        return Paired(
            name=name,
            n=len(pairs),
            clusters=len({pair.cluster for pair in pairs}),
            first=mean([pair.first for pair in pairs]),
            first_interval=self._interval([_alone(pair, pair.first) for pair in pairs]),
            second=mean([pair.second for pair in pairs]),
            second_interval=self._interval([_alone(pair, pair.second) for pair in pairs]),
            difference=mean([pair.second - pair.first for pair in pairs]),
            interval=self._interval(pairs),
            wins=wins,
            losses=losses,
            p=exact_p(losses, wins),
        )

    def _interval(self, pairs: Sequence[Pair]) -> Interval | None:
        return cluster_interval(pairs, resamples=self.resamples, seed=self.seed)


def _alone(pair: Pair, value: float) -> Pair:
    return Pair(cluster=pair.cluster, first=0.0, second=value)


def _quality(searched: Sequence[Searched], *, k: int, draws: _Draws) -> Quality:
    measures: dict[str, Callable[[Ranking, Case], float]] = {
        f"nDCG@{_RANKING_DEPTH}": _ndcg,
        HIT: lambda ranking, case: float(bool(set(ranking.documents[:1]) & set(case.gold))),
        f"recall@{k}": lambda ranking, case: (
            len(set(ranking.documents[:k]) & set(case.gold)) / len(set(case.gold))
        ),
        "MRR": lambda ranking, case: 1 / rank if (rank := _first_gold(ranking, case)) else 0.0,
    }

    def figure(name: str, members: Sequence[Searched]) -> Paired:
        measure = measures[name]
        return draws.paired(
            name,
            [
                Pair(
                    cluster=each.query.case.topic,
                    first=measure(each.first, each.query.case),
                    second=measure(each.second, each.query.case),
                )
                for each in members
            ],
        )

    kinds = sorted({each.query.case.kind for each in searched})
    leading = next(iter(measures))
    changes = [
        Change(
            case=each.query.case,
            first_rank=_first_gold(each.first, each.query.case),
            second_rank=_first_gold(each.second, each.query.case),
            difference=_ndcg(each.second, each.query.case) - _ndcg(each.first, each.query.case),
        )
        for each in searched
    ]
    return Quality(
        n=len(searched),
        figures=tuple(figure(name, searched) for name in measures),
        kinds={
            kind or "no kind": figure(leading, [each for each in searched if each.query.case.kind == kind])
            for kind in (kinds if len(kinds) > 1 else ())
        },
        changes=tuple(
            sorted(
                (
                    change
                    for change in changes
                    if change.difference or change.first_rank != change.second_rank
                ),
                key=lambda change: (change.difference, change.case.id),
            )
        ),
    )


def _ndcg(ranking: Ranking, case: Case) -> float:
    return ndcg(ranking.documents, dict.fromkeys(case.gold, 1), depth=_RANKING_DEPTH)


def _first_gold(ranking: Ranking, case: Case) -> int | None:
    return next((rank for rank, found in enumerate(ranking.documents, start=1) if found in case.gold), None)


def _agreement(searched: Sequence[Searched], *, k: int, draws: _Draws) -> Agreement:
    overlaps: list[float] = []
    moves: list[int] = []
    tops: list[bool] = []
    same = 0
    moved: list[Move] = []
    for each in searched:
        first, second = each.first.documents[:k], each.second.documents[:k]
        same += first == second
        if first != second:
            moved.append(_move(each.query.case, first, second))
        if first or second:
            overlaps.append(len(set(first) & set(second)) / max(len(first), len(second)))
        if first and second:
            tops.append(first[0] != second[0])
        moves += [abs(first.index(found) - second.index(found)) for found in first if found in second]
    confidences = [
        Pair(cluster=each.query.case.topic, first=each.first.confidence, second=each.second.confidence)
        for each in searched
        if each.first.confidence is not None and each.second.confidence is not None
    ]
    return Agreement(
        overlap=mean(overlaps) if overlaps else None,
        top_changed=Rate(k=sum(tops), n=len(tops)) if tops else None,
        displacement=mean(moves) if moves else None,
        same=same,
        confidence=draws.paired("confidence", confidences) if confidences else None,
        moved=tuple(sorted(moved, key=lambda move: (-move.distance, move.case.id))),
    )


def _move(case: Case, first: tuple[str, ...], second: tuple[str, ...]) -> Move:
    shares = [
        len({*first[:depth]} & {*second[:depth]}) / max(len(first[:depth]), len(second[:depth]))
        for depth in range(1, max(len(first), len(second)) + 1)
    ]
    return Move(
        case=case,
        distance=1 - mean(shares),
        shared=len({*first} & {*second}),
        first=first,
        second=second,
    )


def _side(knowledge: str, asked: Sequence[Ranking], both: Sequence[Ranking]) -> Side:
    judged = [
        each.confidence < each.abstain_below
        for each in both
        if each.confidence is not None and each.abstain_below is not None
    ]
    return Side(
        knowledge=knowledge,
        empty=sum(not each.hits for each in both),
        median_confidence=median([each.confidence for each in both if each.confidence is not None]),
        abstained=Rate(k=sum(judged), n=len(judged)) if judged else None,
        median_ms=median([sum(each.timings_ms.values()) for each in both if each.timings_ms]),
        median_wall_ms=median([each.wall_ms for each in both]),
        degraded=Counter(part for each in both for part in each.degraded),
        failures=Counter(each.error for each in asked if each.error),
    )
