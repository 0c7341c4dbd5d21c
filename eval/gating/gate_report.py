"""A decision as text for a terminal and Markdown for a report, with the same numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from eval.gating.verdicts import Decision, LimitLine, Line, Role, State
from eval.report import Table, as_markdown, as_text, bullets, rate
from eval.stats import Interval

HEADING = "## Gate"
_LINES = (
    *("", "asked for", "n", "stable", "candidate", "only stable", "only candidate", "p (Holm)"),
    *("difference", "95 % by topic", "at worst", "state"),
)
_ASKED = {Role.PRIMARY: "decides", Role.WATCHED: "not worse", Role.SLICE: "not worse"}


def text_decision(decision: Decision) -> str:
    """For a terminal: the verdict first and last, because the tables between them are long."""
    parts = [decision.sentence(), *(as_text(table) for table in _tables(decision)), *_lists(decision)]
    return "\n\n".join([*filter(None, parts), decision.sentence()]) + "\n"


def markdown_decision(decision: Decision) -> str:
    """One section of a report; no HTML, so that it reads in a job's summary too."""
    parts = [f"{HEADING} {decision.gate}: {decision.subject.version}", f"**{decision.sentence()}**"]
    parts += [f"### {table.title}\n\n{as_markdown(table)}" for table in _tables(decision)]
    return "\n\n".join(filter(None, [*parts, *_lists(decision), _HOW_TO_READ])) + "\n"


def with_section(report: str, section: str) -> str:
    """A report with this section at its end, in place of one of the same heading."""
    heading = section.partition("\n")[0]
    before, found, rest = report.partition(f"{heading}\n")
    if not found:
        return f"{report.rstrip()}\n\n{section}" if report.strip() else section
    _, _, after = rest.partition("\n## ")
    kept = f"\n\n## {after}".rstrip() if after else ""
    return f"{before.rstrip()}{kept}\n\n{section}".lstrip()


def _tables(decision: Decision) -> Iterable[Table]:
    for title, roles in (
        ("Primaries and guards", (Role.PRIMARY, Role.GUARD, Role.WATCHED)),
        ("Slices", (Role.SLICE,)),
    ):
        lines = [line for line in decision.lines if line.role in roles and line.state is not State.NO_DATA]
        # Slices without numbers are many, and are named in one line below.
        rows = tuple(_row(line) for line in lines if line.stable is not None or line.role is not Role.SLICE)
        if rows:
            yield Table(title=title, header=_LINES, rows=rows)
    if decision.limits:
        yield Table(
            title="Limits",
            header=("", "n", "stable median", "candidate median", "ratio", "95 % by topic", "limit", "state"),
            rows=tuple(_limit_row(line) for line in decision.limits),
        )
    if decision.policies:
        yield Table(
            title="Policies, no failure allowed",
            header=("", "checked", "broken", "possible all the same (95 %)"),
            rows=tuple(
                (
                    line.policy,
                    str(line.checked),
                    str(len(line.broken)) if line.checked else "-",
                    f"up to {line.at_most:.1%}" if line.at_most is not None else line.note,
                )
                for line in decision.policies
            ),
        )


def _row(line: Line) -> tuple[str, ...]:
    asked = _ASKED.get(line.role, f"within {_points(-line.margin)}")
    state = str(line.state)
    if line.flipping and line.flips:
        state += f"; flips {rate(line.flips)}, decides nothing"
    if line.stable is None or line.candidate is None or line.difference is None or line.worst is None:
        missing = f" ({line.missing} missing)" if line.missing else ""
        return (line.name, asked, f"{line.n}{missing}", *("-",) * 8, state)
    return (
        line.name,
        asked,
        str(line.n) + (f" (+{line.one_arm_only} in one arm)" if line.one_arm_only else ""),
        rate(line.stable),
        rate(line.candidate),
        str(line.only_stable),
        str(line.only_candidate),
        f"{line.p_holm:.3g}",
        _points(line.difference),
        _interval(line.interval, 100),
        _points(line.worst),
        state,
    )


def _limit_row(line: LimitLine) -> tuple[str, ...]:
    state = f"{line.state}; not side by side, decides nothing" if line.apart else str(line.state)
    if line.ratio is None:
        return (line.measure, str(line.n), *("-",) * 4, f"{line.limit:g}", state)
    return (
        line.measure,
        str(line.n),
        f"{line.stable_median:.0f}",
        f"{line.candidate_median:.0f}",
        f"{line.ratio:.2f}",
        _interval(line.interval, 1),
        f"{line.limit:g}",
        state,
    )


def _lists(decision: Decision) -> Iterable[str]:
    yield bullets("Refused because", decision.refusals)
    yield bullets("Not enough evidence", decision.lacks)
    if (regression := decision.regression) is not None:
        right = regression.asked - len(regression.failed) - len(regression.missing)
        yield (
            bullets(
                f"Regression set: {right} of {regression.asked} right",
                [f"{case_id}: {why}" for case_id, why in {**regression.failed, **regression.missing}.items()],
            )
            or f"Regression set: all {regression.asked} right."
        )
    yield bullets("Slices not shown, too few questions or scores", list(_bare_slices(decision)))
    yield bullets("Notes", decision.notes)


def _bare_slices(decision: Decision) -> Iterable[str]:
    parts: defaultdict[str, list[str]] = defaultdict(list)
    for line in decision.lines:
        if line.role is Role.SLICE and line.stable is None:
            missing = f" and {line.missing} missing" if line.missing else ""
            parts[line.part].append(f"{line.metric} {line.n}{missing}")
    for part, counted in parts.items():
        yield f"{part}: {', '.join(counted)}"


def _points(difference: float) -> str:
    return f"{difference * 100:+.1f}"


def _interval(interval: Interval | None, scale: int) -> str:
    if interval is None:
        return "one topic only"
    if scale == 1:
        return f"{interval.low:.2f} to {interval.high:.2f}"
    return f"{_points(interval.low)} to {_points(interval.high)}"


_HOW_TO_READ = """Differences are in points and say up for better, whatever the metric's own direction.
"Better" and "worse" need both McNemar's exact test (after Holm) and the interval over topics; "not worse"
means that the one-sided 95 % bound ("at worst") is inside the margin; "not shown" is neither, and never means
the same."""
