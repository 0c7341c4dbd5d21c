"""What an ingest reads: a folder of files, or one file. Bad documents are listed and left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from retrieval.documents import is_storable
from retrieval.errors import DuplicateDocumentError, EmptySourceError, UnparsableDocumentError
from retrieval.files import CORPORA, is_readable
from retrieval.front_matter import SIDECAR
from retrieval.limits import DEFAULT_LIMITS, ReadLimits
from retrieval.parsing import KINDS, ParsedDocument
from retrieval.parsing_process import ParsingProcess
from retrieval.reading import OnRead, ReadProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Everything found in a source."""

    #: The source's, unless an ingest gives it another.
    name: str
    began_at: datetime
    documents: tuple[ParsedDocument, ...]
    failures: tuple[UnparsableDocumentError, ...]
    #: Files of kinds that are not read, such as images.
    skipped: tuple[str, ...] = ()
    #: False where it broke off: nothing is known of what it did not come to, so nothing is removed.
    complete: bool = True


def read_source(
    source: Path,
    *,
    limits: ReadLimits = DEFAULT_LIMITS,
    process: ParsingProcess | None = None,
    on_progress: OnRead = lambda _progress: None,
) -> Reading:
    """Read every document of a folder (with its subfolders) or of one file.

    Files are opened one at a time, in a process of their own: `process`, or one for this call only.
    `on_progress` is called before each document, so what it raises stops the reading there.
    Two documents with one id are refused before anything is written: neither can be meant to win.
    """
    began_at = datetime.now(UTC)
    if not source.exists():
        raise EmptySourceError(f"{source}: no such file or folder")
    root = source if source.is_dir() else source.parent
    named = [(path, path.relative_to(root).as_posix()) for path in _files(source)]
    readable = [(path, name) for path, name in named if is_readable(name)]
    skipped = tuple(_printable(name) for _, name in named if not is_readable(name))
    if not readable:
        raise EmptySourceError(f"{source}: no document found; known kinds: {', '.join((*KINDS, *CORPORA))}")
    documents: dict[str, ParsedDocument] = {}
    failures: list[UnparsableDocumentError] = []
    used = process or ParsingProcess(limits)
    try:
        for number, (path, name) in enumerate(readable):
            changed_at = _changed_at(path)
            on_progress(ReadProgress(files=number, total=len(readable), documents=len(documents)))
            for read in _parse(used, path, name):
                on_progress(ReadProgress(files=number, total=len(readable), documents=len(documents)))
                if isinstance(read, UnparsableDocumentError):
                    failures.append(read)
                    continue
                parsed = replace(read, modified_at=read.modified_at or changed_at)
                earlier = documents.setdefault(parsed.document.id, parsed)
                if earlier is not parsed:
                    places = f"{earlier.origin} and {parsed.origin}"
                    raise DuplicateDocumentError(
                        f"id: {parsed.document.id!r} is in both {places}: rename one"
                    )
        on_progress(ReadProgress(files=len(readable), total=len(readable), documents=len(documents)))
    finally:
        if process is None:
            used.close()
    if not documents and not failures:
        raise EmptySourceError(f"{source}: no document found in {len(readable)} files")
    return Reading(
        name=source.resolve().name,
        began_at=began_at,
        documents=tuple(documents.values()),
        failures=tuple(failures),
        skipped=skipped,
    )


def _files(source: Path) -> Iterator[Path]:
    """The files that may be documents, without hidden ones, open Word documents' locks and sidecars."""
    if source.is_file():
        yield source
        return
    for folder, subfolders, names in os.walk(source):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        there = set(names)
        for name in sorted(names):
            described = name.removesuffix(SIDECAR)
            is_sidecar = described != name and described in there and is_readable(described)
            if not (name.startswith((".", "~$")) or is_sidecar):
                yield Path(folder) / name


def _parse(
    process: ParsingProcess, path: Path, name: str
) -> Iterator[ParsedDocument | UnparsableDocumentError]:
    if not is_storable(name):
        yield UnparsableDocumentError(_printable(name), "name", "is not UTF-8", "rename the file")
    elif path.exists() and not path.is_file():
        yield UnparsableDocumentError(name, "file", "is a pipe, socket or device", "remove it")
    else:
        yield from process.read(path, name)


def _changed_at(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return None  # Reading the file says what is wrong with it.


def _printable(name: str) -> str:
    return name.encode("utf-8", "replace").decode()
