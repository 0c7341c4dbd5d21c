"""`twinrail knowledge purge` and `freshness`, as they are typed."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import main
from deploy.database import pool
from deploy.output import Output
from retrieval.ingest import ingest
from retrieval.store import KnowledgeStore
from tests.fakes.embedding import WordEmbedder
from tests.fakes.parsers import shared_parsers


@pytest.fixture
def ingested(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A help centre of two articles in the database that the command line works on."""
    for name in ("refunds", "plans"):
        (tmp_path / f"{name}.md").write_text(f"# {name}\n\nAbout {name}.\n", encoding="utf-8")

    async def run() -> None:
        async with pool(database_url) as connections:
            store = KnowledgeStore(connections)
            await ingest(
                store,
                WordEmbedder(),
                tmp_path,
                tenant="acme",
                source_name="help-centre",
                parsers=shared_parsers(),
            )

    asyncio.run(run())
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("TWINRAIL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TWINRAIL_TENANT", "acme")


def twinrail(*arguments: str) -> tuple[int, Any, str]:
    """Exit code, data and what was said beside it."""
    said, data = io.StringIO(), io.StringIO()
    code = main([*arguments, "--json"], Output(True, data, said))
    return code, json.loads(data.getvalue() or "null"), said.getvalue()


def counts(told: Any, names: Sequence[str] = ("texts", "chunks", "vectors")) -> list[int]:
    return [told[name] for name in names]


@pytest.mark.usefixtures("ingested")
def test_purge_says_what_it_would_erase_erases_it_and_can_be_repeated() -> None:
    code, planned, _ = twinrail("knowledge", "purge", "refunds", "--dry-run")
    assert (code, planned["dry_run"], planned["erased_at"]) == (0, True, None)
    assert counts(planned, ("texts", "chunks")) == [1, 1]
    code, done, _ = twinrail("knowledge", "purge", "refunds", "--by", "court order 7")
    assert (code, counts(done)) == (0, [1, 1, 1])
    assert done["erased_at"]
    code, again, _ = twinrail("knowledge", "purge", "refunds")
    assert (code, counts(again), again["tombstone"]) == (0, [0, 0, 0], done["tombstone"])
    code, told, said = twinrail("knowledge", "purge", "no-such-article")
    assert (code, told) == (2, None)
    assert "no document 'no-such-article'" in said


@pytest.mark.usefixtures("ingested")
def test_what_the_values_of_a_field_are_is_listed_and_declared() -> None:
    known = {"language": "text"}
    assert twinrail("knowledge", "fields")[1] == {"fields": known, "dry_run": False}
    declare = ("knowledge", "fields", "--set", "code=number", "--set", "a=b=list")
    planned = {**known, "code": "number", "a=b": "list"}
    assert twinrail(*declare, "--dry-run")[1] == {"fields": planned, "dry_run": True}
    assert twinrail("knowledge", "fields")[1]["fields"] == known
    assert twinrail(*declare)[1]["fields"] == planned
    assert twinrail("knowledge", "fields", "--set", "code=text")[1]["fields"]["code"] == "text"
    assert twinrail("knowledge", "fields")[1]["fields"]["code"] == "text"


@pytest.mark.usefixtures("ingested")
def test_freshness_lists_sources_and_takes_expectations() -> None:
    code, told, _ = twinrail("knowledge", "freshness")
    (source,) = told["sources"]
    assert (code, source["source"], source["sync_every_s"]) == (0, "help-centre", None)
    expect = ("knowledge", "freshness", "--dry-run", "--expect", "6h", "--source")
    code, told, _ = twinrail(*expect, "help-centre")
    assert (code, told["sources"][0]["sync_every_s"]) == (0, None)
    assert twinrail(*expect, "other")[0] == 2
    code, told, _ = twinrail("knowledge", "freshness", "--source", "help-centre", "--expect", "6h")
    assert (code, told["sources"][0]["sync_every_s"], told["overdue"]) == (0, 21_600, [])
    code, told, _ = twinrail("knowledge", "freshness", "--source", "help-centre", "--expect", "off")
    assert told["sources"][0]["sync_every_s"] is None
    assert twinrail("knowledge", "freshness", "--source", "other", "--expect", "6h")[0] == 2
    assert twinrail("knowledge", "freshness", "--expect", "6h")[0] == 2
