"""CSV and TSV: each row a document where the columns say so, else the whole file one table."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from retrieval.canonical import Text, TextWriter, table_line
from retrieval.chunking import BlockKind
from retrieval.errors import UnparsableDocumentError

#: Columns without which rows are no documents.
DOCUMENT_COLUMNS = frozenset({"id", "text"})
_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a table, and the line of the file on which it ends."""

    line: int
    cells: tuple[str, ...]


def rows(name: str, lines: Iterable[str], *, longest: int) -> Iterator[Row | UnparsableDocumentError]:
    """The rows of a CSV or TSV file that are not blank. The heading decides what stands between cells.

    A row with a stray quotation mark is an error, and reading goes on with the next line.
    """
    source = iter(lines)
    first = next(source, "")
    delimiter = "\t" if name.lower().endswith(".tsv") else max(_DELIMITERS, key=_unquoted(first).count)
    reader = csv.reader(_chained(first, source), delimiter=delimiter, strict=True)
    while True:
        try:
            cells = _next(reader, longest)
        except csv.Error as exc:
            place = f"{name}:{reader.line_num}"
            fix = 'close each quotation mark, and write one inside a cell as ""'
            yield UnparsableDocumentError(place, "row", f"is not {_kind(name)}: {exc}", fix)
            continue
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield Row(line=reader.line_num, cells=tuple(cell.strip() for cell in cells))


def _next(reader: Iterator[list[str]], longest: int) -> list[str] | None:
    """The next row. The limit on cells is the process's: others that read tables in it must not get ours."""
    before = csv.field_size_limit(longest)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(before)


def heading_of(cells: Iterable[str]) -> tuple[str, ...]:
    """Names of columns: `ID` and ` Text ` are meant as `id` and `text`."""
    names = [cell.strip() for cell in cells]
    return tuple(name.lower() if name.lower() in ("id", "text", "title") else name for name in names)


def holds_documents(heading: Iterable[str]) -> bool:
    """Whether rows under this heading are documents."""
    return set(heading) >= DOCUMENT_COLUMNS


def document_row(place: str, heading: tuple[str, ...], row: Row) -> Mapping[str, str]:
    """A row as the fields of a document; empty cells say nothing."""
    if len(row.cells) != len(heading):
        problem = f"has {len(row.cells)} cells under {len(heading)} columns"
        raise UnparsableDocumentError(place, "row", problem, "quote cells that hold a separator")
    return {
        column: cell
        for column, cell in zip(heading, row.cells, strict=True)
        if column and (cell or column == "text")
    }


def read_table(name: str, text: str) -> Text:
    """The whole file as one table whose lines name their columns."""
    writer = TextWriter()
    found: list[list[str]] = []
    for row in rows(name, io.StringIO(text, newline=""), longest=max(1, len(text))):
        if isinstance(row, UnparsableDocumentError):
            raise row
        found.append([" ".join(cell.split()) for cell in row.cells])
    heading, body = (found[0], found[1:]) if len(found) > 1 else ([], found)
    lines = [table_line(heading, cells) for cells in body]
    writer.add(BlockKind.TABLE, "\n".join(lines))
    return writer.text()


def _unquoted(line: str) -> str:
    return re.sub(r'"[^"]*"', "", line)


def _chained(first: str, rest: Iterator[str]) -> Iterator[str]:
    if first:
        yield first
    yield from rest


def _kind(name: str) -> str:
    return "TSV" if name.lower().endswith(".tsv") else "CSV"
