"""The figures of docs/no-illusion.md, made from the result file, so that page and result cannot differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from eval.advice.deciding import Verdict

PAGE = Path(__file__).parents[2] / "docs" / "no-illusion.md"
_BEGIN, _END = "<!-- figures: python -m bench.no_illusion -->\n", "<!-- end of figures -->\n"
_SAYS = {
    "wrong": "obvious fix",
    "halfway": "half-way",
    "right": "advised fix",
    "versus": "advised against obvious",
}
#: Of a case without a verdict nothing is advised.
_TRIED = {"wrong": "tried", "right": "tried", "versus": "the second against the first"}


def figures(result: Mapping[str, Any]) -> str:
    """Two tables: what was advised, and what each fix did."""
    cases = result["cases"]
    return "\n".join([*_advised(cases), "", *_measured(cases)]) + "\n"


def with_figures(page: str, result: Mapping[str, Any]) -> str:
    """The page with the figures of a result in their place."""
    before, _, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise ValueError(f"{PAGE}: the marks around the figures are gone; put {_BEGIN!r} and {_END!r} back")
    return f"{before}{_BEGIN}{figures(result)}{_END}{after}"


def _advised(cases: Mapping[str, Any]) -> Iterator[str]:
    yield "| case | questions | labels of what failed | advice | by the commonest label | by most failures |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name, case in cases.items():
        labels = sorted(case["labels"].items(), key=lambda item: (-item[1], item[0]))
        counted = ", ".join(f"{label} {k}" for label, k in labels if k)
        rules = case["rules"]
        yield (
            f"| {name} | {case['questions']} | {counted} | **{case['verdict']}** | {rules['commonest label']} | "
            f"{rules['most failures']} |"
        )


def _measured(cases: Mapping[str, Any]) -> Iterator[str]:
    yield "| case | what was done | before | after | points with 95 % interval | shown |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name, case in cases.items():
        every = [*case["tried"], *([case["right_over_wrong"]] if case["right_over_wrong"] else [])]
        says = _TRIED if case["verdict"] == Verdict.NOT_ENOUGH else _SAYS
        for tried in every:
            before, after = (f"{k} of {n}" for k, n in (tried["before"], tried["after"]))
            yield (
                f"| {name} | {says[tried['role']]}: {tried['title']} | {before} | {after} | {_points(tried)} | "
                f"{_shown(case, tried)} |"
            )


def _points(tried: Mapping[str, Any]) -> str:
    if tried["difference"] is None:
        return "not compared"
    points = f"{tried['difference'] * 100:+.0f}"
    if not tried["interval"]:
        return points
    low, high = tried["interval"]
    return f"{points} [{low * 100:+.0f}, {high * 100:+.0f}]"


def _shown(case: Mapping[str, Any], tried: Mapping[str, Any]) -> str:
    if not tried["resolved"]:
        return "nothing"
    return "**better**" if (tried["difference"] > 0) == case["higher_is_better"] else "**worse**"
