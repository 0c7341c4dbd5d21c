"""`twinrail jobs` on a real database: listed, shown, moved, and refused in clear words."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from deploy.cli import main
from deploy.database import pool
from deploy.output import Output
from retrieval.jobs import Job, JobKind, JobState, JobStore, Submission
from retrieval.store import KnowledgeStore


async def twinrail(*arguments: str, as_json: bool = True) -> tuple[int, Any, str]:
    """Exit code, data and what else was said."""
    out = Output(stdout=io.StringIO(), stderr=io.StringIO())
    code = await asyncio.to_thread(main, ["jobs", *arguments, *(["--json"] if as_json else [])], out)
    assert isinstance(out.stdout, io.StringIO)
    assert isinstance(out.stderr, io.StringIO)
    said = out.stdout.getvalue()
    return code, json.loads(said) if said and as_json else said, out.stderr.getvalue()


@pytest.fixture
def environment(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("TWINRAIL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TWINRAIL_TENANT", "acme")


async def sent(database_url: str) -> tuple[Job, Job]:
    """A job of two tenants each."""
    async with pool(database_url, size=1) as connections:
        jobs = JobStore(KnowledgeStore(connections))
        mine = await jobs.submit_documents(
            "acme", [Submission(id="a", content={"text": "red"})], source="api"
        )
        theirs = await jobs.submit("globex", JobKind.SOURCE, source="help", details={"path": "articles"})
    return mine, theirs


@pytest.mark.usefixtures("environment")
async def test_jobs_are_listed_shown_and_moved(database_url: str) -> None:
    mine, theirs = await sent(database_url)
    code, listed, _ = await twinrail("list")
    assert (code, [job["id"] for job in listed]) == (0, [str(mine.id)])
    code, listed, _ = await twinrail("list", "--all-tenants")
    assert [(job["id"], job["tenant"]) for job in listed] == [
        (str(theirs.id), "globex"),
        (str(mine.id), "acme"),
    ]
    assert len((await twinrail("list", "--all-tenants", "--limit", "1"))[1]) == 1
    code, shown, _ = await twinrail("show", str(theirs.id), "--tenant", "globex")
    assert (code, shown["state"], shown["details"]) == (0, "queued", {"path": "articles"})
    _, text, _ = await twinrail("show", str(theirs.id), "--tenant", "globex", as_json=False)
    assert "given       path = articles" in text.splitlines()

    code, moved, _ = await twinrail("pause", str(mine.id), "--dry-run")
    assert (code, moved["state"], moved["dry_run"]) == (0, "queued", True)
    for move, state in (
        ("pause", "paused"),
        ("pause", "paused"),
        ("resume", "queued"),
        ("cancel", "cancelled"),
    ):
        code, moved, _ = await twinrail(move, str(mine.id))
        assert (code, moved["state"]) == (0, state)
    assert (await twinrail("list", "--open"))[1] == []
    assert [job["state"] for job in (await twinrail("list"))[1]] == ["cancelled"]


@pytest.mark.usefixtures("environment")
async def test_what_cannot_be_is_refused_in_clear_words(database_url: str) -> None:
    mine, theirs = await sent(database_url)
    assert (await twinrail("cancel", str(mine.id)))[0] == 0
    for extra in ([], ["--dry-run"]):
        code, said, log = await twinrail("resume", str(mine.id), *extra)
        assert (code, said) == (1, "")
        assert log == f"twinrail: job: {mine.id} is cancelled, so it cannot be resumed\n"
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("SELECT set_config('retrieval.tenant', 'globex', false)")
        conn.execute("UPDATE retrieval.job SET state = 'done', snapshot = 3, finished_at = now()")
    code, _, log = await twinrail("pause", str(theirs.id), "--tenant", "globex")
    assert (code, "is done, so it cannot be paused" in log) == (1, True)
    unknown = uuid4()
    for words in (["show"], ["cancel"], ["pause", "--dry-run"]):
        code, _, log = await twinrail(*words, str(unknown))
        assert (code, f"tenant 'acme' has no job {unknown}" in log) == (2, True)
    # Another tenant's is as if it were not there.
    code, _, log = await twinrail("show", str(theirs.id))
    assert (code, "has no job" in log) == (2, True)
    code, _, log = await twinrail("show", "help")
    assert (code, "id: 'help' is not a job's id; `twinrail jobs list` shows them" in log) == (2, True)
    async with pool(database_url, size=1) as connections:
        assert (await JobStore(KnowledgeStore(connections)).job("acme", mine.id)).state is JobState.CANCELLED


@pytest.mark.usefixtures("environment")
async def test_why_a_job_waits_and_what_it_left_out_is_shown(database_url: str) -> None:
    mine, _ = await sent(database_url)
    error = {"type": "EmbedderUnavailableError", "field": None, "problem": "HTTP 503", "fix": None}
    failure = {"document": "b", "field": "content", "problem": "empty", "fix": "send some text"}
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("SELECT set_config('retrieval.tenant', 'acme', false)")
        conn.execute(
            "UPDATE retrieval.job SET error = %s, report = %s, stage = 'embed', done = 1, total = 2",
            [json.dumps(error), json.dumps({"added": 1, "failures": [failure]})],
        )
    _, text, _ = await twinrail("show", str(mine.id), as_json=False)
    lines = text.splitlines()
    assert "error       EmbedderUnavailableError: HTTP 503" in lines
    assert "progress    embed 1/2" in lines
    assert "report      added = 1" in lines
    assert "left out    b: content: empty; send some text" in lines
    _, text, _ = await twinrail("list", "--open", as_json=False)
    assert "embed 1/2" in text
    assert "EmbedderUnavailableError" in text
