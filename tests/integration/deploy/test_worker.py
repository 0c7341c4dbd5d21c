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
from retrieval.jobs import Job, JobState, JobStore
from retrieval.store import KnowledgeStore
from tests.fakes.embeddings_server import FakeEmbeddings

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
    async with fake.serving() as url, pool(database_url, size=1) as connections:
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "deploy", "worker"),
            cwd=ROOT,
            env={
                **os.environ,
                "RETRIEVAL_EMBEDDINGS_URL": url,
                "RETRIEVAL_EMBEDDINGS_MODEL": "words",
                "RETRIEVAL_EMBEDDINGS_DIMS": str(fake.embedder.dims),
                "RETRIEVAL_EMBEDDINGS_API_KEY": "k",
            },
        )
        try:
            done = await _ended(JobStore(KnowledgeStore(connections)), UUID(queued["job"]))
        finally:
            worker.send_signal(signal.SIGTERM)
            code = await worker.wait()
    assert (done.state, done.source, done.snapshot) == (JobState.DONE, "help-centre", 1)
    assert code == 0


async def _ended(jobs: JobStore, job: UUID) -> Job:
    async with asyncio.timeout(120):
        while True:
            found = await jobs.job("acme", job)
            if found.finished_at is not None:
                return found
            await asyncio.sleep(0.05)
