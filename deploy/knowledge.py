"""Ingest for the command line and for `up`: pools and embedder made from settings, progress in one line."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NotRequired, TypedDict, Unpack

import aiohttp

from deploy.database import pool
from deploy.models import RERANKER
from retrieval.embedders import open_embedders
from retrieval.embedding import Embedder
from retrieval.front_matter import SIDECAR
from retrieval.ingest import ingest
from retrieval.ingest_report import IngestProgress, IngestReport
from retrieval.parsing_process import ParsingPool
from retrieval.rerankers import open_rerankers
from retrieval.reranking import Reranker
from retrieval.settings import RetrievalSettings
from retrieval.store import KnowledgeStore

#: Name of the source that `up` and `ingest` write: one help centre, until told otherwise.
HELP_CENTRE = "help-centre"
#: Seconds between two lines of progress.
SAY_EVERY_S = 5.0


@asynccontextmanager
async def rerankers(settings: RetrievalSettings) -> AsyncIterator[dict[str, Reranker]]:
    """Every reranker that the settings name, and the shipped one."""
    named = settings.model_copy(update={"reranker_dir": settings.reranker_dir or RERANKER})
    async with aiohttp.ClientSession() as session:
        yield open_rerankers(named, session)


@asynccontextmanager
async def embedders(settings: RetrievalSettings, folder: Path) -> AsyncIterator[dict[str, Embedder]]:
    """Every embedder that the settings name, the one for a new rail first."""
    async with aiohttp.ClientSession() as session:
        yield open_embedders(settings, folder, session)


class SyncOptions(TypedDict):
    """What else publishing a source needs."""

    settings: RetrievalSettings
    embedder_folder: Path
    tenant: str
    say: Callable[[str], None]
    name: NotRequired[str]
    dry_run: NotRequired[bool]
    replace: NotRequired[bool]
    allow_purged: NotRequired[bool]


Sync = Callable[[], Awaitable[IngestReport]]


@asynccontextmanager
async def source_sync(
    database_url: str,
    source: Path,
    *,
    settings: RetrievalSettings,
    embedder_folder: Path,
    tenant: str,
    say: Callable[[str], None],
    name: str = HELP_CENTRE,
    dry_run: bool = False,
    replace: bool = True,
    allow_purged: bool = False,
) -> AsyncIterator[Sync]:
    """What publishes a source, as often as it is called: the documents of that name become equal to it.

    Without `replace`, one that would take away most of them is refused: it is a part, or another help centre.
    """
    async with embedders(settings, embedder_folder) as at_hand, pool(database_url) as connections:
        store = KnowledgeStore(connections)
        await store.check()
        first, *others = at_hand.values()
        # Called again by whoever watches: then only what has changed is parsed.
        parsers = ParsingPool(settings.read_limits, remembers=True)
        sync = partial(
            ingest,
            store,
            first,
            source,
            tenant=tenant,
            other_embedders=others,
            on_progress=Narrator(say),
            source_name=name,
            parsers=parsers,
            allow_purged=allow_purged,
            dry_run=dry_run,
            replace_most=replace,
        )
        try:
            yield sync
        finally:
            parsers.close()


async def ingest_source(database_url: str, source: Path, **options: Unpack[SyncOptions]) -> IngestReport:
    """Publish a source once; options as for `source_sync`."""
    async with source_sync(database_url, source, **options) as sync:
        return await sync()


class Narrator:
    """Says how far an ingest is, every few seconds."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._last = clock()

    def __call__(self, progress: IngestProgress) -> None:
        if not progress.total or self._clock() - self._last < SAY_EVERY_S:
            return
        self._last = self._clock()
        if progress.stage == "read":
            self._say(f"read {progress.done} of {progress.total} files, {progress.documents} documents")
        else:
            self._say(f"{progress.stage} {progress.done} of {progress.total} passages")


def summary(report: IngestReport) -> str:
    """What an ingest did, in one line."""
    changes = [
        f"{count} {what}"
        for count, what in (
            (report.added, "added"),
            (report.changed, "changed"),
            (report.removed, "removed"),
            (report.access_changed, "with new readers"),
        )
        if count
    ]
    verb = "would publish" if report.dry_run else "snapshot"
    outcome = (
        f"{', '.join(changes)}; {report.embedded} of {report.chunks} passages embedded"
        if changes
        else "unchanged"
    )
    number = "" if report.dry_run else f" {report.snapshot}"
    return f"{report.documents} documents, {verb}{number}: {outcome}"


def fingerprint(source: Path) -> str:
    """Changes when a file of the source changes: names, sizes and bytes."""
    whole = hashlib.sha256()
    beside = [source, source.with_name(source.name + SIDECAR)]
    files = sorted(path for path in (source.rglob("*") if source.is_dir() else beside) if path.is_file())
    for path in files:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{path.relative_to(source.parent)}\0{digest}\n".encode())
    return whole.hexdigest()
