"""Questions out of tables and foreign JSON lines, whose columns have names of their own."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import orjson

from eval.errors import CaseFileError
from eval.lines import Places, parse_line, read_lines
from eval.sets.questions import FORMAT_PAGE, Question

#: Columns that become a field of the same name.
_PLAIN = (
    *("id", "text", "source", "asker", "task_type", "cluster", "split", "status", "kind", "intent"),
    *("escalation_reason", "note"),
)
#: Columns that hold several values, with `;` between them.
_LISTS = ("gold", "stale_values")
#: Columns of facts, by how they are matched: `;` between facts, `|` between spellings or members.
_FACTS = ("exact", "number", "regex", "set")
#: Columns that all facts of a row share.
_FACT_FIELDS = ("document", "valid_from", "valid_to")
#: Columns that only JSON can hold, in the format of question sets.
_NESTED = ("facts", "history")
COLUMNS = (*_PLAIN, "asked_at", *_LISTS, *_FACTS, *_FACT_FIELDS, *_NESTED)
_TABLES = {".csv": ",", ".tsv": "\t"}
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What a file holds."""

    questions: tuple[Question, ...]
    #: Rows without a text.
    blank: int
    #: Columns that mean nothing here.
    ignored: tuple[str, ...]


def parse_columns(texts: Sequence[str]) -> dict[str, str]:
    """`text=Message` as field -> column of the file."""
    columns = {}
    for text in texts:
        field, equals, column = text.partition("=")
        if not equals or not column or field not in COLUMNS:
            raise CaseFileError(
                file=Path(text),
                field="--column",
                what="is not FIELD=COLUMN",
                fix=f"write for example text=Message; fields are {', '.join(COLUMNS)}",
            )
        columns[field] = column
    return columns


def read_rows(file: Path, columns: Mapping[str, str]) -> Rows:
    """The questions of a CSV, TSV or JSONL file. A field without a column takes the one of its own name."""
    table = file.suffix.lower() in _TABLES
    found = list(_table(file)) if table else list(_objects(file))
    if not found:
        raise CaseFileError(file=file, what="holds no question", fix="export at least one row")
    there = dict.fromkeys(key for _, row in found for key in row)
    names = {field: columns.get(field, field) for field in COLUMNS}
    for field, column in columns.items():
        if column not in there:
            raise CaseFileError(
                file=file,
                field=field,
                what=f"no column {column!r}",
                fix=f"choose from {', '.join(there)}",
            )
    if names["text"] not in there:
        raise CaseFileError(
            file=file,
            field="text",
            what="no column of this name",
            fix=f"say which one holds the question, --column text=NAME, of {', '.join(there)}",
        )
    places, questions, blank = Places(), [], 0
    for number, row in found:
        named = {field: row.get(column) for field, column in names.items()}
        if not str(named["text"] or "").strip():
            blank += 1
            continue
        fields = _fields(file, number, named)
        question = parse_line(Question, file, number, orjson.dumps(fields), format_page=FORMAT_PAGE)
        places.add(file, number, question.id)
        questions.append(question)
    used = set(names.values())
    return Rows(
        questions=tuple(questions), blank=blank, ignored=tuple(key for key in there if key not in used)
    )


def _fields(file: Path, number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as a line of the question-set format; empty cells are not there."""
    fields: dict[str, Any] = {
        name: row[name].strip() if isinstance(row[name], str) else row[name]
        for name in (*_PLAIN, *_NESTED)
        if row[name] not in (None, "", [])
    }
    fields.setdefault("id", f"{file.stem}-{number}")
    fields["id"] = str(fields["id"])
    fields.setdefault("source", f"{file.name}:{number}")
    if asked := row["asked_at"]:
        day = _DAY.match(str(asked).strip())
        fields["asked_at"] = day[0] if day else str(asked)
    for name in _LISTS:
        if values := _several(row[name], ";"):
            fields[name] = values
    shared = {name: row[name] for name in _FACT_FIELDS if row[name]}
    facts = [
        {"match": match, "values": _several(cell, "|"), **shared}
        for match in _FACTS
        for cell in _several(row[match], None if match == "regex" else ";")
    ]
    if facts:
        fields["facts"] = [*fields.get("facts", []), *facts]
    return fields


def _several(cell: Any, separator: str | None) -> list[str]:
    if cell is None or cell == "":
        return []
    if isinstance(cell, list):
        return [str(value) for value in cell]
    parts = str(cell).split(separator) if separator else [str(cell)]
    return [part.strip() for part in parts if part.strip()]


def _table(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise CaseFileError(file=file, what=exc.strerror or "cannot be read", fix="check the path") from exc
    except UnicodeDecodeError as exc:
        raise CaseFileError(
            file=file, what=f"is not UTF-8 (byte {exc.start})", fix="save it as CSV in UTF-8"
        ) from exc
    reader = csv.DictReader(StringIO(text, newline=""), delimiter=_TABLES[file.suffix.lower()], strict=True)
    try:
        for row in reader:
            if None in row:
                raise CaseFileError(
                    file=file,
                    line=reader.line_num,
                    what="has more cells than the header",
                    fix="put cells that hold the separator into quotes",
                )
            yield reader.line_num, row
    except csv.Error as exc:
        raise CaseFileError(
            file=file, line=reader.line_num, what=str(exc), fix="close the quotes of this row"
        ) from exc


def _objects(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in read_lines(file):
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as exc:
            raise CaseFileError(
                file=file, line=number, what=f"not JSON ({exc.msg})", fix="write one JSON object a line"
            ) from exc
        if not isinstance(row, dict):
            raise CaseFileError(
                file=file, line=number, what="not a JSON object", fix="write one JSON object a line"
            )
        yield number, row
