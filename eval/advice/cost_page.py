"""What answers cost, on the page: by layer in each arm, and from what volume tuning pays."""

from __future__ import annotations

from collections.abc import Callable

from eval.advice import charts
from eval.advice.figures import Figures
from eval.advice.markup import Markup, tag
from eval.advice.tables import NONE, interval, legend, section, table


def cost_section(found: Figures) -> Markup:
    """One section; amounts that nobody can know are said to be missing."""
    costs = found.at("costs")
    priced = [arm for arm in costs.each("arms") if arm.value["an_answer"] is not None]
    money = costs.text("currency")
    layers = [layer["name"] for layer in costs.value["arms"][0]["layers"]] if costs.value["arms"] else []
    return section(
        "What an answer costs",
        legend(layers, "cost") if priced else None,
        charts.cost_bars(priced, title=f"Cost of one answer in {money}, by layer") if priced else None,
        table(
            (
                "arm",
                *layers,
                f"an answer, {money}",
                "between",
                "prompt tokens",
                "of them cached",
                "output tokens",
            ),
            [
                (
                    arm.text("arm"),
                    *(
                        layer.money("amount") if layer.value["amount"] is not None else NONE
                        for layer in arm.each("layers")
                    ),
                    _or_none(arm, "an_answer", arm.money),
                    interval(arm, "money"),
                    _or_none(arm, "prompt_tokens", arm.count),
                    _or_none(arm, "cached_tokens", arm.count),
                    _or_none(arm, "completion_tokens", arm.count),
                )
                for arm in costs.each("arms")
            ],
        ),
        _missing_prices(costs),
        tag("h3", "From what volume tuning pays"),
        _break_even(costs.at("break_even"), money),
    )


def _missing_prices(costs: Figures) -> Markup | None:
    reasons = {
        f"{layer['name']}: {layer['basis']}"
        for arm in costs.value["arms"]
        for layer in arm["layers"]
        if layer["amount"] is None
    }
    return tag("p", f"Not in the sums. {'; '.join(sorted(reasons))}.", class_="aside") if reasons else None


def _break_even(part: Figures, money: str) -> Markup:
    pieces: list[Markup | str] = []
    if part.value["answers"] is not None:
        pieces += [part.count("answers", class_="large"), " answers"]
        if part.value["answers_low"] is not None and part.value["answers_high"] is not None:
            pieces += [" (", part.count("answers_low"), " to ", part.count("answers_high"), ")"]
        if part.value["months"] is not None:
            pieces += [", ", part.money("months"), " months of your traffic"]
        pieces.append(". ")
    if part.value["saved_an_answer"] is not None:
        pieces += ["Saved per answer: ", part.money("saved_an_answer"), f" {money}"]
        if part.value["low"] is not None:
            pieces += [" (", part.money("low"), " to ", part.money("high"), ")"]
        pieces.append(". ")
    return tag("p", *pieces, f"{part.text('basis')}.")


def _or_none(part: Figures, name: str, show: Callable[[str], Markup]) -> Markup:
    return show(name) if part.value[name] is not None else NONE
