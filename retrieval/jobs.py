"""Jobs: ingests that are done in the background, as callers see them. Workers do them (retrieval/worker.py).

A job and its place in the queue are written in one transaction, so that no job is lost and none is a ghost.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

import orjson
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from retrieval.connections import Connection, borrowed, row_of
from retrieval.errors import (
    DuplicateDocumentError,
    JobStateError,
    RepeatedRequestError,
    UnknownJobError,
)
from retrieval.sql import named_queries
from retrieval.store import QUERIES as STORE_QUERIES
from retrieval.store import KnowledgeStore

QUERIES = named_queries("retrieval.sql", "jobs.sql")
#: Names of the queue and of its one task: what is to be done stands in the job.
QUEUE, TASK = "ingest", "retrieval.run_job"


class JobKind(StrEnum):
    """What a job does."""

    #: Write and take away single documents.
    DOCUMENTS = "documents"
    #: Make a source equal to a folder that the workers can read.
    SOURCE = "source"
    #: Fill an index version.
    BUILD = "build"


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class QueueState(StrEnum):
    """Where a job that has not ended well stands, as operators count them."""

    QUEUED = "queued"
    #: Queued after a failure.
    RETRYING = "retrying"
    RUNNING = "running"
    #: Its worker gives no sign of life, and no other one has taken it over.
    ABANDONED = "abandoned"
    PAUSED = "paused"
    FAILED = "failed"


#: What a caller may do with a job, from which states on, and where it leads.
MOVES: Mapping[str, tuple[JobState, tuple[JobState, ...]]] = {
    "pause": (JobState.PAUSED, (JobState.QUEUED, JobState.RUNNING)),
    "resume": (JobState.QUEUED, (JobState.PAUSED, JobState.FAILED)),
    "cancel": (
        JobState.CANCELLED,
        (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED, JobState.FAILED),
    ),
}
DONE: Mapping[str, str] = {"pause": "paused", "resume": "resumed", "cancel": "cancelled"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job."""

    id: UUID
    tenant: str
    kind: JobKind
    source: str
    details: Mapping[str, Any]
    state: JobState
    stage: str
    done: int
    total: int
    #: How often a worker has started it.
    attempts: int
    #: `type`, `field`, `problem` and `fix` of the last failure; also while it waits for another attempt.
    error: Mapping[str, Any] | None
    report: Mapping[str, Any] | None
    #: What it published; set before it is done.
    snapshot: int | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", JobKind(self.kind))
        object.__setattr__(self, "state", JobState(self.state))


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One document of a job: its content as it was sent, or None to take it away."""

    id: str
    content: Mapping[str, Any] | None

    @classmethod
    def delete(cls, document_id: str) -> Self:
        """Take a document away."""
        return cls(id=document_id, content=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """The jobs of all tenants, counted; it names none."""

    jobs: Mapping[tuple[JobKind, QueueState], int]
    #: Since when the oldest job of a state waits; only of states that are to pass.
    waits_since: Mapping[QueueState, datetime]
    #: Those that gave a sign of life.
    workers: int


#: States in which a job waits for something to happen by itself.
WAITING = (QueueState.QUEUED, QueueState.RETRYING, QueueState.ABANDONED)
#: Seconds after which a worker without a sign of life counts as dead.
STALLED_S = 60.0


def refusal(job: Job, move: str) -> JobStateError | None:
    """Why a job as it was found cannot be moved so; None also where it is so already."""
    _, origins = MOVES[move]
    if _is_so(job, move) or (job.state in origins and job.snapshot is None):
        return None
    unfinished = job.snapshot and job.state is not JobState.DONE
    doing = "has published and is being finished" if unfinished else f"is {job.state}"
    return JobStateError(f"job: {job.id} {doing}, so it cannot be {DONE[move]}")


def _is_so(job: Job, move: str) -> bool:
    return job.state is MOVES[move][0] or (move == "resume" and job.state is JobState.RUNNING)


class JobStore:
    """The jobs of all tenants, one tenant at a time."""

    def __init__(self, store: KnowledgeStore) -> None:
        self._store = store

    async def submit_documents(
        self,
        tenant: str,
        documents: Sequence[Submission],
        *,
        source: str,
        idempotency_key: str | None = None,
    ) -> Job:
        """Queue documents to write and to take away. With the key of an earlier request: that one's job."""
        seen: set[str] = set()
        for document in documents:
            if document.id in seen:
                raise DuplicateDocumentError(f"id: {document.id!r} is named twice: send each document once")
            seen.add(document.id)
        content = [(document.id, document.content) for document in documents]
        digest = hashlib.sha256(orjson.dumps([source, content], option=orjson.OPT_SORT_KEYS)).hexdigest()
        async with self._entered(tenant) as conn:
            params = {
                "tenant": tenant,
                "kind": JobKind.DOCUMENTS,
                "source": source,
                "details": Jsonb({}),
                "total": len(documents),
                "idempotency_key": idempotency_key,
                "request_sha256": digest,
            }
            row = await (await conn.execute(QUERIES["add_job"], params)).fetchone()
            if row is None:
                return await self._repeated(conn, params)
            job = row[0]
            async with conn.cursor() as cursor:
                await cursor.executemany(
                    QUERIES["add_document"],
                    [
                        {
                            "tenant": tenant,
                            "job": job,
                            "ordinal": ordinal,
                            "document_id": document.id,
                            "action": "delete" if document.content is None else "upsert",
                            "content": None if document.content is None else Jsonb(dict(document.content)),
                        }
                        for ordinal, document in enumerate(documents)
                    ],
                )
            await self._enqueue(conn, tenant, job)
            return await self._read(conn, tenant, job)

    async def submit(self, tenant: str, kind: JobKind, *, source: str, details: Mapping[str, Any]) -> Job:
        """Queue a job of another kind. `source`: its name, or for a build the index version."""
        async with self._entered(tenant) as conn:
            params = {
                "tenant": tenant,
                "kind": kind,
                "source": source,
                "details": Jsonb(dict(details)),
                "total": 0,
                "idempotency_key": None,
                "request_sha256": None,
            }
            (job,) = await row_of(conn, QUERIES["add_job"], params)
            await self._enqueue(conn, tenant, job)
            return await self._read(conn, tenant, job)

    async def job(self, tenant: str, job: UUID) -> Job:
        """One job of the tenant."""
        async with self._entered(tenant) as conn:
            return await self._read(conn, tenant, job)

    async def jobs(self, tenant: str, *, limit: int = 50, open_only: bool = False) -> list[Job]:
        """The tenant's jobs, newest first; `open_only`: those that are neither done nor cancelled."""
        statement = QUERIES["open_jobs" if open_only else "jobs"]
        async with self._entered(tenant) as conn, conn.cursor(row_factory=class_row(Job)) as cursor:
            await cursor.execute(statement, {"tenant": tenant, "limit": limit})
            return await cursor.fetchall()

    async def tenants(self) -> list[str]:
        """Every tenant that ever had a job."""
        async with borrowed(self._store.pool, timeout_s=self._store.acquire_timeout_s) as conn:
            return [name for (name,) in await (await conn.execute(QUERIES["tenants"])).fetchall()]

    async def queue(self, *, stalled_s: float = STALLED_S) -> Queue:
        """How many jobs of all tenants there are that have not ended well, and who is there to do them."""
        params = {"stalled_s": stalled_s}
        async with (
            borrowed(self._store.pool, timeout_s=self._store.acquire_timeout_s) as conn,
            conn.transaction(),
        ):
            facts = await (await conn.execute(QUERIES["queue_facts"], params)).fetchall()
            (workers,) = await row_of(conn, QUERIES["workers"], params)
        jobs: dict[tuple[JobKind, QueueState], int] = {}
        waits_since: dict[QueueState, datetime] = {}
        for kind, named, count, since in facts:
            state = QueueState(named)
            jobs[JobKind(kind), state] = count
            if state in WAITING:
                waits_since[state] = min(since, waits_since.get(state, since))
        return Queue(jobs=jobs, waits_since=waits_since, workers=workers)

    async def move(self, tenant: str, job: UUID, move: str) -> Job:
        """`pause`, `resume` or `cancel`. From the return on a job that is to stop publishes nothing more.

        A worker that is busy with it notices between two batches. Doing what is done already changes nothing.
        """
        state, origins = MOVES[move]
        async with self._entered(tenant) as conn:
            params = {"tenant": tenant, "job": job, "state": state, "from": list(origins)}
            moved = await (await conn.execute(QUERIES["move"], params)).fetchone()
            found = await self._read(conn, tenant, job)
            if moved is None:
                if _is_so(found, move):
                    return found
                raise refusal(found, move) or JobStateError(
                    f"job: {job} was moved meanwhile; look at it again"
                )
            if move == "resume":
                await self._enqueue(conn, tenant, job)
            else:
                await conn.execute(QUERIES["dequeue"], params)
            if state is JobState.CANCELLED:
                await conn.execute(QUERIES["drop_content"], params)
            return found

    async def _repeated(self, conn: Connection, params: Mapping[str, Any]) -> Job:
        row = await (await conn.execute(QUERIES["job_of_key"], params)).fetchone()
        if row is None or row[1] != params["request_sha256"]:
            raise RepeatedRequestError
        return await self._read(conn, params["tenant"], row[0])

    async def _enqueue(self, conn: Connection, tenant: str, job: UUID) -> None:
        params = {"tenant": tenant, "job": job, "queue": QUEUE, "task": TASK}
        await conn.execute(QUERIES["enqueue"], params)

    async def _read(self, conn: Connection, tenant: str, job: UUID) -> Job:
        async with conn.cursor(row_factory=class_row(Job)) as cursor:
            found = await (await cursor.execute(QUERIES["job"], {"tenant": tenant, "job": job})).fetchone()
        if found is None:
            raise UnknownJobError(f"job: there is no job {job}")
        return found

    @asynccontextmanager
    async def _entered(self, tenant: str) -> AsyncIterator[Connection]:
        async with (
            borrowed(self._store.pool, timeout_s=self._store.acquire_timeout_s) as conn,
            conn.transaction(),
        ):
            await conn.execute(STORE_QUERIES["enter"], {"tenant": tenant})
            yield conn
