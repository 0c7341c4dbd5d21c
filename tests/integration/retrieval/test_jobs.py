"""Jobs: queued with the request, done by a worker, looked at and steered meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from retrieval.documents import Access
from retrieval.embedding import Embedder, Vector
from retrieval.errors import (
    DocumentConflictError,
    DuplicateDocumentError,
    EmbedderUnavailableError,
    JobStateError,
    RepeatedRequestError,
    UnknownJobError,
)
from retrieval.hits import SearchRequest
from retrieval.ingest import CACHE_BATCH
from retrieval.jobs import Job, JobKind, JobState, JobStore, Submission
from retrieval.limits import DEFAULT_LIMITS, ReadLimits
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore
from retrieval.stored import DocumentStore
from retrieval.worker import Worker, queue_pool
from tests.fakes.embedding import WordEmbedder
from tests.integration.retrieval.conftest import Publish

TENANT = "acme"


@pytest.fixture
def jobs(store: KnowledgeStore) -> JobStore:
    return JobStore(store)


@asynccontextmanager
async def working(
    database_url: str,
    store: KnowledgeStore,
    *embedders: Embedder,
    concurrency: int = 1,
    limits: ReadLimits = DEFAULT_LIMITS,
) -> AsyncIterator[Worker]:
    """A worker in this process, stopped at the end as a signal would stop it."""
    stop = asyncio.Event()
    async with queue_pool(database_url) as queue:
        worker = Worker(
            store,
            queue,
            embedders,
            limits=limits,
            concurrency=concurrency,
            heartbeat_s=0.2,
            stalled_s=1.0,
            grace_s=1.0,
        )
        running = asyncio.create_task(worker.run(stop))
        try:
            yield worker
        finally:
            stop.set()
            await running


async def until(jobs: JobStore, job: UUID, true: Callable[[Job], bool], tenant: str = TENANT) -> Job:
    async with asyncio.timeout(90):
        while True:
            found = await jobs.job(tenant, job)
            if true(found):
                return found
            await asyncio.sleep(0.02)


async def ended(jobs: JobStore, job: Job) -> Job:
    over = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)
    return await until(jobs, job.id, lambda found: found.state in over, job.tenant)


def page(document_id: str, text: str, **fields: object) -> Submission:
    return Submission(id=document_id, content={"text": text, **fields})


class HeldEmbedder(WordEmbedder):
    """Waits before each batch until it is let on."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def embed_documents(self, texts: Sequence[str]) -> Vector:
        self.asked.set()
        await self.go_on.wait()
        return await super().embed_documents(texts)


async def live(retriever: Retriever, store: KnowledgeStore, question: str) -> set[str]:
    request = SearchRequest(
        question=question,
        access=Access(tenant=TENANT, principals=("public",)),
        version=(await store.pointer()).stable,
    )
    return {hit.document_id for hit in (await retriever.search(request)).hits}


async def test_a_document_that_is_meant_to_do_harm_is_one_failure(
    database_url: str, store: KnowledgeStore, embedder: WordEmbedder, jobs: JobStore
) -> None:
    sent = [
        page("a", "All gates are green."),
        page("brackets", "![" * 1_000_000),
        page("nested", "<table><tr><td>" * 20_000, content_type="text/html"),
        page("b", "Gates open at noon."),
    ]
    job = await jobs.submit_documents(TENANT, sent, source="api")
    limits = ReadLimits(cpu_s=1.0)
    async with working(database_url, store, embedder, limits=limits):
        done = await ended(jobs, job)
    assert (done.state, done.snapshot) == (JobState.DONE, 1)
    assert done.report is not None
    assert done.report["added"] == 2
    assert [(each["document"], each["field"]) for each in done.report["failures"]] == [
        ("brackets", "cpu"),
        ("nested", "content"),
    ]


async def test_a_batch_becomes_one_snapshot_and_its_bad_documents_are_listed(
    database_url: str, store: KnowledgeStore, embedder: WordEmbedder, jobs: JobStore, retriever: Retriever
) -> None:
    sent = [
        page("a", "# Gates\n\nAll gates are green."),
        page("b", "<h1>Gates</h1><p>Gates open at noon.</p>", content_type="text/html"),
        page("empty", "<p> </p>", content_type="text/html"),
        page("dates", "text", effective_from="soon"),
        Submission.delete("never there"),
    ]
    job = await jobs.submit_documents(TENANT, sent, source="api")
    assert (job.state, job.kind, job.total) == (JobState.QUEUED, JobKind.DOCUMENTS, 5)
    async with working(database_url, store, embedder):
        job = await ended(jobs, job)
    assert (job.state, job.snapshot, job.attempts, job.error) == (JobState.DONE, 1, 1, None)
    assert job.report is not None
    assert (job.report["added"], job.report["removed"], job.report["snapshot"]) == (2, 0, 1)
    assert [(each["document"], each["field"]) for each in job.report["failures"]] == [
        ("empty", "content"),
        ("dates", "effective_from"),
    ]
    assert await live(retriever, store, "gates") == {"a", "b"}
    assert kept_texts(database_url) == 0


def kept_texts(database_url: str, tenant: str = TENANT) -> int:
    with psycopg.connect(database_url) as conn:
        conn.execute("SELECT set_config('retrieval.tenant', %s, false)", [tenant])
        row = conn.execute("SELECT count(content) FROM retrieval.job_document").fetchone()
    assert row is not None
    return int(row[0])


async def test_a_job_of_nothing_but_bad_documents_has_failed(
    database_url: str, store: KnowledgeStore, embedder: WordEmbedder, jobs: JobStore
) -> None:
    job = await jobs.submit_documents(TENANT, [page("a", "text", effective_from="soon")], source="api")
    async with working(database_url, store, embedder):
        job = await ended(jobs, job)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert (job.error["field"], job.error["fix"]) == ("effective_from", "write YYYY-MM-DD")
    assert await store.snapshot(TENANT) == 0


async def test_jobs_of_a_tenant_run_in_the_order_in_which_they_were_sent(
    database_url: str, store: KnowledgeStore, embedder: WordEmbedder, jobs: JobStore, retriever: Retriever
) -> None:
    first = await jobs.submit_documents(TENANT, [page("a", "old price")], source="api")
    second = await jobs.submit_documents(TENANT, [page("a", "new price")], source="api")
    third = await jobs.submit_documents(TENANT, [Submission.delete("a"), page("b", "price")], source="api")
    async with working(database_url, store, embedder, concurrency=3):
        snapshots = [(await ended(jobs, job)).snapshot for job in (first, second, third)]
    assert snapshots == [1, 2, 3]
    assert await live(retriever, store, "price") == {"b"}


async def test_tenants_do_not_wait_for_each_other_and_do_not_see_each_other(
    database_url: str, store: KnowledgeStore, jobs: JobStore
) -> None:
    held = HeldEmbedder()
    slow = await jobs.submit_documents(TENANT, [page("a", "gates")], source="api")
    async with working(database_url, store, held, concurrency=2):
        await asyncio.wait_for(held.asked.wait(), 60)
        other = await jobs.submit_documents("globex", [Submission.delete("a")], source="api")
        assert (await ended(jobs, other)).state is JobState.DONE
        assert (await jobs.job(TENANT, slow.id)).state is JobState.RUNNING
        with pytest.raises(UnknownJobError):
            await jobs.job("globex", slow.id)
        assert [job.id for job in await jobs.jobs("globex")] == [other.id]
        held.go_on.set()
        assert (await ended(jobs, slow)).state is JobState.DONE


async def test_the_same_request_twice_is_one_job(jobs: JobStore) -> None:
    sent = [page("a", "gates")]
    first = await jobs.submit_documents(TENANT, sent, source="api", idempotency_key="k1")
    again = await jobs.submit_documents(TENANT, sent, source="api", idempotency_key="k1")
    assert again.id == first.id
    assert len(await jobs.jobs(TENANT)) == 1
    with pytest.raises(RepeatedRequestError, match="Idempotency-Key"):
        await jobs.submit_documents(TENANT, [page("a", "walls")], source="api", idempotency_key="k1")
    other = await jobs.submit_documents("globex", sent, source="api", idempotency_key="k1")
    assert other.id != first.id


async def test_an_id_twice_in_a_batch_is_refused_whole(jobs: JobStore) -> None:
    with pytest.raises(DuplicateDocumentError, match="'a' is named twice"):
        await jobs.submit_documents(TENANT, [page("a", "one"), Submission.delete("a")], source="api")
    assert await jobs.jobs(TENANT) == []


async def test_another_sources_document_is_known_before_anything_is_queued(
    store: KnowledgeStore, publish: Publish
) -> None:
    documents = DocumentStore(store)
    await publish({"a": "alpha"}, source="folder")
    await documents.require_source(TENANT, "a", "folder")
    await documents.require_source(TENANT, "b", "api")
    with pytest.raises(DocumentConflictError, match="belongs to source 'folder'"):
        await documents.require_source(TENANT, "a", "api")


async def test_paused_in_mid_run_publishes_nothing_and_resumes_where_it_was(
    database_url: str, store: KnowledgeStore, jobs: JobStore, retriever: Retriever
) -> None:
    held = HeldEmbedder()
    count = 3 * CACHE_BATCH
    job = await jobs.submit_documents(
        TENANT, [page(f"d{number}", f"gate number {number}") for number in range(count)], source="api"
    )
    async with working(database_url, store, held):
        await asyncio.wait_for(held.asked.wait(), 60)
        assert (await jobs.move(TENANT, job.id, "pause")).state is JobState.PAUSED
        assert (await jobs.move(TENANT, job.id, "pause")).state is JobState.PAUSED
        await asyncio.sleep(1.2)  # the worker looks once a second
        held.go_on.set()
        # It is free for other work of the tenant, so it has let go of the paused job.
        other = await jobs.submit_documents(TENANT, [page("other", "walls")], source="api")
        assert (await ended(jobs, other)).snapshot == 1
        assert (await jobs.job(TENANT, job.id)).state is JobState.PAUSED
        assert CACHE_BATCH <= len(held.texts) < count
        await jobs.move(TENANT, job.id, "resume")
        done = await ended(jobs, job)
    assert (done.state, done.snapshot) == (JobState.DONE, 2)
    assert len(held.texts) == len(set(held.texts)) == count + 1
    assert len(await live(retriever, store, "gate number")) > 5


async def test_what_a_later_job_has_written_a_resumed_one_leaves_alone(
    database_url: str, store: KnowledgeStore, embedder: WordEmbedder, jobs: JobStore
) -> None:
    early = await jobs.submit_documents(TENANT, [page("a", "old price"), page("b", "b")], source="api")
    await jobs.move(TENANT, early.id, "pause")
    late = await jobs.submit_documents(TENANT, [page("a", "new price")], source="api")
    async with working(database_url, store, embedder):
        await ended(jobs, late)
        await jobs.move(TENANT, early.id, "resume")
        early = await ended(jobs, early)
    assert early.report is not None
    assert (early.report["superseded"], early.report["added"], early.report["changed"]) == (1, 1, 0)


async def test_cancelled_in_mid_run_publishes_nothing_and_keeps_no_text(
    database_url: str, store: KnowledgeStore, jobs: JobStore
) -> None:
    held = HeldEmbedder()
    job = await jobs.submit_documents(TENANT, [page("a", "gates")], source="api")
    async with working(database_url, store, held):
        await asyncio.wait_for(held.asked.wait(), 60)
        cancelled = await jobs.move(TENANT, job.id, "cancel")
        held.go_on.set()
        next_one = await jobs.submit_documents(TENANT, [Submission.delete("x")], source="api")
        assert (await ended(jobs, next_one)).state is JobState.DONE
    assert cancelled.finished_at is not None
    assert (await jobs.job(TENANT, job.id)).state is JobState.CANCELLED
    assert (await store.snapshot(TENANT), kept_texts(database_url)) == (0, 0)
    for move in ("pause", "resume"):
        with pytest.raises(JobStateError, match="is cancelled"):
            await jobs.move(TENANT, job.id, move)
    with pytest.raises(UnknownJobError):
        await jobs.move(TENANT, uuid4(), "cancel")


class LimpingEmbedder(WordEmbedder):
    """Does not answer the first times."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    async def embed_documents(self, texts: Sequence[str]) -> Vector:
        if self.failures:
            self.failures -= 1
            raise EmbedderUnavailableError("http://embedder: HTTP 503")
        return await super().embed_documents(texts)


async def test_what_may_pass_is_tried_again_and_says_so_meanwhile(
    database_url: str, store: KnowledgeStore, jobs: JobStore
) -> None:
    job = await jobs.submit_documents(TENANT, [page("a", "gates")], source="api")
    async with working(database_url, store, LimpingEmbedder(1)):
        waiting = await until(jobs, job.id, lambda found: found.error is not None)
        assert (waiting.state, waiting.error) == (
            JobState.QUEUED,
            {
                "type": "EmbedderUnavailableError",
                "field": None,
                "problem": "http://embedder: HTTP 503",
                "fix": None,
            },
        )
        done = await ended(jobs, job)
    assert (done.state, done.attempts, done.error) == (JobState.DONE, 2, None)


def full_disk(admin: psycopg.Connection, state: str) -> None:
    """No job can be written in that state, for the reason that PostgreSQL gives on a full disk."""
    admin.execute("CREATE SEQUENCE public.refusals")
    admin.execute(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM nextval('public.refusals');"
        " RAISE EXCEPTION USING ERRCODE = '53100', MESSAGE = 'could not extend file'; END $$"
    )
    admin.execute(
        "CREATE TRIGGER refuse BEFORE UPDATE ON retrieval.job FOR EACH ROW"
        f" WHEN (NEW.state = '{state}' AND NEW.attempts > 0) EXECUTE FUNCTION public.refuse()"
    )


def refusals(admin: psycopg.Connection) -> int:
    row = admin.execute("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM refusals").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("state", ["running", "done"])
async def test_a_full_disk_loses_no_job(
    database_url: str, store: KnowledgeStore, embedder: WordEmbedder, jobs: JobStore, state: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as admin:
        full_disk(admin, state)
        job = await jobs.submit_documents(TENANT, [page("a", "gates")], source="api")
        async with working(database_url, store, embedder):
            await until(jobs, job.id, lambda _: refusals(admin) > 0)
            admin.execute("DROP TRIGGER refuse ON retrieval.job")
            done = await ended(jobs, job)
    assert (done.state, done.snapshot) == (JobState.DONE, 1)


async def test_a_job_that_the_queue_does_not_know_is_queued_again(
    database_url: str, store: KnowledgeStore, embedder: WordEmbedder, jobs: JobStore
) -> None:
    job = await jobs.submit_documents(TENANT, [page("a", "gates")], source="api")
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("DELETE FROM retrieval_queue.procrastinate_jobs")
        async with working(database_url, store, embedder):
            assert (await ended(jobs, job)).state is JobState.DONE


class BrokenEmbedder(WordEmbedder):
    async def embed_documents(self, texts: Sequence[str]) -> Vector:
        raise RuntimeError("secret inside")


async def test_what_will_not_pass_fails_at_once_and_can_be_resumed(
    database_url: str, store: KnowledgeStore, embedder: WordEmbedder, jobs: JobStore
) -> None:
    job = await jobs.submit_documents(TENANT, [page("a", "gates")], source="api")
    async with working(database_url, store, BrokenEmbedder()):
        failed = await ended(jobs, job)
    assert (failed.state, failed.attempts) == (JobState.FAILED, 1)
    assert failed.error is not None
    assert failed.error["type"] == "RuntimeError"
    assert "secret" not in str(failed.error)
    await jobs.move(TENANT, job.id, "resume")
    async with working(database_url, store, embedder):
        assert (await ended(jobs, job)).state is JobState.DONE


async def test_folder_is_synced_and_most_of_it_is_not_removed_by_accident(
    database_url: str, store: KnowledgeStore, embedder: WordEmbedder, jobs: JobStore, tmp_path: Path
) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.md").write_text(f"# {name}\n\nabout {name}")

    async def sync(**details: object) -> Job:
        details["path"] = str(tmp_path)
        return await ended(jobs, await jobs.submit(TENANT, JobKind.SOURCE, source="help", details=details))

    async with working(database_url, store, embedder):
        first = await sync()
        assert first.report is not None
        assert (first.state, first.report["added"]) == (JobState.DONE, 4)
        for name in "abc":
            (tmp_path / f"{name}.md").unlink()
        refused = await sync()
        assert refused.error is not None
        assert (refused.state, refused.error["type"]) == (JobState.FAILED, "MassRemovalError")
        replaced = await sync(replace=True)
        assert replaced.report is not None
        assert (replaced.state, replaced.report["removed"], replaced.snapshot) == (JobState.DONE, 3, 2)


async def test_a_worker_that_stops_gives_its_job_back_at_once(
    database_url: str, store: KnowledgeStore, embedder: WordEmbedder, jobs: JobStore
) -> None:
    held = HeldEmbedder()
    job = await jobs.submit_documents(TENANT, [page("a", "gates")], source="api")
    async with working(database_url, store, held):
        await asyncio.wait_for(held.asked.wait(), 60)
    left = await jobs.job(TENANT, job.id)
    assert (left.state, left.error) == (JobState.QUEUED, None)
    async with working(database_url, store, embedder):
        assert (await ended(jobs, job)).state is JobState.DONE
