"""A worker: takes jobs from the queue and does them. Any number of them, on any machines, share one queue.

procrastinate hands each job to one worker, one job a tenant at a time, and knows which workers are alive.
What a job is, how far it is and how it ended stands in retrieval.job: a worker may be killed at any moment,
and the next one goes on from there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import procrastinate
from procrastinate.jobs import Job as QueuedJob
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool

from retrieval import instruments as telemetry
from retrieval.chunking import NO_CHUNKERS, Chunker
from retrieval.connections import Pool, borrowed, row_of
from retrieval.embedding import Embedder
from retrieval.errors import JobInterruptedError, RetrievalError
from retrieval.jobs import QUERIES, QUEUE, STALLED_S, TASK, JobState
from retrieval.limits import DEFAULT_LIMITS, ReadLimits
from retrieval.parsing_process import ParsingPool
from retrieval.partitions import DEFAULT_RESOURCES, IndexResources
from retrieval.running import FIRST_PAUSE_S, LONGEST_PAUSE_S, JobFailure, JobRun
from retrieval.store import QUERIES as STORE_QUERIES
from retrieval.store import KnowledgeStore
from retrieval.work import JobWork

logger = logging.getLogger(__name__)

#: Attempts that may fail, or end with their worker, in a row. With the pauses between them: about an hour.
MOST_FAILURES = 20
LONGEST_RETRY_S = 300
#: Seconds after which a job is tried again whose start or end could not be written down.
LOST_S = 15
#: Seconds between two looks at the queue, for jobs that no notice announces: retries, and those that waited
#: for another one of their tenant.
POLL_S = 1.0
#: What came of a run, beside `done` and `failed`: to be tried again, put back because the worker stops, and
#: paused, cancelled or lost.
RETRIED, GIVEN_BACK, STOPPED = "retried", "given_back", "stopped"
#: Days for which a job that has ended can be looked up.
KEEP_DAYS = 30


def queue_pool(database_url: str) -> Pool:
    """A pool for the queue's own tables; closed, for an entry point to open."""
    given = conninfo_to_dict(database_url).get("options") or ""
    options = f"{given} -c search_path=retrieval_queue".strip()
    return AsyncConnectionPool(
        database_url,
        min_size=1,
        max_size=4,
        open=False,
        reconnect_timeout=2.0,
        kwargs={"options": options},
        check=AsyncConnectionPool.check_connection,
    )


class Worker:
    """Does jobs until it is told to stop."""

    def __init__(
        self,
        store: KnowledgeStore,
        queue: Pool,
        embedders: Sequence[Embedder],
        *,
        chunkers: Mapping[str, Chunker] = NO_CHUNKERS,
        limits: ReadLimits = DEFAULT_LIMITS,
        resources: IndexResources = DEFAULT_RESOURCES,
        concurrency: int = 1,
        heartbeat_s: float = 10.0,
        stalled_s: float = STALLED_S,
        grace_s: float = 20.0,
    ) -> None:
        self._store = store
        self._queue = queue
        self._parsers = ParsingPool(limits)
        self._work = JobWork(store, embedders, parsers=self._parsers, chunkers=chunkers, resources=resources)
        self._concurrency = concurrency
        self._heartbeat_s = heartbeat_s
        #: A worker without a sign of life for so long is dead, and others do its jobs. A COPY whose client
        #: sends nothing for so long is ended.
        self._stalled_s = stalled_s
        #: Time that a publish gets to end when the worker stops.
        self._grace_s = grace_s
        self._runs: dict[int, JobRun | None] = {}
        self._queue_worker: int | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. While the database is away, wait for it."""
        pause_s = FIRST_PAUSE_S
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            while not stop.is_set():
                ended = await self._run_once(stopping)
                if stop.is_set():
                    return
                logger.warning(
                    "the queue cannot be read (%s); trying again in %.1f s",
                    ended,
                    pause_s,
                    extra={"action": "queue_away"},
                )
                await asyncio.wait([stopping], timeout=pause_s)
                pause_s = FIRST_PAUSE_S if ended is None else min(2 * pause_s, LONGEST_PAUSE_S)
        finally:
            stopping.cancel()
            self._parsers.close()

    async def _run_once(self, stopping: asyncio.Task[Any]) -> BaseException | None:
        """One life of procrastinate's worker: until we stop, or until it finds no database."""
        app = self._app()
        await app.open_async(self._queue)
        working = asyncio.create_task(self._listen(app), name="queue")
        sweeping = asyncio.create_task(self._sweep(), name="sweep")
        try:
            await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for run in list(self._runs.values()):
                if run is not None:
                    run.give_back()
            for task in (sweeping, working):
                task.cancel()
            await asyncio.wait([sweeping, working])
        if working.cancelled():
            return None
        return working.exception()

    async def _listen(self, app: procrastinate.App) -> None:
        await app.run_worker_async(
            queues=[QUEUE],
            concurrency=self._concurrency,
            install_signal_handlers=False,
            # retrieval.job is the record; the queue keeps nothing of what is over.
            delete_jobs="always",
            fetch_job_polling_interval=POLL_S,
            update_heartbeat_interval=self._heartbeat_s,
            stalled_worker_timeout=self._stalled_s,
            shutdown_graceful_timeout=self._grace_s,
        )

    def _app(self) -> procrastinate.App:
        app = procrastinate.App(connector=procrastinate.PsycopgConnector())

        @app.task(name=TASK, queue=QUEUE, pass_context=True, retry=_Retry())
        async def run_job(context: procrastinate.JobContext, tenant: str, job: str) -> None:
            await self._run_job(context.job, tenant, UUID(job))

        # procrastinate looks after its own side tasks only while it has a periodic task to wait for.
        @app.periodic(cron="17 * * * *")
        @app.task(name="retrieval.forget_old_jobs", queue=QUEUE, queueing_lock="forget_old_jobs")
        async def forget_old_jobs(timestamp: int) -> None:
            await self._forget_old_jobs()

        return app

    async def _run_job(self, queued: QueuedJob, tenant: str, job: UUID) -> None:
        number = queued.id or 0
        self._queue_worker = queued.worker_id
        self._runs[number] = None
        try:
            run = await JobRun.claim(self._store, tenant, job)
            if run is None:
                return
            self._runs[number] = run
            await self._timed(run)
        finally:
            del self._runs[number]

    async def _timed(self, run: JobRun) -> None:
        """The job; how long this run of it took and what came of it is measured."""
        began, outcome = time.monotonic(), RETRIED
        try:
            outcome = await self._do(run)
        except _AgainError as exc:
            outcome = RETRIED if exc.wait_s else GIVEN_BACK
            raise
        except asyncio.CancelledError:
            outcome = GIVEN_BACK
            raise
        finally:
            labels = {telemetry.JOB_KIND: run.kind.value, telemetry.JOB_OUTCOME: outcome}
            telemetry.job_duration.record(time.monotonic() - began, labels)

    async def _do(self, run: JobRun) -> str:
        """The job, and in every case what becomes of it; the outcome in a word."""
        if run.failures >= MOST_FAILURES:
            problem = f"gave up after {run.failures} attempts; in the last one the worker died"
            await run.finish(
                JobState.FAILED,
                failure=JobFailure(type="WorkerDied", field=None, problem=problem, fix="see its log"),
            )
            return JobState.FAILED.value
        try:
            async with run.watched():
                outcome = await self._work.do(run)
        except asyncio.CancelledError:
            await run.postpone(None)
            raise
        except JobInterruptedError as exc:
            if run.given_back:
                await run.postpone(None)
                raise _AgainError(0) from exc
            logger.info("job %s was stopped", run.job, extra={"action": "job_stopped"})
            return STOPPED
        except Exception as exc:  # noqa: BLE001  # the boundary of a job
            await self._fail(run, exc)
            return JobState.FAILED.value
        else:
            await run.finish(outcome.state, failure=outcome.failure, report=outcome.report)
            logger.info("job %s is %s", run.job, outcome.state, extra={"action": "job_ended"})
            left_out = len((outcome.report or {}).get("failures", ()))
            telemetry.job_documents_failed.add(left_out, {telemetry.JOB_KIND: run.kind.value})
            return outcome.state.value

    async def _fail(self, run: JobRun, error: Exception) -> None:
        failure = JobFailure.of(error)
        retryable = isinstance(error, RetrievalError) and error.retryable
        if retryable and run.failures + 1 < MOST_FAILURES:
            await run.postpone(failure)
            wait_s = min(2 ** (run.failures + 1), LONGEST_RETRY_S)
            logger.warning(
                "job %s: %s; trying again in %d s", run.job, error, wait_s, extra={"action": "job_retried"}
            )
            raise _AgainError(wait_s) from error
        logger.error("job %s failed: %s", run.job, error, exc_info=error, extra={"action": "job_failed"})
        await run.finish(JobState.FAILED, failure=failure)

    async def _sweep(self) -> None:
        """Put jobs of dead workers back into the queue, and those that have lost their place in it; end the
        COPYs of suspended clients."""
        unknown: set[int] = set()
        copies: dict[_Copy, float] = {}
        while True:
            await asyncio.sleep(self._heartbeat_s)
            try:
                async with borrowed(self._store.pool, timeout_s=self._store.acquire_timeout_s) as conn:
                    rows = await (
                        await conn.execute(QUERIES["doing"], {"worker": self._queue_worker})
                    ).fetchall()
                    now_unknown = {row[0] for row in rows} - self._runs.keys()
                    # Seen twice: a job that was fetched or ended just now is none.
                    params = {"stalled_s": self._stalled_s, "strays": list(unknown & now_unknown)}
                    taken = len(await (await conn.execute(QUERIES["take_over"], params)).fetchall())
                    unknown = now_unknown
                    async with conn.transaction():
                        (lost,) = await row_of(conn, QUERIES["requeue_lost"], {"queue": QUEUE, "task": TASK})
            except RetrievalError:
                continue
            copies = await self._end_stalled_copies(copies)
            if taken or lost:
                logger.warning(
                    "back into the queue: %d job(s) of dead workers, %d that had lost their place",
                    taken,
                    lost,
                    extra={"action": "take_over"},
                )

    async def _end_stalled_copies(self, known: dict[_Copy, float]) -> dict[_Copy, float]:
        """End the COPYs whose client sends nothing; returns those that wait, and since when each does there.

        Such a transaction keeps every new index waiting, and sometimes every publish. No timeout of the
        server's ends it: a client that stands still within a COPY is not idle, and is never interrupted.
        """
        now = time.monotonic()
        waiting: dict[_Copy, float] = {}
        try:
            async with borrowed(self._store.pool, timeout_s=self._store.acquire_timeout_s) as conn:
                for pid, began_at, read in await (await conn.execute(QUERIES["waiting_copies"])).fetchall():
                    copy = _Copy(pid=pid, began_at=began_at, bytes_read=read)
                    waiting[copy] = known.get(copy, now)
                for copy, since in waiting.items():
                    if now - since < self._stalled_s:
                        continue
                    if await (await conn.execute(QUERIES["end_copy"], asdict(copy))).fetchone():
                        logger.warning(
                            "ended a COPY (process %d of the server) whose client sent nothing for %.0f s",
                            copy.pid,
                            now - since,
                            extra={"action": "end_copy"},
                        )
        except RetrievalError as exc:
            logger.warning(
                "COPYs of suspended clients were not looked for: %s", exc, extra={"action": "end_copy"}
            )
        return waiting

    async def _forget_old_jobs(self) -> None:
        async with borrowed(self._store.pool, timeout_s=self._store.acquire_timeout_s) as conn:
            tenants = [row[0] for row in await (await conn.execute(QUERIES["tenants"])).fetchall()]
            for tenant in tenants:
                async with conn.transaction():
                    await conn.execute(STORE_QUERIES["enter"], {"tenant": tenant})
                    await conn.execute(QUERIES["forget_old"], {"tenant": tenant, "days": KEEP_DAYS})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copy:
    """A COPY that waits for its client, at some point of it."""

    pid: int
    began_at: datetime
    #: What the server has read of it.
    bytes_read: int


class _AgainError(Exception):
    """The job is to be run again after a while."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"again in {wait_s} s")
        self.wait_s = wait_s


class _Retry(procrastinate.BaseRetryStrategy):
    """The job says when; a worker that stops leaves it to the next one.

    What else comes here could not be written down, so the queue is all that knows of it: it is kept.
    """

    def get_retry_decision(
        self, *, exception: BaseException, job: QueuedJob
    ) -> procrastinate.RetryDecision | None:
        wait_s = LOST_S
        if isinstance(exception, _AgainError):
            wait_s = exception.wait_s
        elif isinstance(exception, asyncio.CancelledError):
            wait_s = 0
        return procrastinate.RetryDecision(retry_in={"seconds": wait_s})
