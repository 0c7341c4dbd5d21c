"""What answers take and cost, as rows of a table and as JSON, with the same numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from eval.costing import ArmCosting, Used
from eval.stats import Interval

_NOT_MEASURED = "not measured"
#: One answer costs too little to be read.
_ANSWERS = 1000


def costing_title(costings: Sequence[ArmCosting]) -> str:
    """The title says what the money is, or that there is none."""
    currency = next((each.currency for each in costings if each.cost), "")
    if not currency:
        return "What an answer takes by layer, mean and 95 % by topic (no prices: --team FILE)"
    return f"What an answer takes by layer, and {_ANSWERS} answers cost in {currency}, mean and 95 % by topic"


def costing_rows(costings: Sequence[ArmCosting]) -> Iterable[tuple[str, ...]]:
    """A row for each thing that a layer takes, then one for what each layer costs, and all of them."""
    for layer, unit in dict.fromkeys((used.layer, used.unit) for each in costings for used in each.used):
        yield (f"{layer}: {unit}", *(_used(each, layer, unit) for each in costings))
    yield ("review: passed to a person", *(_passed_on(each) for each in costings))
    if not any(each.cost for each in costings):
        return
    for name in dict.fromkeys(layer.name for each in costings if each.cost for layer in each.cost.layers):
        yield (f"cost: {name}", *(_layer(each, name) for each in costings))
    yield ("cost: layers with a price", *(_answer(each) for each in costings))


def costing_json(costings: Sequence[ArmCosting]) -> dict[str, Any]:
    """By arm; `cost` is null without prices, and a layer without one has no amount and says why."""
    return {
        each.arm: {
            "used": [_used_json(used) for used in each.used],
            "passed_on": {"k": each.passed_on.k, "n": each.passed_on.n} if each.passed_on else None,
            "currency": each.currency or None,
            "cost": asdict(each.cost) if each.cost else None,
        }
        for each in costings
    }


def _used(costing: ArmCosting, layer: str, unit: str) -> str:
    found = next((used for used in costing.used if (used.layer, used.unit) == (layer, unit)), None)
    return _NOT_MEASURED if found is None else _between(found.value, found.interval)


def _used_json(used: Used) -> dict[str, Any]:
    return {
        "layer": used.layer,
        "unit": used.unit,
        "mean": used.value,
        "low": used.interval.low if used.interval else None,
        "high": used.interval.high if used.interval else None,
        "answers": used.answers,
    }


def _passed_on(costing: ArmCosting) -> str:
    share = costing.passed_on
    if share is None:
        return _NOT_MEASURED
    low, high = share.interval.low * 100, share.interval.high * 100
    return f"{share.k}/{share.n} {share.value:.0%} [{low:.0f}-{high:.0f}]"


def _layer(costing: ArmCosting, name: str) -> str:
    layers = costing.cost.layers if costing.cost else ()
    found = next((layer for layer in layers if layer.name == name), None)
    if found is None:
        return _NOT_MEASURED
    if found.amount is None:
        return found.basis
    return _money(found.amount, found.low, found.high)


def _answer(costing: ArmCosting) -> str:
    cost = costing.cost
    if cost is None or cost.an_answer is None:
        return "no price of tokens"
    return _money(cost.an_answer, cost.low, cost.high)


def _money(value: float, low: float | None, high: float | None) -> str:
    between = Interval(low * _ANSWERS, high * _ANSWERS) if low is not None and high is not None else None
    return _between(value * _ANSWERS, between)


def _between(value: float, interval: Interval | None) -> str:
    return _figure(value) + (
        f" [{_figure(interval.low)} to {_figure(interval.high)}]" if interval is not None else ""
    )


def _figure(value: float) -> str:
    """Three digits that count, without an exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.6f}"
