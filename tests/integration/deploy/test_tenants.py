"""A mistyped `--tenant` is an error that names the tenants there are, and makes none."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.cli import main
from deploy.database import pool
from deploy.output import Output
from retrieval.store import KnowledgeStore
from tests.fakes.embeddings_server import FakeEmbeddings


async def twinrail(*arguments: str) -> tuple[int, str]:
    out = Output(stdout=io.StringIO(), stderr=io.StringIO())
    code = await asyncio.to_thread(main, [*arguments, "--json"], out)
    assert isinstance(out.stderr, io.StringIO)
    return code, out.stderr.getvalue()


@pytest.fixture
async def articles(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """A folder to ingest, on a machine without a tenant."""
    fake = FakeEmbeddings()
    async with fake.serving() as url:
        monkeypatch.setenv("TWINRAIL_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("DATABASE_URL", database_url)
        monkeypatch.setenv("RETRIEVAL_EMBEDDINGS_URL", url)
        monkeypatch.setenv("RETRIEVAL_EMBEDDINGS_MODEL", "words")
        monkeypatch.setenv("RETRIEVAL_EMBEDDINGS_DIMS", str(fake.embedder.dims))
        folder = tmp_path / "articles"
        folder.mkdir()
        (folder / "refunds.md").write_text("# Refunds\n\nWithin 30 days.\n", encoding="utf-8")
        yield folder


async def tenants(database_url: str) -> list[str]:
    async with pool(database_url, size=1) as connections:
        return await KnowledgeStore(connections).tenants()


async def test_the_first_tenant_needs_no_flag_and_the_second_does(articles: Path, database_url: str) -> None:
    assert (await twinrail("keys", "create", "site", "--tenant", "acme"))[0] == 0
    assert (await twinrail("knowledge", "freshness", "--tenant", "acme"))[0] == 0
    assert (await twinrail("ingest", str(articles), "--tenant", "acme"))[0] == 0
    said = "--tenant: there is no tenant 'acne'; known: acme; choose one of those"
    ingest = ("ingest", str(articles), "--tenant", "acne")
    for refused in (ingest, (*ingest, "--dry-run"), (*ingest, "--queue")):
        code, log = await twinrail(*refused)
        assert (code, f"{said}, or begin one with --new-tenant" in log) == (2, True), log
    code, log = await twinrail("keys", "create", "site", "--tenant", "acne")
    assert (code, f"{said}, or begin one with --new-tenant" in log) == (2, True)
    assert await tenants(database_url) == ["acme"]

    assert (await twinrail("keys", "create", "site", "--tenant", "globex", "--new-tenant"))[0] == 0
    assert (await twinrail("keys", "list", "--tenant", "globex"))[0] == 0
    assert (await twinrail("ingest", str(articles), "--tenant", "globex", "--new-tenant"))[0] == 0
    assert (await twinrail("ingest", str(articles), "--tenant", "globex"))[0] == 0
    assert await tenants(database_url) == ["acme", "globex"]

    # What was only sent so far may be erased too.
    assert (await twinrail("ingest", str(articles), "--tenant", "initech", "--new-tenant", "--queue"))[0] == 0
    code, log = await twinrail("knowledge", "purge", "nothing", "--tenant", "initech")
    assert (code, "no document 'nothing'" in log) == (2, True), log


@pytest.mark.parametrize(
    "command",
    [
        ("knowledge", "freshness"),
        ("knowledge", "freshness", "--source", "help-centre", "--expect", "6h"),
        ("knowledge", "fit"),
        ("knowledge", "fit", "--drop"),
        ("knowledge", "purge", "refunds"),
        ("keys", "list"),
    ],
    ids=" ".join,
)
async def test_a_command_on_an_unknown_tenant_names_the_known(
    articles: Path, command: tuple[str, ...]
) -> None:
    assert (await twinrail("ingest", str(articles), "--tenant", "acme"))[0] == 0
    code, log = await twinrail(*command, "--tenant", "acne")
    assert (code, "--tenant: there is no tenant 'acne'; known: acme; choose one of those" in log) == (2, True)
    assert "--new-tenant" not in log
