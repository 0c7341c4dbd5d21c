"""Tables of the page and the cells that they share."""

from __future__ import annotations

from collections.abc import Sequence

from eval.advice.figures import Figures
from eval.advice.markup import Markup, joined, tag

NONE = tag("span", "no evidence", class_="none")


def table(
    header: Sequence[str], rows: Sequence[Sequence[Markup | str]], *, class_: str | None = None
) -> Markup:
    """Rows under a header."""
    return tag(
        "div",
        tag(
            "table",
            tag("thead", tag("tr", *(tag("th", name) for name in header))),
            tag("tbody", *(tag("tr", *(tag("td", cell) for cell in row)) for row in rows)),
            class_=class_,
        ),
        class_="wide",
    )


def interval(part: Figures, unit: str) -> Markup:
    """`low to high` of a part, as percent, points or money."""
    if part.value["low"] is None:
        return NONE
    show = {"percent": part.percent, "points": part.points, "money": part.money}[unit]
    return joined(show("low"), " to ", show("high"))


def plain(word: str) -> str:
    """A code as words."""
    return word.replace("_", " ").replace(".", ": ")


def section(title: str, *content: Markup | str | None) -> Markup:
    """A part of the page under a heading."""
    return tag("section", tag("h2", title), *content)


def legend(names: Sequence[str], kind: str) -> Markup:
    """What the colours of a chart stand for."""
    return tag(
        "p",
        *(joined(tag("i", class_=f"key {kind}-{name}"), tag("span", plain(name))) for name in names),
        class_="legend",
    )
