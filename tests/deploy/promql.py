"""Which metrics and labels a PromQL expression names: enough of the grammar for boards and rules, no more.

Syntax is promtool's business. This finds names, so that a test can compare them with what a process exposes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<range>\[[^\]]*\])
    | (?P<number>(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?(?:[smhdwy]\w*)?)
    | (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
    | (?P<mark>[{}(),]|=~|!~|!=|==|=)
    | (?P<other>\S)
    """,
    re.VERBOSE,
)
_LABEL_LISTS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan", "atan2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What an expression names."""

    metrics: frozenset[str]
    labels: frozenset[str]


def named_in(expression: str) -> Named:
    """Metrics and labels of one expression, also of Grafana's `label_values(metric, label)`."""
    tokens = [
        (kind, match.group())
        for match in _TOKEN.finditer(expression)
        if (kind := match.lastgroup or "") not in ("string", "range", "number")
    ]
    metrics: set[str] = set()
    labels: set[str] = set()
    in_braces = False
    list_depth = 0
    for i, (kind, text) in enumerate(tokens):
        before = tokens[i - 1][1] if i else ""
        after = tokens[i + 1][1] if i + 1 < len(tokens) else ""
        if text == "{":
            in_braces = True
        elif text == "}":
            in_braces = False
        elif text == "(" and (list_depth or before in _LABEL_LISTS):
            list_depth += 1
        elif text == ")" and list_depth:
            list_depth -= 1
        elif kind != "name":
            continue
        elif in_braces or list_depth:
            labels.add(text)
        elif text in _LABEL_LISTS or text.lower() in _WORDS:
            continue
        # `sum by (x) (...)`: an aggregation may be followed by its label list instead of a bracket.
        elif after not in ("(", "by", "without"):
            metrics.add(text)
    if expression.startswith("label_values("):
        metric, label = expression.removeprefix("label_values(").removesuffix(")").split(",")
        return Named(metrics=frozenset({metric.strip()}), labels=frozenset({label.strip()}))
    return Named(metrics=frozenset(metrics), labels=frozenset(labels))
