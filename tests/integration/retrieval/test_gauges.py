"""Gauges: what the database holds is what they show, also when something is no longer there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from retrieval import instruments as names
from retrieval.errors import StoreUnavailableError
from retrieval.freshness import expect_syncs, freshness
from retrieval.gauges import JobGauges, SyncGauges, watched
from retrieval.ingest import ingest
from retrieval.jobs import JobKind, JobStore, QueueState, Submission
from retrieval.store import KnowledgeStore
from tests.fakes.embedding import WordEmbedder
from tests.fakes.telemetry import Recorded, recorded
from tests.integration.retrieval.conftest import write_corpus

LAST, DUE = "twinrail.knowledge.sync.last", "twinrail.knowledge.sync.due"
JOBS, WAITING, WORKERS = "twinrail.jobs", "twinrail.jobs.waiting.since", "twinrail.jobs.workers"


@pytest.fixture
def telemetry() -> Iterator[Recorded]:
    """Shows nothing of other tests, and leaves nothing to them."""
    shown = (names.last_sync, names.sync_due, names.jobs, names.jobs_waiting, names.job_workers)
    for gauge in shown:
        gauge.show([])
    yield recorded()
    for gauge in shown:
        gauge.show([])


def of(telemetry: Recorded, metric: str, label: str) -> dict[str, float]:
    return {labels[label]: point.value for labels, point in telemetry.points(metric)}


def jobs(telemetry: Recorded) -> dict[tuple[str, str], int]:
    """Kind and state -> number, without the zeros."""
    return {
        (labels[names.JOB_KIND], labels[names.JOB_STATE]): point.value
        for labels, point in telemetry.points(JOBS)
        if point.value
    }


async def test_syncs_are_shown_as_long_as_they_are_due(
    telemetry: Recorded, store: KnowledgeStore, embedder: WordEmbedder, tmp_path: Path
) -> None:
    gauges = SyncGauges(store)
    await gauges.show()
    assert (telemetry.points(LAST), telemetry.points(DUE)) == ([], [])

    corpus = write_corpus(tmp_path / "corpus.jsonl", {"a": "red"})
    await ingest(store, embedder, corpus, tenant="acme", source_name="help")
    await expect_syncs(store, "acme", "help", 3600)
    await gauges.show()
    (source,) = await freshness(store, "acme")
    assert source.checked_at is not None
    looked_at = source.checked_at.timestamp()
    assert of(telemetry, LAST, names.SOURCE) == {"help": looked_at}
    assert of(telemetry, DUE, names.SOURCE) == {"help": looked_at + 3600}

    # Nobody expects it any more: an alarm that goes on would name a time that nobody can mend.
    await expect_syncs(store, "acme", "help", None)
    await gauges.show()
    assert of(telemetry, LAST, names.SOURCE) == {"help": looked_at}
    assert telemetry.points(DUE) == []


async def test_jobs_of_all_tenants_are_counted_by_what_has_become_of_them(
    telemetry: Recorded, store: KnowledgeStore, database_url: str
) -> None:
    queue = JobStore(store)
    gauges = JobGauges(queue)
    await gauges.show()
    assert len(telemetry.points(JOBS)) == len(JobKind) * len(QueueState)
    assert (jobs(telemetry), telemetry.points(WAITING)) == ({}, [])
    assert [point.value for _, point in telemetry.points(WORKERS)] == [0]

    sent = [Submission(id="a", content={"text": "red"})]
    first = await queue.submit_documents("acme", sent, source="api")
    # A tenant that never published anything is counted too.
    await queue.submit_documents("globex", sent, source="api")
    build = await queue.submit("acme", JobKind.BUILD, source="k-a-00000000", details={})
    paused = await queue.submit_documents("acme", [Submission.delete("a")], source="api")
    await queue.move("acme", paused.id, "pause")
    cancelled = await queue.submit_documents("acme", [Submission.delete("b")], source="api")
    await queue.move("acme", cancelled.id, "cancel")
    await gauges.show()
    assert jobs(telemetry) == {("documents", "queued"): 2, ("build", "queued"): 1, ("documents", "paused"): 1}
    assert of(telemetry, WAITING, names.JOB_STATE) == {"queued": first.created_at.timestamp()}

    # As workers leave them: one that failed and is tried again, one that runs, one whose worker is gone.
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("SELECT set_config('retrieval.tenant', 'acme', false)")
        conn.execute("UPDATE retrieval.job SET error = '{}' WHERE id = %s", [first.id])
        (alive,) = worker_with(conn, build.id)
        await gauges.show()
        assert jobs(telemetry)["documents", "retrying"] == 1
        assert jobs(telemetry)["build", "running"] == 1
        assert set(of(telemetry, WAITING, names.JOB_STATE)) == {"queued", "retrying"}
        assert [point.value for _, point in telemetry.points(WORKERS)] == [1]
        conn.execute(
            "UPDATE retrieval_queue.procrastinate_workers SET last_heartbeat = now() - interval '2 minutes'"
            " WHERE id = %s",
            [alive],
        )
    await gauges.show()
    assert jobs(telemetry)["build", "abandoned"] == 1
    assert of(telemetry, WAITING, names.JOB_STATE)["abandoned"] == build.created_at.timestamp()
    assert [point.value for _, point in telemetry.points(WORKERS)] == [0]


def worker_with(conn: psycopg.Connection[Any], job: UUID) -> tuple[int]:
    """The job in the hands of a worker that is alive."""
    row = conn.execute(
        "INSERT INTO retrieval_queue.procrastinate_workers DEFAULT VALUES RETURNING id"
    ).fetchone()
    assert row is not None
    conn.execute(
        "UPDATE retrieval_queue.procrastinate_jobs SET status = 'doing', worker_id = %s WHERE id ="
        " (SELECT queued_as FROM retrieval.job WHERE id = %s)",
        [row[0], job],
    )
    conn.execute("UPDATE retrieval.job SET state = 'running' WHERE id = %s", [job])
    return (row[0],)


class Limping:
    """Cannot be read the first time."""

    def __init__(self) -> None:
        self.shown = 0
        self.read = asyncio.Event()

    async def show(self) -> None:
        self.shown += 1
        if self.shown == 1:
            raise StoreUnavailableError
        self.read.set()


class Steady:
    def __init__(self) -> None:
        self.shown = 0

    async def show(self) -> None:
        self.shown += 1


async def test_a_database_that_is_away_stops_neither_them_nor_the_others() -> None:
    limping, steady = Limping(), Steady()
    async with watched(limping, steady, every_s=0.01):
        await asyncio.wait_for(limping.read.wait(), 30)
    assert steady.shown >= 1
    before: Mapping[str, int] = {"limping": limping.shown, "steady": steady.shown}
    await asyncio.sleep(0.05)
    assert before == {"limping": limping.shown, "steady": steady.shown}
