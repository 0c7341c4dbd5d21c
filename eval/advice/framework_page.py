"""The decision framework's four tables on the page."""

from __future__ import annotations

from collections.abc import Iterable

from eval.advice.figures import Figures
from eval.advice.markup import Markup, joined, tag
from eval.advice.tables import NONE, plain, table


def framework_sections(found: Figures) -> Iterable[Markup]:
    """Matrix, failure-to-fix map, cost comparison and checklist, each cell with its evidence."""
    frame = found.at("framework")
    yield tag("section", tag("h2", "The decision framework, filled in"), _matrix(frame), class_="framework")
    yield tag("section", tag("h2", "Failure-to-fix map"), _failure_map(frame), class_="framework")
    if frame.value["cost_comparison"]:
        money = found.text("costs", "currency")
        yield tag("section", tag("h2", "Cost comparison"), _comparison(frame, money), class_="framework")
    yield tag("section", tag("h2", "Checklist"), _checklist(frame), class_="framework")


def _answer(word: str) -> Markup:
    return tag("span", word, class_=f"answer {word.replace(' ', '_')}")


def _evidence(text: str) -> Markup:
    return tag("span", text, class_="none" if text.startswith("no evidence") else "evidence")


def _matrix(frame: Figures) -> Markup:
    def cell(row: Figures, column: str) -> Markup:
        return joined(
            tag("strong", row.text(column, "fit")), tag("br"), _evidence(row.text(column, "evidence"))
        )

    return table(
        ("signal", "here?", "RAG", "fine-tuning", "hybrid", "interpretation"),
        [
            (
                row.text("signal"),
                joined(_answer(row.text("present")), tag("br"), _evidence(row.text("evidence"))),
                cell(row, "rag"),
                cell(row, "fine_tuning"),
                cell(row, "hybrid"),
                row.text("interpretation"),
            )
            for row in frame.each("matrix")
        ],
    )


def _failure_map(frame: Figures) -> Markup:
    return table(
        ("failure", "framework's first fix", "seen", "fix here", "evidence"),
        [
            (
                row.text("failure"),
                row.text("framework_fix"),
                joined(row.count("seen", "k"), " of ", row.count("seen", "n")) if row.value["seen"] else "",
                row.text("fix"),
                _evidence(row.text("evidence")),
            )
            for row in frame.each("failure_map")
        ],
    )


def _comparison(frame: Figures, money: str) -> Markup:
    return table(
        ("side", "cost", money, "per", "evidence"),
        [
            (
                row.text("side"),
                plain(row.text("cost", "name")),
                row.money("cost", "amount") if row.value["cost"]["amount"] is not None else NONE,
                row.text("per"),
                _evidence(row.text("cost", "basis")),
            )
            for row in frame.each("cost_comparison")
        ],
    )


def _checklist(frame: Figures) -> Markup:
    return table(
        ("item", "here?", "evidence"),
        [
            (row.text("item"), _answer(row.text("answer")), _evidence(row.text("evidence")))
            for row in frame.each("checklist")
        ],
    )
