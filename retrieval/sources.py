"""What an ingest reads: a folder of files, or a JSONL corpus. Bad documents are listed and left out."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from retrieval.errors import DuplicateDocumentError, EmptySourceError, UnparsableDocumentError
from retrieval.parsing import READERS, ParsedDocument, parse_file, parse_row

MAX_DOCUMENT_BYTES = 20 * 1024 * 1024
_CORPORA = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Everything found in a source."""

    documents: tuple[ParsedDocument, ...]
    failures: tuple[UnparsableDocumentError, ...]
    #: Files of kinds that are not read, such as images.
    skipped: tuple[str, ...]


def read_source(source: Path, *, max_document_bytes: int = MAX_DOCUMENT_BYTES) -> Reading:
    """Read every document of a folder (with its subfolders) or of one file.

    Two documents with one id are refused before anything is written: neither can be meant to win.
    """
    if not source.exists():
        raise EmptySourceError(f"{source}: no such file or folder")
    documents: dict[str, ParsedDocument] = {}
    failures: list[UnparsableDocumentError] = []
    skipped: list[str] = []
    root = source if source.is_dir() else source.parent
    for path in _files(source):
        name = path.relative_to(root).as_posix()
        if not (path.suffix.lower() in READERS or name.lower().endswith(_CORPORA)):
            skipped.append(name)
            continue
        for parsed in _parse(path, name, max_document_bytes):
            if isinstance(parsed, UnparsableDocumentError):
                failures.append(parsed)
                continue
            earlier = documents.setdefault(parsed.document.id, parsed)
            if earlier is not parsed:
                raise DuplicateDocumentError(
                    f"id: {parsed.document.id!r} is in both {earlier.origin} and {parsed.origin}: rename one"
                )
    if not documents and not failures:
        raise EmptySourceError(
            f"{source}: no document found; known kinds: {', '.join((*READERS, *_CORPORA))}"
        )
    return Reading(documents=tuple(documents.values()), failures=tuple(failures), skipped=tuple(skipped))


def _files(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
        return
    for folder, subfolders, names in os.walk(source):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(folder) / name


def _parse(path: Path, name: str, limit: int) -> Iterator[ParsedDocument | UnparsableDocumentError]:
    try:
        if name.lower().endswith(_CORPORA):
            yield from _rows(path, name, limit)
        elif (size := path.stat().st_size) > limit:
            yield _too_large(name, size, limit)
        else:
            yield parse_file(name, path.read_bytes())
    except UnparsableDocumentError as exc:
        yield exc
    except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
        yield UnparsableDocumentError(name, "file", f"is not whole gzip: {exc}", "compress it again")
    except OSError as exc:
        yield UnparsableDocumentError(name, "file", exc.strerror or "cannot be read", "check its permissions")


def _rows(path: Path, name: str, limit: int) -> Iterator[ParsedDocument | UnparsableDocumentError]:
    with gzip.open(path, "rb") if name.lower().endswith(".gz") else path.open("rb") as file:
        number = 0
        # Bounded reads: a gzip of a few bytes may hold one endless line.
        while line := file.readline(limit + 1):
            number += 1
            place = f"{name}:{number}"
            if len(line) > limit:
                yield _too_large(place, len(line), limit)
                while line and not line.endswith(b"\n"):
                    line = file.readline(limit + 1)
                continue
            if not line.strip():
                continue
            try:
                yield parse_row(place, json.loads(line))
            except UnparsableDocumentError as exc:
                yield exc
            except ValueError:
                yield UnparsableDocumentError(
                    place, "row", "is not JSON in UTF-8", "write one JSON object a line"
                )


def _too_large(name: str, size: int, limit: int) -> UnparsableDocumentError:
    problem = f"has {size / 1e6:.1f} MB, more than {limit / 1e6:.1f} MB"
    return UnparsableDocumentError(name, "size", problem, "split it, or raise RETRIEVAL_MAX_DOCUMENT_BYTES")
