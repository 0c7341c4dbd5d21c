"""The report of a day: sentences and tables, as Markdown with its date and as a part of the pilot's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from eval.advice.markup import Markup, tag
from eval.advice.tables import section, table
from eval.report import Table, as_markdown


@dataclass(frozen=True, slots=True, kw_only=True)
class DayReport:
    """What a day found. The first sentence is the one to remember."""

    sentences: tuple[str, ...]
    tables: tuple[Table, ...] = ()
    #: What to do or to mind, one a line.
    notes: tuple[str, ...] = ()
    #: Why nothing can be decided on this; empty if it can.
    thin: tuple[str, ...] = ()
    #: Files of the pilot's folder to look into.
    files: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """The report that `as_json` wrote."""
        return cls(
            **{name: tuple(value) for name, value in row.items() if name != "tables"},
            tables=tuple(
                Table(
                    title=each["title"],
                    header=tuple(each["header"]),
                    rows=tuple(tuple(cells) for cells in each["rows"]),
                )
                for each in row["tables"]
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DayView:
    """A day as the page shows it; without a report it is still to be done."""

    day: int
    title: str
    at: str = ""
    file: str = ""
    report: DayReport | None = None


def markdown_day(view: DayView) -> str:
    """The dated report."""
    report = view.report
    if report is None:
        return f"# Day {view.day}. {view.title}\n\nNot done yet.\n"
    parts = [f"# Day {view.day}. {view.title}", f"Finished {view.at}.", *report.sentences]
    if report.thin:
        parts.append("**Not enough evidence:** " + "; ".join(report.thin) + ".")
    parts += [f"## {each.title}\n\n{as_markdown(each)}" for each in report.tables if each.rows]
    if report.notes:
        parts.append("## To do and to mind\n\n" + "\n".join(f"- {note}" for note in report.notes))
    if report.files:
        parts.append("## Files\n\n" + "\n".join(f"- `{file}`" for file in report.files))
    return "\n\n".join(parts) + "\n"


def text_day(view: DayView) -> str:
    """The day for a terminal: what was found, without the tables."""
    if view.report is None:
        return f"Day {view.day}. {view.title}: not done yet"
    thin = [f"not enough evidence: {why}" for why in view.report.thin]
    lines = [*view.report.sentences, *thin, *(f"- {note}" for note in view.report.notes)]
    return "\n".join([f"Day {view.day}. {view.title}", *(f"  {line}" for line in lines)])


def pilot_page(name: str, days: Sequence[DayView], *, style: str) -> str:
    """One page over all days, without any outside resource."""
    done = sum(view.report is not None for view in days)
    return "<!doctype html>\n" + tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("title", f"Pilot {name}"),
            tag("style", Markup(style)),
        ),
        tag(
            "body",
            tag(
                "main",
                tag(
                    "header",
                    tag("p", f"Pilot {name}", class_="over"),
                    tag("h1", f"{done} of {len(days)} days done"),
                    tag("p", _newest(days), class_="sentence"),
                    class_="verdict",
                ),
                *(_day(view) for view in days),
            ),
        ),
        lang="en",
    )


def _newest(days: Sequence[DayView]) -> str:
    said = [view.report.sentences[0] for view in days if view.report and view.report.sentences]
    return said[-1] if said else "Nothing was measured yet."


def _day(view: DayView) -> Markup:
    title = f"Day {view.day}. {view.title}"
    report = view.report
    if report is None:
        return section(title, tag("p", "Not done yet.", class_="aside"))
    thin = f"Not enough evidence: {'; '.join(report.thin)}." if report.thin else None
    return section(
        title,
        tag("p", f"Finished {view.at}. ", tag("a", view.file, href=view.file), class_="aside"),
        *(tag("p", sentence) for sentence in report.sentences),
        tag("p", tag("strong", thin)) if thin else None,
        *(
            part
            for each in report.tables
            if each.rows
            for part in (tag("h3", each.title), table(each.header, each.rows))
        ),
        tag("ul", *(tag("li", note) for note in report.notes)) if report.notes else None,
        tag("p", *_links(report.files)) if report.files else None,
    )


def _links(files: Sequence[str]) -> list[Markup | str]:
    found: list[Markup | str] = []
    for file in files:
        found += [", "] * bool(found)
        found.append(tag("a", file, href=file))
    return found
