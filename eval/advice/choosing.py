"""Which arm stands for its kind where a run has several: one that is shown to be better, else the cheapest.

A rung of the ladder is judged by the failures of its arm. The one with the higher count would often be the
lucky one; what an arm costs is known, whatever the questions say. Arms of the prompt alone and of plain RAG
do not compete: several of them are prompts that were tried, which failures under the first must survive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from eval.advice.costs import cost_an_answer
from eval.advice.counts import SHOWN_BELOW, Difference, Draws, difference
from eval.advice.evidence import ArmLog, Logs
from eval.advice.team import Team
from eval.arms import ArmKind

#: Kinds whose arms are systems to choose between.
_COMPETE = frozenset({ArmKind.RAG_PLUS, ArmKind.ORACLE, ArmKind.TUNED, ArmKind.HYBRID})
#: An arm with fewer of the decided questions than this share of the fullest one is not compared: what is
#: missing is seldom like the rest.
_WHOLE = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One arm of a kind, and the others of it."""

    kind: ArmKind
    arm: str
    others: tuple[str, ...]
    #: Why this one.
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Logs in which each kind has one arm that stands for it, and why where there were several."""

    logs: Logs
    choices: tuple[Choice, ...]


def choose_arms(logs: Logs, team: Team, draws: Draws) -> Chosen:
    """Settle every kind whose arms compete. Their order in the run plays no part."""
    decided = sorted((arm for arm in logs.arms if arm.decided), key=lambda arm: (arm.kind, arm.name))
    kinds = [(kind, list(arms)) for kind, arms in groupby(decided, key=lambda arm: arm.kind)]
    choices = tuple(
        _choose(kind, arms, team, draws) for kind, arms in kinds if kind in _COMPETE and len(arms) > 1
    )
    return Chosen(logs=replace(logs, chosen={choice.kind: choice.arm for choice in choices}), choices=choices)


def _choose(kind: ArmKind, arms: Sequence[ArmLog], team: Team, draws: Draws) -> Choice:
    most = max(len(arm.decided) for arm in arms)
    whole = [arm for arm in arms if len(arm.decided) >= _WHOLE * most]
    left_out = [arm.name for arm in arms if arm not in whole]
    ordered, what = _cheapest_first(whole, team)
    best, shown = ordered[0], None
    for arm in ordered[1:]:
        step = difference(best, arm, draws)
        # The more arms there are, the likelier one of them looks better by chance.
        if step is not None and step.better and step.p * (len(ordered) - 1) < SHOWN_BELOW:
            best, shown = arm, step
    because = _better(shown) if shown else f"none is shown to pass more answers, and this one {what}"
    if len(whole) == 1:
        because = "the others have too few answers"
    elif left_out:
        because += f" (too few answers: {', '.join(left_out)})"
    others = tuple(arm.name for arm in arms if arm is not best)
    return Choice(kind=kind, arm=best.name, others=others, because=because)


def _cheapest_first(arms: Sequence[ArmLog], team: Team) -> tuple[list[ArmLog], str]:
    """By cost per answer where every arm has one, else by tokens; names decide between equals."""
    costs = {arm.name: cost_an_answer(arm, team) for arm in arms}
    tokens = {arm.name: _tokens(arm) for arm in arms}
    for known, what in ((costs, "costs least"), (tokens, "takes the fewest tokens")):
        priced = {name: value for name, value in known.items() if value is not None}
        if len(priced) == len(arms):
            return sorted(arms, key=lambda arm: (priced[arm.name], arm.name)), what
    return sorted(arms, key=lambda arm: arm.name), "comes first by name, as no cost is known"


def _tokens(arm: ArmLog) -> float | None:
    """Tokens of an answer, over all answers; None where nothing was generated or counted."""
    counted = [usage.tokens.prompt + usage.tokens.completion for usage in arm.usage if usage.tokens]
    return sum(counted) / len(arm.usage) if counted else None


def _better(step: Difference) -> str:
    return f"it passes {step.second_passed} of {step.n}, {step.first} {step.first_passed} (p {step.p:.3f})"
