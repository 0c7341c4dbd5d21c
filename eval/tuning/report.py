"""The report for people, made from its JSON alone: text for a terminal, Markdown, and a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from eval.advice.markup import Markup, tag
from eval.advice.tables import section, table
from eval.report import Table, as_markdown, as_text, bullets
from eval.tuning.charts import risk_chart

_HOW_TO_READ = """Each number is k of n with a Wilson interval; what does not apply or is missing is not in n.
Differences are paired and in points, up for better whatever the metric's own direction. "Better" and "worse"
need McNemar's exact test, which counts among all metrics of the table (Holm), and the interval over topics;
"not shown" is neither, and never means the same. Risk is the share of wrong answers among those that are
served at a cut of the confidence; coverage is the share of all questions that they are."""


def text_report(content: Mapping[str, Any]) -> str:
    """For a terminal: the verdict first and last, because the tables between them are long."""
    parts = [content["sentence"], *(as_text(each) for each in _tables(content))]
    parts += [bullets(title, lines) for title, lines in _lists(content)]
    return "\n\n".join([*filter(None, parts), content["sentence"]]) + "\n"


def markdown_report(content: Mapping[str, Any]) -> str:
    """For a file."""
    parts = [f"# Tuned version {content['version']}", f"**{content['sentence']}**", _asked(content)]
    for title, lines in _lists(content):
        if lines:
            parts.append(f"## {title}\n\n" + "\n".join(f"- {line}" for line in lines))
    parts += [f"## {each.title}\n\n{as_markdown(each)}" for each in _tables(content)]
    parts.append(f"## How to read this\n\n{_HOW_TO_READ}")
    return "\n\n".join(parts) + "\n"


def page_report(content: Mapping[str, Any]) -> str:
    """One page without any outside resource."""
    chart = risk_chart(
        {arm: found["points"] for arm, found in content["risk"].items()}, title="Risk against coverage"
    )
    return "<!doctype html>\n" + tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("title", f"Tuned version {content['version']}"),
            tag("style", Markup(_style())),
        ),
        tag(
            "body",
            tag(
                "main",
                tag(
                    "header",
                    tag("p", f"Tuned version {content['version']}", class_="over"),
                    tag("h1", _VERDICTS[content["verdict"]]),
                    tag("p", content["sentence"], class_="sentence"),
                    tag("p", _asked(content), class_="aside"),
                    class_="verdict",
                ),
                *(
                    section(title, tag("ul", *(tag("li", line) for line in lines)))
                    for title, lines in _lists(content)
                    if lines
                ),
                *(section(each.title, table(each.header, each.rows)) for each in _tables(content)),
                section("Risk against coverage", chart) if content["risk"] else None,
                tag("footer", tag("p", _HOW_TO_READ)),
            ),
        ),
        lang="en",
    )


_VERDICTS = {"pass": "It may go on", "refused": "Refused", "not_enough": "Not enough evidence"}


@cache
def _style() -> str:
    return (files("eval.advice") / "page.css").read_text(encoding="utf-8")


def _asked(content: Mapping[str, Any]) -> str:
    asked = content["question_set"]
    left = ", ".join(f"{count} {why}" for why, count in asked["left_out"].items())
    arms = "; ".join(f"{name} is {arm['version']}" for name, arm in content["arms"].items())
    return (
        f"{asked['questions']} questions from {asked['name']} (sha256 {asked['sha256'][:12]})"
        f"{f', left out: {left}' if left else ''}. {arms}."
    )


def _lists(content: Mapping[str, Any]) -> Iterable[tuple[str, Sequence[str]]]:
    yield "What tuning was worth", content["worth"]
    yield "Refused because", content["refusals"]
    yield "Not enough evidence", content["lacks"]
    regression = content["regression"]
    if regression:
        wrong = {**regression["failed"], **regression["missing"]}
        right = regression["asked"] - len(wrong)
        title = f"Regression set: {right} of {regression['asked']} right"
        yield title, [f"{case_id}: {why}" for case_id, why in wrong.items()] or ["Everything that was fixed."]
    trained = content["trained_on"]
    rows = "nobody has looked" if trained["rows"] is None else f"held against {trained['rows']} rows"
    notes = [*content["notes"], f"unseen: {rows}"]
    notes += dict.fromkeys(note for gate in content["gates"].values() for note in gate["notes"])
    yield "Notes", notes


# ---- tables ----------------------------------------------------------------------------------------


def _tables(content: Mapping[str, Any]) -> list[Table]:
    arms, others = list(content["arms"]), [name for name in content["arms"] if name in content["labels"]]
    found = [
        _metrics(content, arms, others),
        _fields(content, arms),
        _slices(content, arms),
        _sentences(content, arms, others),
        _measures(content, arms, others),
        _risks(content, arms),
        _abstaining(content),
        *(_labels(content, other) for other in others),
    ]
    return [each for each in found if each.rows]


def _metrics(content: Mapping[str, Any], arms: Sequence[str], others: Sequence[str]) -> Table:
    rows = []
    for row in content["metrics"]:
        cells = [row["title"], *(_rate(row["arms"][arm]) for arm in arms)]
        for other in others:
            found = row["against"].get(other)
            cells += ["-"] * 3 if found is None else _difference(found)
        rows.append(tuple(cells))
    header = ["", *arms]
    for other in others:
        header += [f"against {other}", "p (Holm)", "state"]
    return Table(title="Metrics", header=tuple(header), rows=tuple(rows))


def _difference(found: Mapping[str, Any]) -> list[str]:
    interval = found["interval"]
    between = f" ({_points(interval[0])} to {_points(interval[1])})" if interval else ""
    apart = f"only there {found['only_other']}, only candidate {found['only_candidate']}"
    return [
        f"{_points(found['difference'])}{between}; {apart}",
        f"{found['p_holm']:.3g}",
        found["says"],
    ]


def _fields(content: Mapping[str, Any], arms: Sequence[str]) -> Table:
    return Table(
        title="Fields of the task",
        header=("field", "wanted", *arms),
        rows=tuple(
            (row["field"], row["value"] or "any", *(_rate(row["arms"][arm]) for arm in arms))
            for row in content["fields"]
        ),
    )


def _slices(content: Mapping[str, Any], arms: Sequence[str]) -> Table:
    return Table(
        title="Kinds of question",
        header=("kind", "questions", "metric", *arms),
        rows=tuple(
            (
                row["kind"],
                str(row["questions"]),
                row["metric"],
                *(_rate(row["arms"][arm]) for arm in arms),
            )
            for row in content["slices"]
        ),
    )


def _sentences(content: Mapping[str, Any], arms: Sequence[str], others: Sequence[str]) -> Table:
    rows = []
    for row in content["sentences"]:
        cells = [row["of"], *(_rate(row["arms"][arm]) for arm in arms)]
        for other in others:
            found = row["against"].get(other)
            interval = (found or {}).get("interval")
            between = f" ({_points(interval[0])} to {_points(interval[1])})" if interval else ""
            cells.append(f"{_points(found['difference'])}{between}" if found else "-")
        rows.append(tuple(cells))
    header = ("", *arms, *(f"against {other}, down is better" for other in others))
    return Table(title="Unsupported sentences", header=header, rows=tuple(rows))


def _measures(content: Mapping[str, Any], arms: Sequence[str], others: Sequence[str]) -> Table:
    rows = []
    for row in content["measures"]:
        cells = [row["measure"], *(_number(row["medians"][arm]) for arm in arms)]
        for other in others:
            found = row["against"].get(other)
            interval = (found or {}).get("interval")
            between = f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else ""
            cells.append(f"{found['ratio']:.2f}{between}" if found else "-")
        rows.append(tuple(cells))
    header = ("median", *arms, *(f"times {other}" for other in others))
    return Table(title="Tokens and milliseconds", header=header, rows=tuple(rows))


def _risks(content: Mapping[str, Any], arms: Sequence[str]) -> Table:
    shown = [arm for arm in arms if arm in content["risk"]]
    coverages = list(next(iter(content["risk"].values()))["risk_at"]) if shown else []
    return Table(
        title="Wrong answers among the surest",
        header=("", "served", "area under the curve", *(f"surest {float(at):.0%}" for at in coverages)),
        rows=tuple(
            (
                arm,
                _rate(content["risk"][arm]["served"]),
                _share(content["risk"][arm]["area"]),
                *(_share(content["risk"][arm]["risk_at"][at]) for at in coverages),
            )
            for arm in shown
        ),
    )


def _abstaining(content: Mapping[str, Any]) -> Table:
    return Table(
        title="Abstaining when due, at equal cost",
        header=(
            *("against", "candidate", "other"),
            *("candidate at the cut", "other at the cut", "answers given up", "given up by the other"),
        ),
        rows=tuple(
            (
                row["other"],
                *(_rate(row[name]) for name in ("own", "theirs")),
                *(_rate(row[name]) for name in ("at_equal_own", "at_equal_theirs")),
                *(_rate(row[name]) for name in ("given_up_own", "given_up_theirs")),
            )
            for row in content["abstaining"]
        ),
    )


def _labels(content: Mapping[str, Any], other: str) -> Table:
    return Table(
        title=f"Failures by label, against {other}",
        header=("label", f"in {other}", "of these the candidate passes", "new in the candidate"),
        rows=tuple(
            (row["label"], str(row["failed"]), str(row["fixed"]), str(row["broke"]))
            for row in content["labels"][other]
        ),
    )


# ---- cells -----------------------------------------------------------------------------------------


def _rate(shown: Mapping[str, Any]) -> str:
    missing = f" ({shown['missing']} missing)" if shown.get("missing") else ""
    if not shown["n"]:
        return f"-{missing}"
    return (
        f"{shown['k']}/{shown['n']} {shown['value']:.0%} [{shown['low'] * 100:.0f}-{shown['high'] * 100:.0f}]"
        f"{missing}"
    )


def _points(difference: float) -> str:
    return f"{difference * 100:+.1f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if value >= 10 else f"{value:.1f}"
