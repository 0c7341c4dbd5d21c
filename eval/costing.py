"""What an answer takes in each arm of a run, layer by layer, and what that costs where prices are known.

Each figure is a mean over the answers with its interval over topics. Without a team file there is no money,
and what was used stands alone; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.advice.costs import ArmCost, arm_costs
from eval.advice.counts import Draws
from eval.advice.evidence import ArmLog, CaseUsage
from eval.advice.loading import usage_in
from eval.advice.team import Team
from eval.record import RunData
from eval.stats import Interval, Pair, Rate, mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """One thing that a layer takes, as a mean over the answers that tell it."""

    layer: str
    unit: str
    value: float
    #: None where the answers are of one topic.
    interval: Interval | None
    answers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmCosting:
    """What an answer of one arm takes, and costs."""

    arm: str
    used: tuple[Used, ...]
    #: Answers that were passed to a person; None without an answer.
    passed_on: Rate | None
    #: None without a team file.
    cost: ArmCost | None
    currency: str


_Read = Callable[[CaseUsage], float | None]
_USES: tuple[tuple[str, str, _Read], ...] = (
    ("retrieval", "ms", lambda usage: usage.retrieval_ms),
    ("prompt", "tokens", lambda usage: usage.tokens.prompt if usage.tokens else None),
    ("prompt", "tokens cached", lambda usage: _cached(usage)),
    ("prompt", "ms", lambda usage: usage.first_token_ms),
    ("output", "tokens", lambda usage: usage.tokens.completion if usage.tokens else None),
    ("output", "ms", lambda usage: _writing_ms(usage)),
)


def costing_of(data: RunData, team: Team | None, draws: Draws) -> tuple[ArmCosting, ...]:
    """Every arm of a run; failed answers took nothing that is known."""
    logs = [
        ArmLog(
            name=arm.name,
            kind=arm.kind,
            rows=(),
            usage=usage_in(data, arm.name),
        )
        for arm in data.record.arms
    ]
    costs = arm_costs(logs, team, draws) if team else [None] * len(logs)
    return tuple(
        ArmCosting(
            arm=log.name,
            used=tuple(used for layer in _USES if (used := _used(*layer, log.usage, draws))),
            passed_on=Rate(k=sum(usage.handed_off for usage in log.usage), n=len(log.usage))
            if log.usage
            else None,
            cost=cost,
            currency=team.currency if team else "",
        )
        for log, cost in zip(logs, costs, strict=True)
    )


def _used(layer: str, unit: str, read: _Read, usage: Sequence[CaseUsage], draws: Draws) -> Used | None:
    told = [(each.cluster, value) for each in usage if (value := read(each)) is not None]
    if not told:
        return None
    return Used(
        layer=layer,
        unit=unit,
        value=mean([value for _, value in told]),
        interval=draws.interval([Pair(cluster=cluster, first=0.0, second=value) for cluster, value in told]),
        answers=len(told),
    )


def _cached(usage: CaseUsage) -> float | None:
    return usage.tokens.cached if usage.tokens and usage.cached_known else None


def _writing_ms(usage: CaseUsage) -> float | None:
    if usage.first_token_ms is None or usage.generation_ms is None:
        return None
    return max(0.0, usage.generation_ms - usage.first_token_ms)
