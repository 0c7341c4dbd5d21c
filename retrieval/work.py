"""What each kind of job does. It knows nothing of queues: it gets a claimed job and says what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, assert_never

from retrieval.building import BuildProgress, build
from retrieval.chunking import NO_CHUNKERS, Chunker
from retrieval.connections import Connection
from retrieval.embedding import Embedder
from retrieval.errors import DocumentError
from retrieval.ingest import apply, ingest
from retrieval.ingest_report import Changes, IngestProgress, IngestReport, OnPublish
from retrieval.jobs import JobKind, JobState
from retrieval.parsing import ParsedDocument
from retrieval.parsing_process import ParsingPool, ParsingProcess
from retrieval.partitions import DEFAULT_RESOURCES, IndexResources
from retrieval.reading import OnRead, ReadProgress, read_apart
from retrieval.running import JobFailure, JobRun, QueuedDocument, report_of
from retrieval.starting import settle
from retrieval.store import KnowledgeStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a job ended."""

    state: JobState
    report: Mapping[str, Any] | None = None
    failure: JobFailure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """The documents of a job, read."""

    changes: Changes
    failures: tuple[DocumentError, ...]
    superseded: int


class JobWork:
    """Does jobs with what the worker has at hand."""

    def __init__(
        self,
        store: KnowledgeStore,
        embedders: Sequence[Embedder],
        *,
        parsers: ParsingPool,
        chunkers: Mapping[str, Chunker] = NO_CHUNKERS,
        resources: IndexResources = DEFAULT_RESOURCES,
    ) -> None:
        self._store = store
        self._embedders = embedders
        self._chunkers = chunkers
        self._parsers = parsers
        self._resources = resources

    async def do(self, run: JobRun) -> Outcome:
        """The whole of one job; publishes at most once, whatever happened to earlier attempts."""
        if run.snapshot is not None:
            await settle(self._store)
            return Outcome(state=JobState.DONE)
        match run.kind:
            case JobKind.DOCUMENTS:
                return await self._write_documents(run)
            case JobKind.SOURCE:
                return await self._sync_source(run)
            case JobKind.BUILD:
                return await self._build(run)
            case _:
                assert_never(run.kind)

    async def _write_documents(self, run: JobRun) -> Outcome:
        documents = await run.documents()

        def read(process: ParsingProcess, on_progress: OnRead) -> Parsed:
            return read_documents(process, documents, on_progress)

        parsed = await read_apart(
            read,
            parsers=self._parsers,
            on_progress=lambda progress: run.on_progress(IngestProgress.of(progress)),
        )
        report = await apply(
            self._store,
            self._embedders,
            parsed.changes,
            tenant=run.tenant,
            source=run.source,
            chunkers=self._chunkers,
            on_progress=run.on_progress,
            on_publish=_noting(run, parsed),
        )
        return _outcome(report, parsed)

    async def _sync_source(self, run: JobRun) -> Outcome:
        first, *others = self._embedders
        report = await ingest(
            self._store,
            first,
            Path(str(run.details["path"])),
            tenant=run.tenant,
            source_name=run.source,
            other_embedders=others,
            chunkers=self._chunkers,
            parsers=self._parsers,
            replace_most=bool(run.details.get("replace")),
            on_progress=run.on_progress,
            on_publish=_noting(run),
        )
        return _outcome(report)

    async def _build(self, run: JobRun) -> Outcome:
        def on_progress(progress: BuildProgress) -> None:
            run.on_progress(IngestProgress(stage=progress.stage, done=progress.done, total=progress.total))

        report = await build(
            self._store,
            {each.id: each for each in self._embedders},
            run.source,
            chunkers=self._chunkers,
            since=run.details.get("since"),
            resources=self._resources,
            on_progress=on_progress,
        )
        return Outcome(state=JobState.DONE, report=asdict(report))


def read_documents(
    process: ParsingProcess, documents: Sequence[QueuedDocument], on_progress: OnRead
) -> Parsed:
    """Parse what was sent; what cannot be read is listed, and the rest goes on."""
    upserts: list[ParsedDocument] = []
    failures: list[DocumentError] = []
    current = [document for document in documents if not document.superseded]
    sent = [(document.id, document.content) for document in current if document.content is not None]
    for number, (document_id, content) in enumerate(sent):
        on_progress(ReadProgress(files=number, total=len(sent), documents=len(upserts)))
        read = process.read_content(document_id, content)
        if isinstance(read, ParsedDocument):
            upserts.append(read)
        else:
            failures.append(read)
    on_progress(ReadProgress(files=len(sent), total=len(sent), documents=len(upserts)))
    deletes = tuple(document.id for document in current if document.content is None)
    return Parsed(
        changes=Changes(upserts=tuple(upserts), deletes=deletes),
        failures=tuple(failures),
        superseded=len(documents) - len(current),
    )


def _body(report: IngestReport, parsed: Parsed | None) -> dict[str, Any]:
    if parsed is None:
        return report_of(report)
    return report_of(report, parsed.failures) | {"superseded": parsed.superseded}


def _noting(run: JobRun, parsed: Parsed | None = None) -> OnPublish:
    async def note(conn: Connection, report: IngestReport) -> None:
        await run.on_publish(conn, _body(report, parsed), report.snapshot)

    return note


def _outcome(report: IngestReport, parsed: Parsed | None = None) -> Outcome:
    """Failed only if nothing at all could be taken in: a job of one bad document has not worked."""
    body = _body(report, parsed)
    failures = (*(parsed.failures if parsed else ()), *report.failures)
    if failures and not (report.documents or report.removed):
        return Outcome(state=JobState.FAILED, report=body, failure=JobFailure.of(failures[0]))
    return Outcome(state=JobState.DONE, report=body)
