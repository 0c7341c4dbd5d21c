"""One job in a worker's hands: claimed, watched while it runs, and its end written down.

A run holds its job by its attempt number. Whoever finds that the job has another number, or was paused or
cancelled, has lost it and publishes nothing: the publish writes that number in its own transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, LiteralString, Self, TypeVar
from uuid import UUID

from psycopg.types.json import Jsonb

from retrieval.connections import Connection, borrowed
from retrieval.errors import DocumentError, JobInterruptedError, RetrievalError
from retrieval.ingest_report import IngestProgress, IngestReport
from retrieval.jobs import QUERIES, JobKind, JobState
from retrieval.store import QUERIES as STORE_QUERIES
from retrieval.store import KnowledgeStore

logger = logging.getLogger(__name__)

#: Seconds between two looks at a job that runs: progress out, pause and cancel in.
PULSE_S = 1.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 15.0
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedDocument:
    """A document of a job as it was sent; content None takes it away."""

    id: str
    content: Mapping[str, Any] | None
    #: A later job has written it already.
    superseded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailure:
    """Why a job ended, or waits for another attempt."""

    type: str
    field: str | None
    problem: str
    fix: str | None

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """From whatever was raised. What is not ours says its type only: its text may hold anything."""
        if isinstance(error, DocumentError):
            return cls(type=type(error).__name__, field=error.field, problem=error.problem, fix=error.fix)
        ours = type(error).__module__.startswith("retrieval.")
        problem = str(error) if ours else "failed unexpectedly; the worker's log has the cause"
        return cls(type=type(error).__name__, field=None, problem=problem, fix=None)


class JobRun:
    """A claimed job."""

    def __init__(self, store: KnowledgeStore, tenant: str, job: UUID, row: tuple[Any, ...]) -> None:
        self._store = store
        self.tenant = tenant
        self.job = job
        attempt, failures, kind, source, details, snapshot = row
        self.failures: int = failures
        self.kind = JobKind(kind)
        self.source: str = source
        self.details: Mapping[str, Any] = details
        #: What an earlier attempt published, whose worker died before it could say so.
        self.snapshot: int | None = snapshot
        self._key = {"tenant": tenant, "job": job, "attempt": attempt}
        self._progress = IngestProgress(stage="", done=0, total=0)
        self._lost = False
        #: Whether the worker stops and leaves the job to another one.
        self.given_back = False

    @classmethod
    async def claim(cls, store: KnowledgeStore, tenant: str, job: UUID) -> Self | None:
        """Start the job; None when there is nothing to do any more."""
        async with _entered(store, tenant) as conn:
            row = await (await conn.execute(QUERIES["claim"], {"tenant": tenant, "job": job})).fetchone()
        return None if row is None else cls(store, tenant, job, tuple(row))

    async def documents(self) -> list[QueuedDocument]:
        """What was sent."""
        async with _entered(self._store, self.tenant) as conn:
            rows = await (await conn.execute(QUERIES["documents"], self._key)).fetchall()
        return [
            QueuedDocument(id=row[0], content=None if row[1] == "delete" else row[2] or {}, superseded=row[3])
            for row in rows
        ]

    def on_progress(self, progress: IngestProgress) -> None:
        """Note how far it is; raises between two batches once the job was paused, cancelled or lost."""
        self._progress = progress
        if self._lost or self.given_back:
            raise JobInterruptedError

    def give_back(self) -> None:
        """Stop it between two batches, for another worker to go on with."""
        self.given_back = True

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Meanwhile progress is written and a pause is noticed, at most once a second."""
        watch = asyncio.create_task(self._watch(), name=f"watch job {self.job}")
        try:
            yield
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    async def on_publish(self, conn: Connection, report: Mapping[str, Any], snapshot: int) -> None:
        """In the publish's transaction: the job has published, unless it is no longer ours."""
        params = {**self._key, "snapshot": snapshot, "report": Jsonb(dict(report))}
        if await (await conn.execute(QUERIES["note_publish"], params)).fetchone() is None:
            raise JobInterruptedError

    async def finish(
        self, state: JobState, *, failure: JobFailure | None = None, report: Mapping[str, Any] | None = None
    ) -> None:
        """End it, however long the database is away. A paused, cancelled or lost job stays what it is."""
        params = {
            **self._key,
            **self._shown(self._progress),
            "state": state,
            "error": _json(asdict(failure) if failure else None),
            "report": _json(report),
        }

        async def write(conn: Connection) -> None:
            ended = await (await conn.execute(QUERIES["finish"], params)).fetchone()
            if ended is not None and state is JobState.DONE:
                await conn.execute(QUERIES["drop_content"], params)

        await self._surely(write)

    async def postpone(self, failure: JobFailure | None) -> None:
        """Leave it for another attempt; without a failure that is no fault of the job's."""
        params = {
            **self._key,
            "error": _json(asdict(failure) if failure else None),
            "failed": 1 if failure else 0,
        }

        async def write(conn: Connection) -> None:
            await conn.execute(QUERIES["postpone"], params)

        await self._surely(write)

    async def _surely(self, write: Callable[[Connection], Awaitable[None]]) -> None:
        """Wait for a database that is away, full or too slow: nothing but a row may say how a job ended."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                async with _entered(self._store, self.tenant) as conn:
                    await write(conn)
                return
            except RetrievalError as exc:
                logger.warning(
                    "job %s: %s; trying again in %.1f s",
                    self.job,
                    exc,
                    pause_s,
                    extra={"action": "job_store_away"},
                )
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _watch(self) -> None:
        written: IngestProgress | None = None
        while True:
            await asyncio.sleep(PULSE_S)
            progress = self._progress
            params = {**self._key, **self._shown(progress)}
            statement = QUERIES["note_progress"] if progress != written else QUERIES["still_held"]
            try:
                held = await self._row(statement, params)
            except RetrievalError:
                continue  # the run itself will find out, if it matters
            written = progress
            if held is None:
                self._lost = True
                return

    @staticmethod
    def _shown(progress: IngestProgress) -> dict[str, object]:
        return {"stage": progress.stage, "done": progress.done, "total": progress.total}

    async def _row(self, statement: LiteralString, params: Mapping[str, Any]) -> tuple[Any, ...] | None:
        async with _entered(self._store, self.tenant) as conn:
            row = await (await conn.execute(statement, params)).fetchone()
        return None if row is None else tuple(row)


def report_of(report: IngestReport, failures: tuple[DocumentError, ...] = ()) -> dict[str, Any]:
    """A report as JSON; `failures` are those of documents that did not even reach the ingest."""
    body = asdict(report)
    body["failures"] = [
        {"document": each.file, "field": each.field, "problem": each.problem, "fix": each.fix}
        for each in (*failures, *report.failures)
    ]
    return {key: list(value) if isinstance(value, tuple) else value for key, value in body.items()}


def _json(value: Mapping[str, Any] | None) -> Jsonb | None:
    return None if value is None else Jsonb(dict(value))


@asynccontextmanager
async def _entered(store: KnowledgeStore, tenant: str) -> AsyncIterator[Connection]:
    async with borrowed(store.pool, timeout_s=store.acquire_timeout_s) as conn, conn.transaction():
        await conn.execute(STORE_QUERIES["enter"], {"tenant": tenant})
        yield conn
