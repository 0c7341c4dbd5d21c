"""Runs of jobs as a backend sees them: how each ended, and the documents that were left out."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from retrieval import instruments as names
from retrieval.jobs import JobState, JobStore, Submission
from retrieval.store import KnowledgeStore
from tests.fakes.embedding import WordEmbedder
from tests.fakes.telemetry import Recorded, recorded
from tests.integration.retrieval.test_jobs import (
    TENANT,
    BrokenEmbedder,
    HeldEmbedder,
    LimpingEmbedder,
    ended,
    page,
    until,
    working,
)


class Runs:
    """Runs by outcome, and documents left out, since it was made: metrics are cumulative over the session."""

    def __init__(self, telemetry: Recorded) -> None:
        self._telemetry = telemetry
        self._before = self._counted()

    def since(self) -> dict[str, int]:
        return dict(self._counted() - self._before)

    def _counted(self) -> Counter[str]:
        counted = Counter[str]()
        for labels, point in self._telemetry.points("twinrail.jobs.duration"):
            if labels[names.JOB_KIND] == "documents":
                counted[labels[names.JOB_OUTCOME]] += point.count
        for labels, point in self._telemetry.points("twinrail.jobs.documents.failed"):
            if labels[names.JOB_KIND] == "documents":
                counted["left out"] += point.value
        return counted


@pytest.fixture
def runs() -> Runs:
    return Runs(recorded())


async def test_each_run_is_counted_by_how_it_ended(
    runs: Runs, database_url: str, store: KnowledgeStore
) -> None:
    jobs = JobStore(store)
    sent = [page("a", "gates"), page("b", "text", effective_from="soon"), Submission.delete("c")]
    job = await jobs.submit_documents(TENANT, sent, source="api")
    async with working(database_url, store, LimpingEmbedder(1)):
        assert (await ended(jobs, job)).state is JobState.DONE
    assert runs.since() == {"retried": 1, "done": 1, "left out": 1}


async def test_what_fails_is_stopped_or_given_back_is_told_apart(
    runs: Runs, database_url: str, store: KnowledgeStore
) -> None:
    jobs = JobStore(store)
    broken = await jobs.submit_documents(TENANT, [page("a", "gates")], source="api")
    async with working(database_url, store, BrokenEmbedder()):
        await ended(jobs, broken)
    assert runs.since() == {"failed": 1}

    held = HeldEmbedder()
    given_back = await jobs.submit_documents(TENANT, [page("b", "walls")], source="api")
    async with working(database_url, store, held):
        await asyncio.wait_for(held.asked.wait(), 60)
    assert (await jobs.job(TENANT, given_back.id)).state is JobState.QUEUED
    assert runs.since() == {"failed": 1, "given_back": 1}

    stopped = HeldEmbedder()
    async with working(database_url, store, stopped):
        await asyncio.wait_for(stopped.asked.wait(), 60)
        await jobs.move(TENANT, given_back.id, "cancel")
        stopped.go_on.set()
        # It is free for other work of the tenant, so it has let go of the cancelled one.
        other = await jobs.submit_documents(TENANT, [Submission.delete("x")], source="api")
        await until(jobs, other.id, lambda found: found.state is JobState.DONE)
    assert runs.since() == {"failed": 1, "given_back": 1, "stopped": 1, "done": 1}


async def test_documents_that_cannot_be_read_are_counted_where_nothing_else_was_sent(
    runs: Runs, database_url: str, store: KnowledgeStore, embedder: WordEmbedder
) -> None:
    jobs = JobStore(store)
    sent = [page("a", "text", effective_from="soon"), page("b", "<p> </p>", content_type="text/html")]
    job = await jobs.submit_documents(TENANT, sent, source="api")
    async with working(database_url, store, embedder):
        assert (await ended(jobs, job)).state is JobState.FAILED
    assert runs.since() == {"failed": 1, "left out": 2}
