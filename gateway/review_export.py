"""Reviews as files, and knowledge gaps as the question list of the article that is missing."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

import orjson

from gateway.schemas.reviews import Gap, GapQuestion

Row = Mapping[str, Any]

#: Columns of an export, in order.
COLUMNS: Final = (
    *("id", "asked_at", "question", "answer", "status", "reasons", "cluster", "state"),
    *("proposed_label", "proposed_sub", "proposed_rule", "criteria"),
    *("ending", "label", "sub", "note", "corrected_answer", "closed_by", "closed_at", "readers"),
    *("same_label", "same_ending", "knowledge_version", "model_version"),
)
#: A spreadsheet would read a cell that begins so as a formula; questions come from strangers.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def as_jsonl(rows: Iterable[Row]) -> bytes:
    """One object a line."""
    return b"".join(orjson.dumps({name: row[name] for name in COLUMNS}) + b"\n" for row in rows)


def as_csv(rows: Iterable[Row]) -> bytes:
    """A table with a heading line; no cell is a formula."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(COLUMNS)
    for row in rows:
        table.writerow([_cell(row[name]) for name in COLUMNS])
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def gaps_of(rows: Sequence[Row]) -> list[Gap]:
    """Rows that are sorted by group, as one gap each."""
    return [_gap(name, list(group)) for name, group in groupby(rows, key=lambda row: row["group_name"])]


def _gap(name: str, rows: Sequence[Row]) -> Gap:
    questions = [GapQuestion.model_validate(row) for row in rows]
    nearest = next((row["nearest_id"] for row in rows if row["nearest_id"] not in (None, "erased")), None)
    heading = name or "Questions without a near article"
    lines = [f"# {heading}", "", "The article has to answer:", ""]
    for each in questions:
        lines.append(f"- {' '.join(each.question.split())}")
        if each.corrected_answer:
            lines.append(f"  - Wanted answer: {' '.join(each.corrected_answer.split())}")
        if each.note:
            lines.append(f"  - Note: {' '.join(each.note.split())}")
    if nearest:
        lines += ["", f"The article that came closest: {nearest}"]
    return Gap(name=heading, nearest_document_id=nearest, questions=questions, draft="\n".join(lines) + "\n")
