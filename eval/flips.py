"""How often a score changes when the same question is asked again: what a comparison cannot resolve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from eval.answer_scores import AnswerScorer
from eval.metrics import METRICS
from eval.record import RunData
from eval.scorers import Score, Scoring
from eval.stats import Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """Per arm and metric: of the questions that were scored at least twice, those whose scores differ."""

    repeats: int
    #: Empty where every question was asked once.
    rates: Mapping[str, Mapping[str, Rate]]

    def rate(self, arm: str, metric: str) -> Rate | None:
        """The flip rate, None where nothing was scored twice."""
        return self.rates.get(arm, {}).get(metric)


def count_flips(data: RunData, scoring: Scoring) -> Flips:
    """Score every repeat and compare. An answer that failed is no repeat, and neither is a missing score."""
    scorer = AnswerScorer(data, scoring)
    values: dict[tuple[str, str], dict[str, list[bool]]] = {}
    for (case_id, arm), seen in data.observations.items():
        answers = [
            seen,
            *(
                again
                for repeat in range(1, data.record.repeats)
                if (again := data.seen(case_id, arm, repeat)) is not None
            ),
        ]
        if len(answers) < 2:
            continue
        of_case = values.setdefault((case_id, arm), {})
        for answer in answers:
            for name, outcome in scorer.score(answer).items():
                if isinstance(outcome, Score):
                    of_case.setdefault(name, []).append(outcome.value > 0.5)
    rates: dict[str, dict[str, Rate]] = {}
    for arm in dict.fromkeys(arm for _, arm in values):
        for metric in METRICS:
            twice = [
                scores[metric.name]
                for (_, other), scores in values.items()
                if other == arm and len(scores.get(metric.name, ())) > 1
            ]
            if twice:
                flipped = sum(len(set(scores)) > 1 for scores in twice)
                rates.setdefault(arm, {})[metric.name] = Rate(k=flipped, n=len(twice))
    return Flips(repeats=data.record.repeats, rates=rates)
