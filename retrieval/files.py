"""What a parser is given as the documents in it: a page has one, a corpus of rows many."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from retrieval.encodings import UTF16_MARKS, foreign_kind
from retrieval.errors import UnparsableDocumentError
from retrieval.front_matter import SIDECAR, read_fields, with_names
from retrieval.limits import ReadLimits
from retrieval.parsing import KINDS, TABLES, ParsedDocument, parse_content, parse_file, parse_row
from retrieval.tables import document_row, heading_of, holds_documents, rows

CORPORA = (".jsonl", ".jsonl.gz")
_LONGEST_SIDECAR = 100_000
#: A file, or the content of a document that was sent.
Unread = Path | Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One document that is yet to be read."""

    #: Its file, with the line for a row.
    place: str
    parse: Callable[[], ParsedDocument]


def is_readable(name: str) -> bool:
    """Whether files of this name are read."""
    return name.lower().endswith((*KINDS, *CORPORA))


def entries(unread: Unread, name: str, limits: ReadLimits) -> Iterator[Entry]:
    """The documents of a file, found one by one and read when the caller asks; or the one that was sent."""
    if not isinstance(unread, Path):
        yield Entry(place=name, parse=partial(parse_content, name, unread, limits=limits))
        return
    path, sidecar = unread, _sidecar(unread, name)
    if name.lower().endswith(CORPORA):
        yield from _json_rows(path, name, limits, sidecar)
    elif name.lower().endswith(TABLES) and (heading := _heading(path, name, limits)):
        yield from _table_rows(path, name, limits, sidecar, heading)
    else:
        yield Entry(place=name, parse=partial(_whole, path, name, limits, sidecar))


def failure_of(place: str, exc: Exception, limits: ReadLimits) -> UnparsableDocumentError:
    """Why something could not be read, in the words for the person who has to mend it."""
    match exc:
        case UnparsableDocumentError():
            return exc
        case MemoryError():
            return out_of_memory(place, limits)
        case RecursionError():
            return UnparsableDocumentError(place, "content", "is nested too deeply", "simplify its markup")
        case UnicodeError():
            return UnparsableDocumentError(place, "content", "is not UTF-8 text", "save the file as UTF-8")
        case EOFError() | zlib.error() | gzip.BadGzipFile():
            return UnparsableDocumentError(place, "file", f"is not whole gzip: {exc}", "compress it again")
        case OSError():
            problem = exc.strerror or "cannot be read"
            return UnparsableDocumentError(place, "file", problem, "check its permissions")
        case _:
            problem = f"cannot be read ({type(exc).__name__}: {' '.join(str(exc).split())[:200]})"
            return UnparsableDocumentError(place, "content", problem, "save it again, or in another format")


def out_of_memory(place: str, limits: ReadLimits) -> UnparsableDocumentError:
    """A document whose reading takes more memory than there is for it."""
    problem = f"needs more than {limits.memory_mb} MB to be read"
    return UnparsableDocumentError(place, "memory", problem, "split it, or raise RETRIEVAL_PARSE_MEMORY_MB")


def _whole(path: Path, name: str, limits: ReadLimits, sidecar: Mapping[str, Any]) -> ParsedDocument:
    limits.check_size(name, path.stat().st_size)
    return parse_file(name, path.read_bytes(), sidecar=sidecar, limits=limits)


def _sidecar(path: Path, name: str) -> Mapping[str, Any]:
    """The fields in the YAML file beside a document."""
    beside = path.with_name(path.name + SIDECAR)
    try:
        with beside.open("rb") as file:
            content = file.read(_LONGEST_SIDECAR + 1)
    except FileNotFoundError:
        return {}
    except OSError as exc:
        problem = f"{beside.name}: {exc.strerror}"
        raise UnparsableDocumentError(name, "sidecar", problem, "check its permissions") from exc
    if len(content) > _LONGEST_SIDECAR:
        raise UnparsableDocumentError(
            name, "sidecar", f"{beside.name} is longer than {_LONGEST_SIDECAR} bytes", "keep to fields"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        problem = f"{beside.name} is not UTF-8 text"
        raise UnparsableDocumentError(name, "sidecar", problem, "save it as UTF-8") from exc
    return read_fields(name, "sidecar", text)


def _json_rows(path: Path, name: str, limits: ReadLimits, sidecar: Mapping[str, Any]) -> Iterator[Entry]:
    with _unpacked(path) as file:
        for number, line in enumerate(_json_lines(name, file, limits), start=1):
            place = f"{name}:{number}"
            if isinstance(line, UnparsableDocumentError) or line.strip():
                yield Entry(place=place, parse=partial(_json_row, place, line, sidecar))


def _json_row(
    place: str, line: bytes | UnparsableDocumentError, sidecar: Mapping[str, Any]
) -> ParsedDocument:
    if isinstance(line, UnparsableDocumentError):
        raise line
    try:
        row = json.loads(line)
    except ValueError as exc:
        fix = "write one JSON object a line"
        raise UnparsableDocumentError(place, "row", "is not JSON in UTF-8", fix) from exc
    return parse_row(place, row, sidecar=sidecar)


def _json_lines(
    name: str, file: gzip.GzipFile | IO[bytes], limits: ReadLimits
) -> Iterator[bytes | UnparsableDocumentError]:
    """Lines as UTF-8. Reads are bounded: a gzip of a few bytes may hold one endless line."""
    limit = limits.max_document_bytes
    if not _is_wide(name, file):
        read: Callable[[], bytes] = partial(file.readline, limit + 1)
    else:
        text = io.TextIOWrapper(file, encoding="utf-16", newline="\n")
        read = lambda: text.readline(limit + 1).encode()  # noqa: E731
    number = 0
    while line := read():
        number += 1
        if len(line) <= limit:
            yield line
            continue
        try:
            limits.check_size(f"{name}:{number}", len(line))
        except UnparsableDocumentError as exc:
            yield exc
        while line and not line.endswith(b"\n"):
            line = read()


def _heading(path: Path, name: str, limits: ReadLimits) -> tuple[str, ...]:
    """The columns of a table whose rows are documents; nothing for another table."""
    with path.open("rb") as file:
        first = next(rows(name, _text_lines(name, file, limits), longest=limits.max_document_bytes), None)
    if first is None or isinstance(first, UnparsableDocumentError):
        return ()
    heading = heading_of(first.cells)
    return heading if holds_documents(heading) else ()


def _table_rows(
    path: Path, name: str, limits: ReadLimits, sidecar: Mapping[str, Any], heading: tuple[str, ...]
) -> Iterator[Entry]:
    with path.open("rb") as file:
        found = rows(name, _text_lines(name, file, limits), longest=limits.max_document_bytes)
        next(found)  # the heading
        for row in found:
            place = row.file if isinstance(row, UnparsableDocumentError) else f"{name}:{row.line}"
            yield Entry(place=place, parse=partial(_table_row, place, row, heading, sidecar))


def _table_row(
    place: str,
    row: Any,
    heading: tuple[str, ...],
    sidecar: Mapping[str, Any],
) -> ParsedDocument:
    if isinstance(row, UnparsableDocumentError):
        raise row
    return parse_row(place, with_names(document_row(place, heading, row)), sidecar=sidecar)


def _text_lines(name: str, file: gzip.GzipFile | IO[bytes], limits: ReadLimits) -> Iterator[str]:
    encoding = "utf-16" if _is_wide(name, file) else "utf-8-sig"
    text = io.TextIOWrapper(file, encoding=encoding, newline="")
    number = 0
    while line := text.readline(limits.max_document_bytes + 1):
        number += 1
        limits.check_size(f"{name}:{number}", len(line))
        yield line


def _is_wide(name: str, file: gzip.GzipFile | IO[bytes]) -> bool:
    """Whether the file is UTF-16. What is no text at all is refused here."""
    start = file.read(8)
    file.seek(0)
    if kind := foreign_kind(start):
        fix = "give it the suffix of its kind"
        raise UnparsableDocumentError(name, "content", f"is {kind}, not text", fix)
    return start.startswith(UTF16_MARKS)


def _unpacked(path: Path) -> gzip.GzipFile | IO[bytes]:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")
