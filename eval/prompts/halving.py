"""Which prompts go on: each round asks more questions of fewer prompts. Pure: same scores, same choice.

Prompts are dropped early because most of a grid is plainly worse and every answer costs as much as any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Self

from eval.metrics import METRICS, Metric
from eval.observations import Observation
from eval.scorers import NotApplicable, Outcome, Score
from eval.stats import Rate, mean

#: Asked of the metrics in this order where the objective does not tell two prompts apart.
_TIE_BREAKS = ("format_valid", "hallucination_draft")
_LOST_PARTS = frozenset({"generation", "retrieval"})
_BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """How many questions every prompt has been asked by its end, and how many prompts stay."""

    questions: int
    prompts: int
    kept: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One prompt after a round, over all questions that it was asked."""

    name: str
    asked: int
    #: Right ones of those with a score; no score at all is no rate, never zero.
    right: int
    scored: int
    format_valid: float | None
    hallucination_draft: float | None
    prompt_tokens: float | None
    #: Why it cannot be ranked; "" where it can.
    lost: str = ""

    @property
    def share(self) -> float | None:
        """The objective."""
        return self.right / self.scored if self.scored else None

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """The standing that `as_json` wrote."""
        return cls(**row)


def rounds_of(prompts: int, *, first: int, most: int) -> tuple[Round, ...]:
    """Half the prompts on twice the questions, until one is left or the questions are used up."""
    rounds = []
    questions = min(first, most)
    while True:
        last = prompts <= 3 or questions == most
        kept = 1 if last else prompts // 2
        rounds.append(Round(questions=questions, prompts=prompts, kept=kept))
        if last:
            return tuple(rounds)
        prompts, questions = kept, min(2 * questions, most)


def standing_of(
    name: str, seen: Iterable[tuple[Observation, Mapping[str, Outcome]]], *, objective: str
) -> Standing:
    """Where a prompt stands; outcomes are empty for answers that failed.

    An answer without the engine or without retrieval says nothing of the prompt, whatever was served.
    """
    answers = [(one, {} if _LOST_PARTS & {*one.degraded} else outcomes) for one, outcomes in seen]
    found = [outcomes[objective] for _, outcomes in answers if outcomes]
    scores = [outcome.value for outcome in found if isinstance(outcome, Score)]
    missing = sum(not isinstance(outcome, Score | NotApplicable) for outcome in found)
    missing += sum(not outcomes for _, outcomes in answers)
    higher = _BY_NAME[objective].higher_is_better
    tokens = [one.prompt_tokens for one, _ in answers if one.prompt_tokens]
    lost = ""
    if missing > len(scores):
        errors = next((one.error for one, _ in answers if one.failed), "")
        parts = sorted(_LOST_PARTS & {part for one, _ in answers for part in one.degraded})
        errors = errors or (f"without {' and '.join(parts)}" if parts else "no score")
        lost = f"{missing} of {len(answers)} answers have no score: {errors}"
    return Standing(
        name=name,
        asked=len(answers),
        right=sum((value > 0.5) == higher for value in scores),
        scored=len(scores),
        format_valid=_share(answers, "format_valid"),
        hallucination_draft=_share(answers, "hallucination_draft"),
        prompt_tokens=mean(tokens) if tokens else None,
        lost=lost,
    )


def ranked(standings: Sequence[Standing]) -> tuple[Standing, ...]:
    """Best first: objective, valid format, fewer unsupported drafts, shorter prompt, then the order given."""
    return tuple(sorted(standings, key=_key))


def decided_by(better: Standing, worse: Standing) -> str:
    """What put one prompt before another, in words."""
    names = ("", "objective", *_TIE_BREAKS, "shorter prompt")
    for name, (one, other) in zip(names, zip(_key(better), _key(worse), strict=True), strict=True):
        if one != other:
            return name or "answers without a score"
    return "order in the grid"


def ties_at_the_cut(order: Sequence[Standing], kept: int) -> str:
    """What decided between the last that stays and the first that goes, where the objective did not."""
    for place, (better, worse) in enumerate(pairwise(order), start=1):
        if place == kept:
            by = decided_by(better, worse)
            return "" if by in ("objective", "answers without a score") else by
    return ""


def _key(standing: Standing) -> tuple[float, ...]:
    """Smaller is better; what is not known comes last."""
    far = float("inf")
    return (
        float(bool(standing.lost) or standing.share is None),
        -(standing.share or 0.0),
        -standing.format_valid if standing.format_valid is not None else far,
        standing.hallucination_draft if standing.hallucination_draft is not None else far,
        standing.prompt_tokens if standing.prompt_tokens is not None else far,
    )


def _share(answers: Sequence[tuple[Observation, Mapping[str, Outcome]]], name: str) -> float | None:
    outcomes = [outcomes[name] for _, outcomes in answers if outcomes]
    scores = [outcome.value for outcome in outcomes if isinstance(outcome, Score)]
    return Rate(k=sum(value > 0.5 for value in scores), n=len(scores)).value if scores else None
