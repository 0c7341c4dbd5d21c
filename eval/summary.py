"""A run as numbers: every metric per arm, retrieval per knowledge version, and arms against each other.

What could not be scored is counted beside each number and never inside it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from eval.advice.counts import Draws
from eval.advice.team import Team
from eval.answer_scores import AnswerScorer
from eval.arms import Arm
from eval.cases import Case
from eval.costing import ArmCosting, costing_of
from eval.flips import Flips, count_flips
from eval.metrics import FIVE, METRICS, Metric, headline
from eval.observations import Observation
from eval.record import RunData
from eval.scorers import NotApplicable, Outcome, Score, ScoreFailure, Scoring
from eval.stats import (
    Interval,
    Pair,
    PairedTest,
    Rate,
    cluster_interval,
    mcnemar,
    median,
    ndcg,
    smallest_visible_gain,
)

_RANKING_DEPTH = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricResult:
    """One metric in one arm. `rate` is None where nothing could be scored."""

    metric: Metric
    rate: Rate | None
    not_applicable: int
    #: Reasons why a score is missing, with counts.
    failures: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingResult:
    """What a knowledge version finds, whatever model answers: over questions with a gold article."""

    knowledge: str
    #: "" for all questions, else the kind.
    kind: str
    hit_at_1: Rate
    hit_at_10: Rate
    ndcg_at_10: float
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmResult:
    """One arm: its metrics, what it cost in time and tokens, and which versions answered."""

    arm: Arm
    asked: int
    failed: Mapping[str, int]
    metrics: tuple[MetricResult, ...]
    statuses: Mapping[str, int]
    versions: Mapping[str, int]
    degraded: Mapping[str, int]
    repaired: int
    median_ms: Mapping[str, float]
    median_prompt_tokens: float | None
    median_completion_tokens: float | None

    def result(self, metric: Metric) -> MetricResult:
        """The result of a metric."""
        return next(result for result in self.metrics if result.metric is metric)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two arms on the questions that both were scored on."""

    metric: Metric
    first: str
    second: str
    first_rate: Rate
    second_rate: Rate
    test: PairedTest
    difference: float
    interval: Interval | None
    clusters: int

    @property
    def resolved(self) -> bool:
        """Whether the questions tell the arms apart: by the exact test and by the interval over topics."""
        apart = self.interval is not None and (self.interval.low > 0 or self.interval.high < 0)
        return self.test.p < 0.05 and apart

    @property
    def second_is_better(self) -> bool:
        """Whether the difference is in favour of the second arm."""
        return (self.difference > 0) == self.metric.higher_is_better

    def sentence(self) -> str:
        """The comparison in plain words."""
        counts = (
            f"{self.first} {self.first_rate.k} of {self.first_rate.n}, "
            f"{self.second} {self.second_rate.k} of {self.second_rate.n}"
        )
        title = self.metric.title
        if not self.resolved:
            gain = smallest_visible_gain(self.test.n)
            visible = f" ({self.test.n} questions usually show {gain:.0%} or more)" if gain else ""
            return (
                f"No difference shown between {self.first} and {self.second} in '{title}': {counts}{visible}."
            )
        better, worse = (self.second, self.first) if self.second_is_better else (self.first, self.second)
        way = "more" if self.metric.higher_is_better else "less"
        return (
            f"{better} is better than {worse}: '{title}' holds {abs(self.difference) * 100:.0f} points "
            f"{way} often ({counts})."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Everything that a report shows."""

    data: RunData
    questions: int
    topics: int
    #: Questions without an answer in any arm, and those of them that need a staff key.
    left_out: int
    left_out_staff: int
    rankings: tuple[RankingResult, ...]
    arms: tuple[ArmResult, ...]
    comparisons: tuple[Comparison, ...]
    flips: Flips
    #: What an answer takes and costs, by arm.
    costing: tuple[ArmCosting, ...]
    #: Why this is too little to decide on; empty if it is enough.
    thin: tuple[str, ...]
    #: The grounding check that judged, by its version.
    checker: str
    outcomes: Mapping[tuple[str, str], Mapping[str, Outcome]]


def summarise(
    data: RunData,
    scoring: Scoring,
    *,
    min_questions: int,
    resamples: int,
    seed: int,
    team: Team | None = None,
) -> Summary:
    """Score a run. The same run gives the same numbers every time. Without a team there are no prices."""
    asked = {case_id for case_id, _ in data.observations}
    cases = [case for case in data.cases if case.id in asked]
    outcomes = score_all(data, scoring)
    arms = tuple(_arm_result(arm, cases, data, outcomes) for arm in data.record.arms)
    comparisons = tuple(
        comparison
        for first, second in combinations([arm.name for arm in data.record.arms], 2)
        for group in FIVE
        if (
            comparison := compare(
                headline(group), (first, outcomes), (second, outcomes), cases, resamples=resamples, seed=seed
            )
        )
    )
    return Summary(
        data=data,
        questions=len(cases),
        topics=len({case.topic for case in cases}),
        left_out=len(data.cases) - len(cases),
        left_out_staff=sum(case.asker == "staff" and case.id not in asked for case in data.cases),
        rankings=tuple(_ranking_results(data)),
        arms=arms,
        comparisons=comparisons,
        flips=count_flips(data, scoring),
        costing=costing_of(data, team, Draws(resamples=resamples, seed=seed)),
        thin=tuple(_thin(arms, len(cases), min_questions)),
        checker=scoring.version,
        outcomes=outcomes,
    )


def score_all(data: RunData, scoring: Scoring) -> dict[tuple[str, str], dict[str, Outcome]]:
    """Every outcome by (question, arm) and metric, for first answers that came."""
    scorer = AnswerScorer(data, scoring)
    scored = {key: scorer.score(seen) for key, seen in data.observations.items()}
    return {key: outcomes for key, outcomes in scored.items() if outcomes}


Outcomes = Mapping[tuple[str, str], Mapping[str, Outcome]]


def compare(
    metric: Metric,
    first: tuple[str, Outcomes],
    second: tuple[str, Outcomes],
    cases: Iterable[Case],
    *,
    resamples: int,
    seed: int,
) -> Comparison | None:
    """Two arms, as name and outcomes, on the questions that both have a score for; None without any."""
    pairs = []
    for case in cases:
        one = first[1].get((case.id, first[0]), {}).get(metric.name)
        two = second[1].get((case.id, second[0]), {}).get(metric.name)
        if isinstance(one, Score) and isinstance(two, Score):
            pairs.append(Pair(cluster=case.topic, first=one.value, second=two.value))
    if not pairs:
        return None
    return Comparison(
        metric=metric,
        first=first[0],
        second=second[0],
        first_rate=Rate(k=sum(pair.first > 0.5 for pair in pairs), n=len(pairs)),
        second_rate=Rate(k=sum(pair.second > 0.5 for pair in pairs), n=len(pairs)),
        test=mcnemar(pairs),
        difference=sum(pair.second - pair.first for pair in pairs) / len(pairs),
        interval=cluster_interval(pairs, resamples=resamples, seed=seed),
        clusters=len({pair.cluster for pair in pairs}),
    )


def _arm_result(arm: Arm, cases: Sequence[Case], data: RunData, outcomes: Outcomes) -> ArmResult:
    seen = [
        data.observations[case.id, arm.name] for case in cases if (case.id, arm.name) in data.observations
    ]
    answered = [observation for observation in seen if not observation.failed]
    return ArmResult(
        arm=arm,
        asked=len(seen),
        failed=Counter(observation.error for observation in seen if observation.failed),
        metrics=tuple(
            _metric_result(metric, [outcomes[item.case_id, arm.name][metric.name] for item in answered])
            for metric in METRICS
        ),
        statuses=Counter(observation.status for observation in answered),
        versions=Counter(
            f"{observation.knowledge_version or '-'} {observation.model_version or '-'}"
            for observation in answered
        ),
        degraded=Counter(part for observation in answered for part in observation.degraded),
        repaired=sum(observation.repaired for observation in answered),
        median_ms=_median_stages(answered),
        median_prompt_tokens=_median_of(observation.prompt_tokens for observation in answered),
        median_completion_tokens=_median_of(observation.completion_tokens for observation in answered),
    )


def _metric_result(metric: Metric, outcomes: Sequence[Outcome]) -> MetricResult:
    scores = [outcome.value for outcome in outcomes if isinstance(outcome, Score)]
    return MetricResult(
        metric=metric,
        rate=Rate(k=sum(value > 0.5 for value in scores), n=len(scores)) if scores else None,
        not_applicable=sum(isinstance(outcome, NotApplicable) for outcome in outcomes),
        failures=Counter(outcome.reason for outcome in outcomes if isinstance(outcome, ScoreFailure)),
    )


def _median_stages(seen: Sequence[Observation]) -> dict[str, float]:
    """Each stage over the answers that went through it; `wall` is what the caller waited."""
    stages: defaultdict[str, list[float]] = defaultdict(list)
    for observation in seen:
        for stage, value in observation.timings_ms.items():
            stages[stage].append(value)
        stages["wall"].append(observation.wall_ms)
    return {stage: middle for stage, values in stages.items() if (middle := median(values)) is not None}


def _median_of(values: Iterable[int | None]) -> float | None:
    """Tokens of answers that were generated: an abstention before generation used none and says nothing."""
    return median([value for value in values if value])


def _ranking_results(data: RunData) -> Iterable[RankingResult]:
    gold = [case for case in data.cases if case.gold]
    kinds = sorted({case.kind for case in gold})
    for knowledge in data.record.knowledge:
        for kind in ("", *(kinds if len(kinds) > 1 else ())):
            ranked = [
                (case, ranking)
                for case in gold
                if kind in ("", case.kind)
                and (ranking := data.rankings.get((case.id, knowledge))) is not None
            ]
            good = [(case, ranking.documents) for case, ranking in ranked if not ranking.error]
            if not good:
                continue
            yield RankingResult(
                knowledge=knowledge,
                kind=kind,
                hit_at_1=Rate(
                    k=sum(bool(set(found[:1]) & set(case.gold)) for case, found in good), n=len(good)
                ),
                hit_at_10=Rate(
                    k=sum(bool(set(found[:_RANKING_DEPTH]) & set(case.gold)) for case, found in good),
                    n=len(good),
                ),
                ndcg_at_10=sum(
                    ndcg(found, dict.fromkeys(case.gold, 1), depth=_RANKING_DEPTH) for case, found in good
                )
                / len(good),
                failures=len(ranked) - len(good),
            )


def _thin(arms: Sequence[ArmResult], questions: int, min_questions: int) -> Iterable[str]:
    """Reasons to call this not enough evidence. A metric that applies nowhere by nature is not one."""
    if questions < min_questions:
        yield f"{questions} questions; at least {min_questions} are needed"
    for arm in arms:
        answered = arm.asked - sum(arm.failed.values())
        if answered < min_questions <= questions:
            yield f"{arm.arm.name}: {answered} of {questions} questions got an answer"
        for group in FIVE:
            result = arm.result(headline(group))
            missing = sum(result.failures.values())
            scored = result.rate.n if result.rate else 0
            if missing > scored:
                title = headline(group).title
                yield f"{arm.arm.name}: {title}: {missing} could not be scored, {scored} could"
