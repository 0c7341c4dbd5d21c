"""The page: every number on it is one of the JSON, nothing comes from outside, nothing breaks out of it."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
from selectolax.lexbor import LexborHTMLParser

from bench.advice_logs import STARTUP, WORLDS, make_logs
from eval.advice.advice import advise
from eval.advice.counts import Draws
from eval.advice.figures import Figures
from eval.advice.page import advice_page
from eval.advice.team import Team

PRICED = {
    "answers_a_month": 20000,
    "knowledge": {
        "documents": 400,
        "documents_changed_a_week": 12,
        "private": True,
        "tokens_a_document": 900,
    },
    "wages": {"agent_hour": 32, "engineer_hour": 80, "minutes_a_handoff": 6},
    "prices": {
        "prompt_per_million": 0.6,
        "cached_per_million": 0.15,
        "completion_per_million": 2.4,
        "retrieval_hour": 0.4,
        "training_hour": 3.5,
    },
    "tuning": {
        "rows": 300,
        "minutes_a_row": 4,
        "training_hours": 2,
        "evaluation_hours": 4,
        "retrains_a_year": 4,
    },
}


def json_of(name: str, *, questions: int = 200, **priced: Any) -> dict[str, Any]:
    world, team = next((world, team) for found, world, team, _ in WORLDS if found == name)
    team = Team.model_validate({**team.model_dump(exclude_unset=True), **priced})
    logs = make_logs(replace(world, questions=questions, noise=0.05), 3)
    return advise(logs, team, Draws(resamples=400, seed=1)).as_json()


@pytest.fixture(
    params=["both fail", "from scratch, knowledge and tone", "documents are missing", "nobody knows why"]
)
def advice(request: pytest.FixtureRequest) -> dict[str, Any]:
    return json_of(request.param, **PRICED)


def strings(part: Any) -> set[str]:
    if isinstance(part, dict):
        return set(part) | set().union(*map(strings, part.values()), set())
    if isinstance(part, list):
        return set().union(*map(strings, part), set())
    return {part} if isinstance(part, str) else set()


def at(part: Any, path: str) -> Any:
    # A key may hold dots, as labels with a sub-code do.
    if path == "":
        return part
    if isinstance(part, list):
        head, _, rest = path.partition(".")
        return at(part[int(head)], rest)
    key = next(key for key in part if path == key or path.startswith(f"{key}."))
    return at(part[key], path[len(key) + 1 :])


def test_every_figure_is_the_jsons(advice: dict[str, Any]) -> None:
    page = LexborHTMLParser(advice_page(advice))
    figures = page.css("[data-path]")
    assert len(figures) > 60
    for figure in figures:
        value = at(advice, figure.attributes["data-path"] or "")
        assert figure.attributes["data-value"] == repr(value)
        shown = figure.text().replace(",", "").removesuffix(" %")
        percent = figure.text().endswith("%") or shown.startswith(("+", "-"))
        half_a_digit = 0.5 * 10.0 ** -len(shown.partition(".")[2]) + 1e-9
        assert float(shown) == pytest.approx(value * 100 if percent else value, abs=half_a_digit, rel=0)


def test_small_amounts_keep_three_figures() -> None:
    shown = Figures({"amount": 0.00000268, "one": 1.5, "many": 7008564.2, "zero": 0.0})
    texts = [re.sub("<[^>]+>", "", shown.money(name)) for name in ("amount", "one", "many", "zero")]
    assert texts == ["0.00000268", "1.50", "7,008,564", "0.00"]


def test_no_number_stands_on_the_page_that_is_not_of_the_json(advice: dict[str, Any]) -> None:
    """Text with digits is a figure, a whole sentence of the JSON, or a tick of an axis."""
    said = strings(advice)
    page = LexborHTMLParser(advice_page(advice))
    for node in page.css("style, [data-path], .tick"):
        node.decompose()
    text = unescape(re.sub(r"<[^>]+>", "\n", page.body.html or "" if page.body else ""))
    for line in filter(None, map(str.strip, text.split("\n"))):
        if re.search(r"\d", line):
            whole = {line, line.rstrip("."), line.removesuffix(".") + "."}
            inside = any(len(each) > 1 and each in line for each in said if re.search(r"\d", each))
            assert whole & said or inside, line


def test_nothing_comes_from_outside(advice: dict[str, Any]) -> None:
    page = advice_page(advice)
    assert not re.search(r"https?://|<script|<link|<img|url\(|@import|\bsrc=", page)
    assert page.startswith("<!doctype html>")


def test_what_is_named_like_markup_stays_text() -> None:
    advice = json_of("both fail")
    evil = "<script>alert(1)</script>"
    advice["diagnosed"]["clusters"][0]["cluster"] = evil
    advice["run"] = '"><img src=x>'
    page = advice_page(advice)
    assert evil not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<img" not in page


def test_charts_draw_each_label_and_each_fix() -> None:
    advice = json_of("both fail")
    page = LexborHTMLParser(advice_page(advice))
    charts = page.css("svg")
    assert [chart.css_first("title").text() for chart in charts] == [
        "Failures by cause, as a share of all answers",
        "Answers gained in points, with intervals over clusters",
        "Right answers in each arm",
    ]
    assert len(charts[0].css("rect")) == len(advice["diagnosed"]["labels"])
    assert len(charts[1].css("circle")) == len(advice["fixes"])
    assert len(charts[2].css("rect")) == len(advice["arms"])
    widths = [float(bar.attributes["width"] or 0) for bar in charts[0].css("rect")]
    shares = [label["share"]["value"] for label in advice["diagnosed"]["labels"]]
    assert [width / widths[0] for width in widths] == pytest.approx(
        [share / shares[0] for share in shares], abs=0.01
    )


def test_without_prices_no_cost_is_shown_and_what_is_missing_is_named() -> None:
    page = LexborHTMLParser(advice_page(json_of("both fail")))
    text = page.body.text() if page.body else ""
    assert "prices.prompt_per_million" in text
    assert not page.css("svg [class*=cost-]")


def test_the_page_of_no_arm_at_all() -> None:
    empty = replace(make_logs(replace(WORLDS[0][1], questions=3), 1), arms=())
    page = advice_page(advise(empty, STARTUP, Draws(resamples=200, seed=1)).as_json())
    assert "Not enough evidence" in page
    assert "no answered arm of kind" in page
