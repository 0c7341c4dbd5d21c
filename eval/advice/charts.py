"""Charts of the page as inline SVG: bars with their intervals, a heat table, gains and costs."""

from __future__ import annotations

from collections.abc import Sequence

from eval.advice.figures import Figures
from eval.advice.markup import Markup, joined, tag
from eval.advice.tables import plain

_WIDTH = 760.0
_NAMES = 285.0
_FIGURES = 130.0
_ROW = 30.0
_BAR = 14.0
_TOP = 8.0
_AXIS = 26.0

#: Titles of layers, for the legend; their colours are in the style sheet, by class.
LAYERS = ("knowledge", "retrieval", "grounding", "behaviour", "reasoning", "policy", "unknown")


def label_bars(labels: Sequence[Figures], *, title: str) -> Markup:
    """One bar a label with its interval, as a share of all answers."""
    most = max((label.value["share"]["high"] for label in labels), default=0.0)
    scale = _Scale(0.0, _rounded(most))
    rows = [
        joined(
            _name(row, plain(label.text("label"))),
            tag(
                "rect",
                x=scale.x(0),
                y=_bar_top(row),
                width=scale.x(label.value["share"]["value"]) - scale.x(0),
                height=_BAR,
                rx=2,
                class_=f"bar layer-{label.text('layer')}",
            ),
            _whisker(row, scale, label.value["share"]["low"], label.value["share"]["high"]),
            tag(
                "text",
                label.count("share", "k", element="tspan"),
                " of ",
                label.count("share", "n", element="tspan"),
                x=_WIDTH - _FIGURES + 14,
                y=_baseline(row),
                class_="figure",
            ),
        )
        for row, label in enumerate(labels)
    ]
    return _chart(rows, scale, title=title, percent=True)


def gains(fixes: Sequence[Figures], *, title: str) -> Markup:
    """Expected gain of each fix in points, with its interval; hollow where it is at most."""
    effects = [fix.value["effect"] for fix in fixes]
    ends = [
        end
        for effect in effects
        for end in (effect["low"], effect["high"], effect["value"])
        if end is not None
    ]
    scale = _Scale(
        min(0.0, *(-_rounded(-end) if end < 0 else 0.0 for end in ends)), _rounded(max(0.0, *ends))
    )
    rows = []
    for row, fix in enumerate(fixes):
        effect = fix.at("effect")
        low, high = effect.value["low"], effect.value["high"]
        rows.append(
            joined(
                _name(row, fix.text("title")),
                _whisker(row, scale, low, high) if low is not None else None,
                tag(
                    "circle",
                    cx=scale.x(effect.value["value"]),
                    cy=_bar_top(row) + _BAR / 2,
                    r=6,
                    class_=f"dot {effect.text('basis')}",
                ),
                tag(
                    "text",
                    effect.points("value", element="tspan"),
                    " points",
                    x=_WIDTH - _FIGURES + 14,
                    y=_baseline(row),
                    class_="figure",
                ),
            )
        )
    return _chart(rows, scale, title=title, percent=False)


def arm_bars(arms: Sequence[Figures], *, title: str) -> Markup:
    """The share of right answers in each arm."""
    scale = _Scale(0.0, 1.0)
    rows = [
        joined(
            _name(row, f"{arm.text('name')} ({plain(arm.text('kind'))})"),
            tag(
                "rect",
                x=scale.x(0),
                y=_bar_top(row),
                width=scale.x(arm.value["passed"]["value"]) - scale.x(0),
                height=_BAR,
                rx=2,
                class_="bar passed",
            ),
            _whisker(row, scale, arm.value["passed"]["low"], arm.value["passed"]["high"]),
            tag(
                "text",
                arm.count("passed", "k", element="tspan"),
                " of ",
                arm.count("passed", "n", element="tspan"),
                x=_WIDTH - _FIGURES + 14,
                y=_baseline(row),
                class_="figure",
            ),
        )
        for row, arm in enumerate(arms)
    ]
    return _chart(rows, scale, title=title, percent=True)


def cost_bars(arms: Sequence[Figures], *, title: str) -> Markup:
    """What one answer costs in each arm, by layer."""
    scale = _Scale(0.0, max((arm.value["an_answer"] for arm in arms), default=0.0) or 1.0)
    rows = []
    for row, arm in enumerate(arms):
        pieces, reached = [], 0.0
        for layer in arm.value["layers"]:
            amount = layer["amount"] or 0.0
            pieces.append(
                tag(
                    "rect",
                    x=scale.x(reached),
                    y=_bar_top(row),
                    width=scale.x(reached + amount) - scale.x(reached),
                    height=_BAR,
                    class_=f"bar cost-{layer['name']}",
                )
            )
            reached += amount
        rows.append(
            joined(
                _name(row, arm.text("arm")),
                *pieces,
                tag(
                    "text",
                    arm.money("an_answer", element="tspan"),
                    x=_WIDTH - _FIGURES + 14,
                    y=_baseline(row),
                    class_="figure",
                ),
            )
        )
    return _chart(rows, scale, title=title, percent=None)


class _Scale:
    """Values to pixels, between the names on the left and the figures on the right."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high if high > low else low + 1.0

    def x(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return _NAMES + share * (_WIDTH - _NAMES - _FIGURES)

    def ticks(self) -> list[float]:
        """Four or five round places."""
        step = next(
            step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5) if (self.high - self.low) / step <= 5.01
        )
        first, last = round(self.low / step), round(self.high / step)
        return [place * step for place in range(first, last + 1) if place * step <= self.high + 1e-9]


def _rounded(value: float) -> float:
    """The next tenth, or twentieth for small values, up to a whole."""
    step = 0.1 if value > 0.2 else 0.05
    places = int(value / step - 1e-9) + 1
    return min(1.0, max(step, places * step))


def _chart(rows: Sequence[Markup], scale: _Scale, *, title: str, percent: bool | None) -> Markup:
    """Rows over an axis. `percent` None draws no axis: money is read from the figures."""
    bottom = _TOP + len(rows) * _ROW
    axis = [] if percent is None else [_tick(tick, scale, bottom, percent=percent) for tick in scale.ticks()]
    height = bottom + (_AXIS if axis else 4.0)
    return tag(
        "svg",
        tag("title", title),
        *axis,
        *rows,
        viewBox=f"0 0 {_WIDTH:.0f} {height:.0f}",
        role="img",
        aria_label=title,
    )


def _tick(value: float, scale: _Scale, bottom: float, *, percent: bool) -> Markup:
    x = scale.x(value)
    text = f"{value * 100:.0f} %" if percent else f"{value * 100:+.0f}" if abs(value) > 1e-9 else "0"
    return joined(
        tag("line", x1=x, x2=x, y1=_TOP - 4, y2=bottom, class_="zero" if abs(value) < 1e-9 else "grid"),
        tag("text", text, x=x, y=bottom + 17, class_="tick"),
    )


def _name(row: int, text: str) -> Markup:
    shown = text if len(text) <= 42 else f"{text[:41]}…"
    return tag("text", shown, x=_NAMES - 10, y=_baseline(row), class_="name")


def _whisker(row: int, scale: _Scale, low: float, high: float) -> Markup:
    middle = _bar_top(row) + _BAR / 2
    return joined(
        tag("line", x1=scale.x(low), x2=scale.x(high), y1=middle, y2=middle, class_="whisker"),
        *(
            tag("line", x1=scale.x(end), x2=scale.x(end), y1=middle - 4, y2=middle + 4, class_="whisker")
            for end in (low, high)
        ),
    )


def _bar_top(row: int) -> float:
    return _TOP + row * _ROW + (_ROW - _BAR) / 2


def _baseline(row: int) -> float:
    return _TOP + row * _ROW + _ROW / 2 + 4.5
