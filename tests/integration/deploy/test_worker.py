"""`twinrail worker` does what `ingest --queue` left in the queue, and ends on a signal."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from pathlib import Path
from uuid import UUID

import pytest

from deploy.cli import main
from deploy.database import pool
from deploy.output import Output
from retrieval.instruments import JOB_KIND, JOB_OUTCOME
from retrieval.jobs import Job, JobState, JobStore
from retrieval.store import KnowledgeStore
from tests.deploy.contract import documented
from tests.fakes.embeddings_server import FakeEmbeddings
from tests.fakes.otlp_receiver import otlp_receiver

RUNS = "twinrail.jobs.duration"
ROOT = Path(__file__).resolve().parents[3]


async def test_a_queued_folder_is_published_by_the_worker(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    articles = tmp_path / "articles"
    articles.mkdir()
    (articles / "gates.md").write_text("# Gates\n\nAll gates are green.", encoding="utf-8")
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("TWINRAIL_HOME", str(tmp_path / "home"))
    out = Output(stdout=io.StringIO(), stderr=io.StringIO())
    command = ["ingest", str(articles), "--queue", "--tenant", "acme", "--json"]
    assert await asyncio.to_thread(main, command, out) == 0
    assert isinstance(out.stdout, io.StringIO)
    queued = json.loads(out.stdout.getvalue())

    fake = FakeEmbeddings()
    async with (
        fake.serving() as url,
        pool(database_url, size=1) as connections,
        otlp_receiver() as receiver,
    ):
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "deploy", "worker"),
            cwd=ROOT,
            env={
                **os.environ,
                "RETRIEVAL_EMBEDDINGS_URL": url,
                "RETRIEVAL_EMBEDDINGS_MODEL": "words",
                "RETRIEVAL_EMBEDDINGS_DIMS": str(fake.embedder.dims),
                "RETRIEVAL_EMBEDDINGS_API_KEY": "k",
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            },
        )
        try:
            done = await _ended(JobStore(KnowledgeStore(connections)), UUID(queued["job"]))
        finally:
            worker.send_signal(signal.SIGTERM)
            code = await worker.wait()
    assert (done.state, done.source, done.snapshot) == (JobState.DONE, "help-centre", 1)
    assert code == 0
    # It has no /metrics: what it measured it has sent, the last of it when it ended.
    sent = {metric.name: metric for metric in receiver.metrics}
    for name in (RUNS, "twinrail.jobs.documents.failed"):
        contract = documented().metrics[name]
        assert (sent[name].unit, sent[name].bounds) == (contract.unit, contract.bounds)
        assert all(set(attributes) == contract.attributes for attributes in sent[name].attributes)
    assert list(sent[RUNS].attributes) == [{JOB_KIND: "source", JOB_OUTCOME: "done"}]


async def _ended(jobs: JobStore, job: UUID) -> Job:
    async with asyncio.timeout(120):
        while True:
            found = await jobs.job("acme", job)
            if found.finished_at is not None:
                return found
            await asyncio.sleep(0.05)
