"""Cost per answer by layer, fixed cost by month, and the volume from which tuning pays for itself.

Every amount is measured usage times a price of the team file; where one of the two is missing there is no
amount and the reason stands in its place. Only prompt tokens that were computed cost the full price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from eval.advice.counts import Draws
from eval.advice.evidence import ArmLog, CaseUsage
from eval.advice.rates import measured_rates
from eval.advice.team import Team
from eval.arms import ArmKind
from eval.stats import Interval, Pair
from serving.pricing import TokenCounts, TokenPrices

_WEEKS_A_MONTH = 52 / 12
_MS_AN_HOUR = 3_600_000
_NO_EVIDENCE = "no evidence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Money, or why there is no figure."""

    name: str
    amount: float | None
    #: The sum in words, or `no evidence: ...` with what to fill in.
    basis: str
    #: Of a mean over answers: between these, over draws of whole clusters.
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmCost:
    """What one answer costs in one arm, by layer."""

    arm: str
    kind: ArmKind
    answers: int
    prompt_tokens: float | None
    cached_tokens: float | None
    completion_tokens: float | None
    layers: tuple[Amount, ...]
    #: Layers with an amount, added up; None where generation itself has none.
    an_answer: float | None
    low: float | None
    high: float | None
    #: Layers that are not in `an_answer`.
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """N*: the number of answers that pays for tuning, where a tuned arm was measured."""

    answers: float | None
    #: By the interval of what an answer saves; no upper end where it may save nothing.
    answers_low: float | None
    answers_high: float | None
    months: float | None
    saved_an_answer: float | None
    low: float | None
    high: float | None
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Everything that costs, in one currency."""

    currency: str
    arms: tuple[ArmCost, ...]
    rag_fixed_a_month: tuple[Amount, ...]
    tuning_once: tuple[Amount, ...]
    tuning_a_year: Amount
    break_even: BreakEven


def costs_of(arms: Sequence[ArmLog], diagnosed: ArmLog, team: Team, draws: Draws) -> Costs:
    """Costs of every arm, and what training would have to save."""
    once = _tuning_once(team)
    return Costs(
        currency=team.currency,
        arms=arm_costs(arms, team, draws),
        rag_fixed_a_month=_rag_fixed(team),
        tuning_once=once,
        tuning_a_year=_tuning_a_year(once, team),
        break_even=_break_even(arms, diagnosed, once, team, draws),
    )


def arm_costs(arms: Sequence[ArmLog], team: Team, draws: Draws) -> tuple[ArmCost, ...]:
    """What an answer costs in each arm, whatever was fixed or trained."""
    return tuple(_arm_cost(arm, team, draws) for arm in arms)


# ---- per answer --------------------------------------------------------------------------------


def _arm_cost(arm: ArmLog, team: Team, draws: Draws) -> ArmCost:
    used = [usage.tokens for usage in arm.usage if usage.tokens]
    mean = _mean_tokens(arm, used) if used else None
    layers = tuple(
        _with_interval(layer, arm, team, draws)
        for layer in (_retrieval(arm, team), *_generation(arm, team), _review(arm, team))
    )
    totals = _case_costs(arm, team)
    interval = _mean_interval(arm, totals, draws) if totals else None
    known = {layer.name: layer.amount for layer in layers if layer.amount is not None}
    return ArmCost(
        arm=arm.name,
        kind=arm.kind,
        answers=len(arm.usage),
        prompt_tokens=mean.prompt if mean else None,
        cached_tokens=mean.cached if mean and all(usage.cached_known for usage in arm.usage) else None,
        completion_tokens=mean.completion if mean else None,
        layers=layers,
        an_answer=sum(known.values()) if "prompt" in known else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        left_out=tuple(layer.name for layer in layers if layer.amount is None),
    )


def _retrieval(arm: ArmLog, team: Team) -> Amount:
    if arm.kind in (ArmKind.PROMPT, ArmKind.TUNED):
        return Amount(name="retrieval", amount=0.0, basis="this arm retrieves nothing")
    if arm.kind is ArmKind.ORACLE:
        return Amount(
            name="retrieval", amount=0.0, basis="the documents are given: no real system has this arm"
        )
    spent = [usage.retrieval_ms for usage in arm.usage if usage.retrieval_ms is not None]
    if not spent:
        return Amount(name="retrieval", amount=None, basis=f"{_NO_EVIDENCE}: the run has no retrieval times")
    if team.prices.retrieval_hour is None:
        return Amount(name="retrieval", amount=None, basis=f"{_NO_EVIDENCE}: prices.retrieval_hour")
    return Amount(
        name="retrieval",
        amount=sum(spent) / len(arm.usage) * _ms_price(team),
        basis=f"{sum(spent) / len(arm.usage):.1f} ms of the machine that embeds, searches and reranks",
    )


def _ms_price(team: Team) -> float:
    return (team.prices.retrieval_hour or 0.0) / _MS_AN_HOUR / team.prices.retrieval_utilisation


def _generation(arm: ArmLog, team: Team) -> tuple[Amount, Amount]:
    used = [usage.tokens for usage in arm.usage if usage.tokens]
    prices = _prices(arm, team)
    missing = ""
    if not used:
        missing = f"{_NO_EVIDENCE}: the run has no token counts"
    elif prices is None:
        missing = (
            f"{_NO_EVIDENCE}: prices.prompt_per_million and completion_per_million, "
            "or engine_hour with utilisation, and both rates unless the run tells them"
        )
    if missing or prices is None:
        return Amount(name="prompt", amount=None, basis=missing), Amount(
            name="output", amount=None, basis=missing
        )
    mean = _mean_tokens(arm, used)
    cost = prices.cost(mean)
    cached = (
        f"{mean.cached:.0f} cached"
        if all(usage.cached_known for usage in arm.usage)
        else "cache hits not measured, so all count as computed"
    )
    return (
        Amount(name="prompt", amount=cost.prompt, basis=f"{mean.prompt:.0f} tokens, {cached}"),
        Amount(name="output", amount=cost.completion, basis=f"{mean.completion:.0f} tokens"),
    )


def _prices(arm: ArmLog, team: Team) -> TokenPrices | None:
    """Of a machine by the hour, each arm has its own: an adapter in use is slower than merged weights."""
    return team.prices.of_tokens(measured_rates(arm.usage))


def _mean_tokens(arm: ArmLog, used: Sequence[TokenCounts]) -> TokenCounts:
    """Means over all answers: one that was abstained from before generation took none, and counts."""
    n = len(arm.usage)
    return TokenCounts(
        prompt=sum(tokens.prompt for tokens in used) / n,
        cached=sum(tokens.cached for tokens in used) / n,
        completion=sum(tokens.completion for tokens in used) / n,
    )


def _review(arm: ArmLog, team: Team) -> Amount:
    wages = team.wages
    if not arm.usage:
        return Amount(name="review", amount=None, basis=f"{_NO_EVIDENCE}: the run has no answers to count")
    handed = sum(usage.handed_off for usage in arm.usage)
    basis = f"{handed} of {len(arm.usage)} passed to a person"
    if wages.agent_hour is None or wages.minutes_a_handoff is None:
        return Amount(
            name="review",
            amount=None,
            basis=f"{_NO_EVIDENCE}: wages.agent_hour and minutes_a_handoff ({basis})",
        )
    return Amount(
        name="review",
        amount=handed / len(arm.usage) * _handoff(team),
        basis=f"{basis}, {wages.minutes_a_handoff:g} minutes each",
    )


def _handoff(team: Team) -> float:
    return (team.wages.agent_hour or 0.0) * (team.wages.minutes_a_handoff or 0.0) / 60


def cost_an_answer(arm: ArmLog, team: Team) -> float | None:
    """The mean by the layers that have a price; None where generation has none."""
    costs = _case_costs(arm, team)
    return sum(costs.values()) / len(costs) if costs else None


def _with_interval(layer: Amount, arm: ArmLog, team: Team, draws: Draws) -> Amount:
    if not layer.amount:
        return layer
    prices = _prices(arm, team)
    by_case = {usage.case_id: _layer_costs(usage, arm, team, prices)[layer.name] for usage in arm.usage}
    interval = _mean_interval(arm, by_case, draws)
    return replace(layer, low=interval.low, high=interval.high) if interval else layer


def _case_costs(arm: ArmLog, team: Team) -> dict[str, float]:
    """Each answer's cost by the layers that have a price; empty where generation has none."""
    prices = _prices(arm, team)
    if prices is None or not any(usage.tokens for usage in arm.usage):
        return {}
    return {usage.case_id: sum(_layer_costs(usage, arm, team, prices).values()) for usage in arm.usage}


def _layer_costs(usage: CaseUsage, arm: ArmLog, team: Team, prices: TokenPrices | None) -> dict[str, float]:
    """One answer's cost by layer; 0 where a layer has no price or the answer took nothing of it."""
    tokens = prices.cost(usage.tokens) if prices and usage.tokens else None
    retrieves = arm.kind in (ArmKind.RAG, ArmKind.RAG_PLUS, ArmKind.HYBRID)
    return {
        "retrieval": (usage.retrieval_ms or 0.0) * _ms_price(team) if retrieves else 0.0,
        "prompt": tokens.prompt if tokens else 0.0,
        "output": tokens.completion if tokens else 0.0,
        "review": _handoff(team) if usage.handed_off else 0.0,
    }


def _mean_interval(arm: ArmLog, totals: dict[str, float], draws: Draws) -> Interval | None:
    clusters = {usage.case_id: usage.cluster for usage in arm.usage if usage.cluster}
    clusters |= {row.case_id: row.cluster for row in arm.rows}
    return draws.interval(
        [Pair(cluster=clusters.get(case, case), first=0.0, second=cost) for case, cost in totals.items()]
    )


# ---- fixed -------------------------------------------------------------------------------------


def _rag_fixed(team: Team) -> tuple[Amount, ...]:
    known, prices, wages = team.knowledge, team.prices, team.wages
    changes = known.documents_changed_a_week
    return (
        _product(
            "embedding of changes",
            ("knowledge.documents_changed_a_week", changes, "documents a week"),
            ("knowledge.tokens_a_document", known.tokens_a_document, "tokens each"),
            ("prices.embedding_per_million", prices.embedding_per_million, "a million"),
            scale=_WEEKS_A_MONTH / 1e6,
        ),
        _product(
            "storage",
            ("knowledge.storage_gb", known.storage_gb, "GB"),
            ("prices.storage_gb_month", prices.storage_gb_month, "a GB"),
        ),
        _product(
            "people for changed documents",
            ("knowledge.documents_changed_a_week", changes, "documents a week"),
            ("knowledge.minutes_a_change", known.minutes_a_change, "minutes each"),
            ("wages.agent_hour", wages.agent_hour, "an hour"),
            scale=_WEEKS_A_MONTH / 60,
        ),
    )


def _tuning_once(team: Team) -> tuple[Amount, ...]:
    tuning, prices, wages = team.tuning, team.prices, team.wages
    return (
        _product(
            "training rows",
            ("tuning.rows", tuning.rows, "rows"),
            ("tuning.minutes_a_row", tuning.minutes_a_row, "minutes each"),
            ("wages.agent_hour", wages.agent_hour, "an hour"),
            scale=1 / 60,
        ),
        _product(
            "training",
            ("tuning.training_hours", tuning.training_hours, "hours"),
            ("prices.training_hour", prices.training_hour, "an hour"),
        ),
        _product(
            "evaluation",
            ("tuning.evaluation_hours", tuning.evaluation_hours, "hours"),
            ("wages.engineer_hour", wages.engineer_hour, "an hour"),
        ),
    )


def _product(name: str, *factors: tuple[str, float | None, str], scale: float = 1.0) -> Amount:
    """An amount from numbers of the team file; those that are missing are named."""
    missing = [field for field, value, _ in factors if value is None]
    if missing:
        return Amount(name=name, amount=None, basis=f"{_NO_EVIDENCE}: {', '.join(missing)}")
    found = scale
    for _, value, _ in factors:
        found *= value or 0.0
    return Amount(name=name, amount=found, basis=", ".join(f"{value:g} {unit}" for _, value, unit in factors))


def _tuning_a_year(once: Sequence[Amount], team: Team) -> Amount:
    retrains = team.tuning.retrains_a_year
    total = _total(once)
    if total is None or retrains is None:
        fields = [] if total is not None else ["the amounts above"]
        fields += [] if retrains is not None else ["tuning.retrains_a_year"]
        return Amount(name="tuning a year", amount=None, basis=f"{_NO_EVIDENCE}: {', '.join(fields)}")
    return Amount(
        name="tuning a year", amount=total * (1 + retrains), basis=f"once and {retrains:g} times again"
    )


def _total(amounts: Sequence[Amount]) -> float | None:
    known = [each.amount for each in amounts if each.amount is not None]
    return sum(known) if len(known) == len(amounts) else None


# ---- break-even --------------------------------------------------------------------------------


def _break_even(
    arms: Sequence[ArmLog], diagnosed: ArmLog, once: Sequence[Amount], team: Team, draws: Draws
) -> BreakEven:
    wanted = ArmKind.TUNED if diagnosed.kind is ArmKind.PROMPT else ArmKind.HYBRID
    tuned = next((arm for arm in arms if arm.kind is wanted), None)
    if tuned is None:
        return _no_break_even(f"{_NO_EVIDENCE}: the run has no {wanted} arm")
    before, after = _case_costs(diagnosed, team), _case_costs(tuned, team)
    common = sorted(before.keys() & after.keys())
    if not common:
        return _no_break_even(f"{_NO_EVIDENCE}: no answers of both arms with token counts and prices")
    clusters = {row.case_id: row.cluster for row in diagnosed.rows}
    pairs = [
        Pair(cluster=clusters.get(case, case), first=after[case], second=before[case]) for case in common
    ]
    saved = fmean(pair.second - pair.first for pair in pairs)
    interval = draws.interval(pairs)
    fixed = _total(once)
    if saved <= 0:
        basis = f"{tuned.name} saves nothing per answer over {diagnosed.name}: by cost alone no volume pays"
    elif fixed is None:
        basis = f"{_NO_EVIDENCE}: the cost of tuning, see what is missing there"
    else:
        basis = f"The cost of tuning once, over what {tuned.name} saves against {diagnosed.name} per answer"
    answers = _volume(fixed, saved)
    return BreakEven(
        answers=answers,
        answers_low=_volume(fixed, interval.high) if interval else None,
        answers_high=_volume(fixed, interval.low) if interval else None,
        months=answers / team.answers_a_month if answers is not None and team.answers_a_month else None,
        saved_an_answer=saved,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        basis=basis,
    )


def _volume(fixed: float | None, saved: float) -> float | None:
    """Answers that pay for a fixed cost; None where it is unknown, or nothing is saved."""
    return fixed / saved if fixed is not None and saved > 0 else None


def _no_break_even(basis: str) -> BreakEven:
    return BreakEven(
        answers=None,
        answers_low=None,
        answers_high=None,
        months=None,
        saved_an_answer=None,
        low=None,
        high=None,
        basis=basis,
    )
