"""kill -9 of a worker at the worst moments: the next one finishes, and nothing is lost or published twice."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from retrieval.errors import StoreUnavailableError
from retrieval.ingest import CACHE_BATCH
from retrieval.jobs import Job, JobState, JobStore, Submission
from retrieval.publishing import QUERIES, Publisher
from retrieval.store import KnowledgeStore
from tests.fakes.worker_process import STALLED_S, Workers, kill
from tests.integration.retrieval.conftest import Publish

TENANT = "acme"
DOCUMENTS = 5 * CACHE_BATCH


@pytest.fixture
def workers(database_url: str, tmp_path: Path) -> Workers:
    return Workers(database_url, tmp_path / "embedded.log")


@pytest.fixture
def jobs(store: KnowledgeStore) -> JobStore:
    return JobStore(store)


@pytest.fixture
async def job(jobs: JobStore) -> Job:
    sent = [Submission(id=f"d{n}", content={"text": f"gate number {n}"}) for n in range(DOCUMENTS)]
    return await jobs.submit_documents(TENANT, sent, source="api")


async def until(true: Callable[[], bool | Awaitable[bool]]) -> None:
    async with asyncio.timeout(120):
        while True:
            found = true()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.02)


async def finished_by_another(workers: Workers, jobs: JobStore, job: Job) -> Job:
    async def ended() -> bool:
        return (await jobs.job(TENANT, job.id)).finished_at is not None

    async with workers.one():
        await until(ended)
    return await jobs.job(TENANT, job.id)


def rows(database_url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database_url) as conn:
        conn.execute("SELECT set_config('retrieval.tenant', %s, false)", [TENANT])
        return conn.execute(statement).fetchall()  # type: ignore[arg-type]


def check_whole(database_url: str, job: Job) -> None:
    """Every document is live once, in one snapshot."""
    assert (job.state, job.snapshot, job.error) == (JobState.DONE, 1, None)
    assert job.report is not None
    assert (job.report["added"], job.report["failures"]) == (DOCUMENTS, [])
    assert rows(database_url, "SELECT number, added FROM retrieval.snapshot") == [(1, DOCUMENTS)]
    live = rows(
        database_url,
        "SELECT count(*), count(DISTINCT document_id), min(born), max(born) FROM retrieval.document_release"
        " WHERE died IS NULL",
    )
    assert live == [(DOCUMENTS, DOCUMENTS, 1, 1)]
    assert rows(database_url, "SELECT sum(chunks) FROM retrieval.chunk_stats") == [(DOCUMENTS,)]
    assert rows(database_url, "SELECT count(*) FROM retrieval_queue.procrastinate_jobs") == [(0,)]


async def test_killed_in_mid_embedding(
    database_url: str, store: KnowledgeStore, workers: Workers, jobs: JobStore, job: Job
) -> None:
    async with workers.one(pause_s=0.3) as first:
        await until(lambda: len(workers.embedded()) >= 2 * CACHE_BATCH)
        await kill(first)
    assert len(workers.embedded()) < DOCUMENTS
    assert (await jobs.job(TENANT, job.id)).state is JobState.RUNNING
    assert await store.snapshot(TENANT) == 0
    found = await finished_by_another(workers, jobs, job)
    assert found.attempts == 2
    check_whole(database_url, found)
    assert len(set(workers.embedded())) == DOCUMENTS
    assert len(workers.embedded()) <= DOCUMENTS + CACHE_BATCH


async def test_killed_within_the_publish(
    database_url: str, store: KnowledgeStore, workers: Workers, jobs: JobStore, job: Job
) -> None:
    with psycopg.connect(database_url) as holder:
        holder.execute("LOCK TABLE retrieval.snapshot IN SHARE MODE")
        async with workers.one() as first:
            await until(lambda: waiting(database_url))
            await kill(first)
    assert await store.snapshot(TENANT) == 0
    check_whole(database_url, await finished_by_another(workers, jobs, job))
    assert len(workers.embedded()) == DOCUMENTS


async def test_killed_between_the_publish_and_saying_so(
    database_url: str, store: KnowledgeStore, workers: Workers, jobs: JobStore, job: Job
) -> None:
    with psycopg.connect(database_url) as holder:
        async with workers.one(pause_s=0.1) as first:
            await until(lambda: len(workers.embedded()) > 0)
            # Reads go on, so the publish comes through; what follows it does not.
            holder.execute("LOCK TABLE retrieval.index_version IN SHARE MODE")
            await until(lambda: waiting(database_url))
            published = await jobs.job(TENANT, job.id)
            assert (published.state, published.snapshot) == (JobState.RUNNING, 1)
            await kill(first)
    check_whole(database_url, await finished_by_another(workers, jobs, job))
    assert len(workers.embedded()) == DOCUMENTS
    assert (await store.pointer()).stable == (await store.versions())[0].id


def waiting(database_url: str) -> bool:
    """Whether somebody in this database waits for a lock on a table."""
    return rows(
        database_url,
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'relation'"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    ) != [(0,)]


async def test_a_worker_that_is_there_takes_over_and_does_other_work_meanwhile(
    database_url: str, store: KnowledgeStore, workers: Workers, jobs: JobStore, job: Job
) -> None:
    # Slow enough that the second one is up before the first is through.
    async with workers.one(pause_s=5.0) as first:
        await until(lambda: len(workers.embedded()) >= CACHE_BATCH)
        async with workers.one():
            await until(lambda: alive(database_url) == 2)
            # The first one lives, so its job is its own.
            other = await jobs.submit_documents(
                "globex", [Submission(id="g", content={"text": "wall"})], source="api"
            )
            await until(lambda: ended(jobs, other))
            assert (await jobs.job(TENANT, job.id)).attempts == 1
            await kill(first)
            # It waits behind what the dead one had.
            later = await jobs.submit_documents(TENANT, [Submission.delete("d0")], source="api")
            await until(lambda: ended(jobs, later))
    found, last = await jobs.job(TENANT, job.id), await jobs.job(TENANT, later.id)
    assert (found.state, found.snapshot, found.attempts, found.error) == (JobState.DONE, 1, 2, None)
    assert (last.state, last.snapshot) == (JobState.DONE, 2)
    assert rows(database_url, "SELECT number, added, removed FROM retrieval.snapshot ORDER BY 1") == [
        (1, DOCUMENTS, 0),
        (2, 0, 1),
    ]
    texts = workers.embedded()
    assert len(set(texts)) == DOCUMENTS + 1
    assert len(texts) <= DOCUMENTS + 1 + CACHE_BATCH
    assert rows(database_url, "SELECT count(*) FROM retrieval_queue.procrastinate_jobs") == [(0,)]


async def test_a_worker_that_only_slept_has_lost_its_job_and_publishes_nothing(
    database_url: str, store: KnowledgeStore, workers: Workers, jobs: JobStore, job: Job
) -> None:
    async with workers.one(pause_s=0.3) as sleeper:
        await until(lambda: len(workers.embedded()) >= CACHE_BATCH)
        os.kill(sleeper.pid, signal.SIGSTOP)
        try:
            found = await finished_by_another(workers, jobs, job)
        finally:
            os.kill(sleeper.pid, signal.SIGCONT)
        # Awake, it finds out, and goes on with what comes next.
        later = await jobs.submit_documents(TENANT, [Submission.delete("d0")], source="api")
        await until(lambda: ended(jobs, later))
    assert found.attempts == 2
    assert await jobs.job(TENANT, job.id) == found
    last = await jobs.job(TENANT, later.id)
    assert (last.state, last.snapshot, last.attempts) == (JobState.DONE, 2, 1)
    assert len(set(workers.embedded())) == DOCUMENTS


async def test_a_client_that_stands_still_within_a_copy_is_ended(
    database_url: str, workers: Workers, jobs: JobStore, job: Job
) -> None:
    """As a worker that was suspended there: no timeout of the server's ends it, and no index can be made."""

    async def stand_still() -> None:
        with psycopg.connect(database_url) as conn, conn.cursor() as cursor:
            cursor.execute("CREATE TEMPORARY TABLE staged_document (id text)")
            with cursor.copy("COPY staged_document (id) FROM STDIN") as copy:
                copy.write(b"a\n")
                check_whole(database_url, await finished_by_another(workers, jobs, job))

    with pytest.raises(psycopg.errors.AdminShutdown):
        await stand_still()


async def test_a_copy_that_goes_on_and_one_of_somebody_else_are_left_alone(
    database_url: str, workers: Workers
) -> None:
    with psycopg.connect(database_url) as slow, psycopg.connect(database_url) as other:
        slow.execute("CREATE TEMPORARY TABLE staged_term (id text)")
        other.execute("CREATE TEMPORARY TABLE staged_orders (id text)")
        with (
            slow.cursor().copy("COPY staged_term (id) FROM STDIN") as sent,
            other.cursor().copy("COPY staged_orders (id) FROM STDIN"),
        ):
            async with workers.one():
                await until(lambda: alive(database_url) == 1)
                for _ in range(int(2 * STALLED_S)):
                    # The server reads blocks, and what it has not read does not count.
                    sent.write(b"a\n" * 100_000)
                    await asyncio.sleep(1.0)
        assert slow.execute("SELECT count(*) FROM staged_term").fetchone() == (int(2 * STALLED_S) * 100_000,)
        assert other.execute("SELECT count(*) FROM staged_orders").fetchone() == (0,)


async def test_a_client_that_stands_still_keeps_no_publish_waiting_for_ever(
    store: KnowledgeStore, publish: Publish
) -> None:
    """As a worker whose machine is suspended between two statements, with the lock of all who add vectors."""
    await publish({"a": "The gate opens at nine."})
    stands_still = asyncio.Event()

    async def keep() -> None:
        async with Publisher(store, TENANT).entered() as conn:
            await conn.execute(QUERIES["lock_shared"], {"tenant": TENANT})
            report = await publish({"a": "The gate opens at ten."})
            assert report.snapshot == 2
            stands_still.set()
            await conn.execute(QUERIES["position"], {"tenant": TENANT})

    with pytest.raises(StoreUnavailableError):
        await keep()
    assert stands_still.is_set()


async def ended(jobs: JobStore, job: Job) -> bool:
    return (await jobs.job(job.tenant, job.id)).finished_at is not None


def alive(database_url: str) -> int:
    """Workers that have said that they are there."""
    ((count,),) = rows(database_url, "SELECT count(*) FROM retrieval_queue.procrastinate_workers")
    return int(count)
