"""The metrics of live turns: the ones of `eval.metrics`, from the turn itself or from its review. No I/O.

What a turn shows by itself is measured on every turn. What takes an answer key is read from closed reviews of
the random sample only: every other reason for a review chooses what looks bad.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median, quantiles

from eval.metrics import METRICS, Metric
from eval.online.recorded import LiveTurn, Recording, Window
from eval.reviewed import BY_REVIEW
from eval.scorers import NotApplicable, Outcome, Score, ScoreFailure, Scoring, Subject
from eval.stats import ClusteredRate, Rate, clustered_rate, fisher_p

ALL = "all"
#: Metrics that a turn without an answer key would show one side of: only what is wrong, or whom it annoyed.
_NOT_OF_A_TURN = ("would_be_corrected", "corrected")
#: Reviews are a fair part of the sample if turns that only chance put into the queue are read this often for
#: one of the others, or if the difference may be chance.
_EVEN, _CHANCE = 0.8, 0.05


class Source(StrEnum):
    """What a number stands on."""

    TURNS = "all turns"
    REVIEWS = "sampled reviews"


class GroupBy(StrEnum):
    """What turns are kept apart by."""

    PAIR = "pair"
    KNOWLEDGE = "knowledge"
    MODEL = "model"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One metric of one group of turns, from one source."""

    metric: Metric
    source: Source
    #: Turns of one conversation move together. None without a single score.
    rate: ClusteredRate | None
    not_applicable: int
    #: Reasons of missing scores: these are in neither k nor n.
    missing: Mapping[str, int]
    #: Why there is no number to read; "" if there is one.
    thin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Milliseconds of one stage over the turns that went through it."""

    name: str
    n: int
    median_ms: float
    #: None below 20 turns, where the highest twentieth is a single one.
    p95_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveGroup:
    """Turns of one version, or of one pair."""

    knowledge: str
    model: str
    turns: int
    conversations: int
    statuses: Mapping[str, int]
    erased: int
    sampled: int
    #: Of the sampled ones, those whose review is closed.
    reviewed: int
    #: Why those that are reviewed are no fair part of the sample; "" if they are.
    uneven: str
    #: Turns that somebody rated or corrected, by what was said. Who writes chooses, so these are no rates.
    feedback: Mapping[str, int]
    lines: tuple[Line, ...]
    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Online:
    """Live traffic of a window."""

    window: Window
    by: GroupBy
    turns: int
    cut: bool
    groups: tuple[LiveGroup, ...]
    floor: int
    scoring: str

    @property
    def thin(self) -> tuple[str, ...]:
        """Why nothing can be decided on this; empty if anything can."""
        if self.turns < self.floor:
            return (f"{self.turns} turns; at least {self.floor} are needed",)
        return ()


def measure_online(
    recording: Recording, window: Window, scoring: Scoring, *, by: GroupBy, floor: int
) -> Online:
    """Every metric that live turns have, per group, the largest group first."""
    groups: defaultdict[tuple[str, str], list[LiveTurn]] = defaultdict(list)
    for turn in recording.turns:
        groups[_KEYS[by](turn)].append(turn)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return Online(
        window=window,
        by=by,
        turns=len(recording.turns),
        cut=recording.cut,
        groups=tuple(
            _group(knowledge, model, turns, scoring, floor) for (knowledge, model), turns in ordered
        ),
        floor=floor,
        scoring=scoring.version,
    )


_KEYS: Mapping[GroupBy, Callable[[LiveTurn], tuple[str, str]]] = {
    GroupBy.PAIR: lambda turn: (turn.knowledge, turn.model),
    GroupBy.KNOWLEDGE: lambda turn: (turn.knowledge, ALL),
    GroupBy.MODEL: lambda turn: (ALL, turn.model),
    GroupBy.NONE: lambda turn: (ALL, ALL),
}


def turn_outcomes(turn: LiveTurn, scoring: Scoring) -> dict[str, Outcome]:
    """What the turn shows by itself: the scorers of a run on a question without an answer key."""
    if turn.seen is None:
        return {}
    if turn.erased:
        return {metric.name: ScoreFailure("a document of it was erased") for metric in METRICS}
    subject = Subject(case=turn.case, seen=turn.seen, ranking=None, retrieves=True)
    return {
        metric.name: metric.scorer(subject, scoring)
        for metric in METRICS
        if metric.name not in _NOT_OF_A_TURN
    }


def review_outcomes(turn: LiveTurn) -> dict[str, Outcome]:
    """What its review decides; empty without a closed one."""
    if turn.seen is None or turn.review is None:
        return {}
    return {name: decide(turn.seen, turn.review) for name, decide in BY_REVIEW.items()}


def _group(knowledge: str, model: str, turns: Sequence[LiveTurn], scoring: Scoring, floor: int) -> LiveGroup:
    own = [(_conversation(turn), turn_outcomes(turn, scoring)) for turn in turns]
    sampled = [turn for turn in turns if turn.sampled]
    read = [(_conversation(turn), review_outcomes(turn)) for turn in sampled if turn.review is not None]
    uneven = _uneven(sampled)
    lines = (
        line
        for metric in METRICS
        for source, outcomes, unfair in ((Source.TURNS, own, ""), (Source.REVIEWS, read, uneven))
        if (line := _line(metric, source, outcomes, floor, unfair=unfair)) is not None
    )
    return LiveGroup(
        knowledge=knowledge,
        model=model,
        turns=len(turns),
        conversations=len({_conversation(turn) for turn in turns}),
        statuses=Counter(turn.status for turn in turns),
        erased=sum(turn.erased for turn in turns),
        sampled=len(sampled),
        reviewed=len(read),
        uneven=uneven,
        feedback=_feedback(turns),
        lines=tuple(lines),
        stages=tuple(_stages(turns)),
    )


def _conversation(turn: LiveTurn) -> str:
    return turn.conversation_id or turn.id


def _uneven(sampled: Sequence[LiveTurn]) -> str:
    """Why the reviewed part of the sample is none drawn at random: readers took first what looks bad."""
    noticed, others = (
        [turn.review is not None for turn in sampled if turn.noticed is part] for part in (True, False)
    )
    if not noticed or not others:
        return ""
    first, second = Rate(k=sum(noticed), n=len(noticed)), Rate(k=sum(others), n=len(others))
    if second.value >= _EVEN * first.value or fisher_p(first, second) >= _CHANCE:
        return ""
    return (
        f"{first.k} of {first.n} sampled turns are read that something else put into the queue too, "
        f"{second.k} of {second.n} others; close the others (filter the queue by the reason sample)"
    )


def _line(
    metric: Metric,
    source: Source,
    turns: Sequence[tuple[str, Mapping[str, Outcome]]],
    floor: int,
    *,
    unfair: str,
) -> Line | None:
    """The metric over these turns, each with its conversation; None where this source says nothing about
    it."""
    outcomes = [(talk, scored[metric.name]) for talk, scored in turns if metric.name in scored]
    scores = [(talk, outcome.value > 0.5) for talk, outcome in outcomes if isinstance(outcome, Score)]
    missing = Counter(outcome.reason for _, outcome in outcomes if isinstance(outcome, ScoreFailure))
    decides = metric.name in BY_REVIEW if source is Source.REVIEWS else bool(scores)
    if not decides:
        return None
    lost = sum(missing.values())
    thin = ""
    if len(scores) < floor:
        thin = f"{len(scores)} of the {floor} that are needed"
    elif lost > len(scores):
        thin = f"{lost} could not be told, {len(scores)} could"
    elif len(scores) > 1 and len({talk for talk, _ in scores}) == 1:
        thin = "all of one conversation"
    elif unfair:
        thin = "what is reviewed is no fair part of the sample"
    return Line(
        metric=metric,
        source=source,
        rate=clustered_rate(scores) if scores else None,
        not_applicable=sum(isinstance(outcome, NotApplicable) for _, outcome in outcomes),
        missing=missing,
        thin=thin,
    )


def _feedback(turns: Sequence[LiveTurn]) -> dict[str, int]:
    """In how many turns somebody said what."""
    said = Counter[str]()
    for turn in turns:
        said.update({row["rating"] for row in turn.feedback if row.get("rating")})
        said.update({"corrected" for row in turn.feedback if row.get("corrected_answer")})
    return dict(sorted(said.items()))


def _stages(turns: Sequence[LiveTurn]) -> list[Stage]:
    times: defaultdict[str, list[float]] = defaultdict(list)
    for turn in turns:
        for name, value in (turn.seen.timings_ms if turn.seen else {}).items():
            times[name].append(value)
    return [
        Stage(
            name=name,
            n=len(values),
            median_ms=median(values),
            p95_ms=quantiles(values, n=20)[-1] if len(values) >= 20 else None,
        )
        for name, values in times.items()
    ]
