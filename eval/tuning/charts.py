"""Risk against coverage as inline SVG, a line an arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.advice.markup import Markup, joined, tag

_WIDTH, _HEIGHT = 760.0, 360.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 60.0, 150.0, 14.0, 44.0
#: Apart in lightness too, for those who print or do not tell colours.
_STROKES = (("#2f6fb3", ""), ("#e08e1b", "7 4"), ("#8a5cc7", "2 4"))
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def risk_chart(curves: Mapping[str, Sequence[Mapping[str, Any]]], *, title: str) -> Markup:
    """Each curve from its surest answers to all that it serves."""
    lines = [
        _line(place, name, points, *_STROKES[place % len(_STROKES)])
        for place, (name, points) in enumerate(curves.items())
        if points
    ]
    return tag(
        "svg",
        tag("title", title),
        *(_across(tick) for tick in _TICKS),
        *(_up(tick) for tick in _TICKS),
        tag("text", "coverage", x=(_LEFT + _WIDTH - _RIGHT) / 2, y=_HEIGHT - 6, class_="tick"),
        tag("text", "wrong", x=_LEFT - 8, y=_TOP - 2, class_="tick"),
        *lines,
        viewBox=f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}",
        role="img",
        aria_label=title,
    )


def _x(coverage: float) -> float:
    return _LEFT + coverage * (_WIDTH - _LEFT - _RIGHT)


def _y(risk: float) -> float:
    return _TOP + (1 - risk) * (_HEIGHT - _TOP - _BOTTOM)


def _line(place: int, name: str, points: Sequence[Mapping[str, Any]], colour: str, dashes: str) -> Markup:
    path = " ".join(f"{_x(point['coverage']):.1f},{_y(point['risk']):.1f}" for point in points)
    end = points[-1]
    return joined(
        tag(
            "polyline",
            points=path,
            fill="none",
            stroke=colour,
            stroke_width=2.5,
            stroke_dasharray=dashes or None,
        ),
        tag("circle", cx=_x(end["coverage"]), cy=_y(end["risk"]), r=4.0, fill=colour),
        tag(
            "line",
            x1=_WIDTH - _RIGHT + 12,
            x2=_WIDTH - _RIGHT + 40,
            y1=_TOP + 12 + 22 * place,
            y2=_TOP + 12 + 22 * place,
            stroke=colour,
            stroke_width=2.5,
            stroke_dasharray=dashes or None,
        ),
        tag("text", name, x=_WIDTH - _RIGHT + 46, y=_TOP + 16.5 + 22 * place),
    )


def _across(tick: float) -> Markup:
    return joined(
        tag("line", x1=_x(0), x2=_x(1), y1=_y(tick), y2=_y(tick), class_="grid"),
        tag("text", f"{tick * 100:.0f} %", x=_LEFT - 26, y=_y(tick) + 4, class_="tick"),
    )


def _up(tick: float) -> Markup:
    return joined(
        tag("line", x1=_x(tick), x2=_x(tick), y1=_y(0), y2=_y(1), class_="grid"),
        tag("text", f"{tick * 100:.0f} %", x=_x(tick), y=_y(0) + 18, class_="tick"),
    )
