"""What goes into an ingest, how far it is and what it did: values that callers hold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self

from retrieval.connections import Connection
from retrieval.errors import DocumentError
from retrieval.parsing import ParsedDocument
from retrieval.reading import ReadProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Single documents of a source to write and to take away; the rest of the source stays."""

    upserts: tuple[ParsedDocument, ...] = ()
    #: Ids.
    deletes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestProgress:
    """How far an ingest is: files read, then passages embedded and published. `total` is 0 while it is not
    known."""

    stage: str
    done: int
    total: int
    #: Documents found in the files so far.
    documents: int = 0

    @classmethod
    def of(cls, progress: ReadProgress) -> Self:
        """While files are read."""
        return cls(stage="read", done=progress.files, total=progress.total, documents=progress.documents)


#: Called between two documents or batches, while files are read from another thread. What it raises stops the
#: run there: nothing is published, and the vectors so far are kept for the next one.
OnProgress = Callable[[IngestProgress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What an ingest did, or with `dry_run` would do."""

    source: str
    documents: int
    added: int
    changed: int
    removed: int
    unchanged: int
    access_changed: int
    #: Unchanged documents that are read from another file now.
    renamed: int
    chunks: int
    embedded: int
    #: Documents that were left out, each with its reason; what is live of them stays.
    failures: tuple[DocumentError, ...]
    skipped: tuple[str, ...]
    #: Live snapshot afterwards; the one before, if nothing moved.
    snapshot: int
    versions: tuple[str, ...]
    dry_run: bool


#: Runs in the publish's own transaction: what it writes becomes visible with the snapshot, or not at all.
OnPublish = Callable[[Connection, IngestReport], Awaitable[None]]
