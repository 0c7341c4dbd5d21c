"""`twinrail knowledge versions`, `build` and `retire` on a real database, with two embedding services."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import main
from deploy.commands.versions import REWRITERS
from deploy.database import pool
from deploy.output import Output
from gateway.rewriting import ModelRewriter
from retrieval.rewriting import LastTurns
from retrieval.store import KnowledgeStore
from tests.fakes.embedding import WordEmbedder
from tests.fakes.embeddings_server import FakeEmbeddings

#: As docs/operations.md names it.
RERANKER_ID = "rerank-minilm4-1e58b9f2"


def test_the_rewriters_are_those_of_a_gateway() -> None:
    assert (LastTurns.id, ModelRewriter.id) == REWRITERS


async def twinrail(*arguments: str) -> tuple[int, Any, str]:
    out = Output(stdout=io.StringIO(), stderr=io.StringIO())
    code = await asyncio.to_thread(main, [*arguments, "--json"], out)
    assert isinstance(out.stdout, io.StringIO)
    assert isinstance(out.stderr, io.StringIO)
    said = out.stdout.getvalue()
    return code, json.loads(said) if said else None, out.stderr.getvalue()


async def test_a_version_of_another_embedder_is_built_and_retired(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = FakeEmbeddings(), FakeEmbeddings(embedder=WordEmbedder(dims=16))
    (tmp_path / "articles").mkdir()
    for name in ("refunds", "plans"):
        (tmp_path / "articles" / f"{name}.md").write_text(f"# {name}\n\nAbout {name}.\n", encoding="utf-8")
    async with one.serving() as first_url, two.serving() as second_url:
        monkeypatch.setenv("TWINRAIL_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("DATABASE_URL", database_url)
        monkeypatch.setenv("RETRIEVAL_EMBEDDINGS_URL", first_url)
        monkeypatch.setenv("RETRIEVAL_EMBEDDINGS_MODEL", "one")
        monkeypatch.setenv("RETRIEVAL_EMBEDDINGS_DIMS", "32")
        monkeypatch.setenv(
            "RETRIEVAL_EMBEDDERS", json.dumps([{"url": second_url, "model": "two", "dims": 16}])
        )
        assert (await twinrail("ingest", str(tmp_path / "articles"), "--tenant", "acme"))[0] == 0
        code, _, log = await twinrail("knowledge", "build", "--name", "two", "--embedder", "bge")
        assert (code, "--embedder: bge is not at hand; at hand: http-one-" in log) == (2, True)
        embedder = log.partition("http-two-")[1] + log.partition("http-two-")[2].split(";")[0]

        build = ("knowledge", "build", "--name", "two", "--embedder", embedder)
        code, plan, _ = await twinrail(*build, "--dry-run")
        version = plan["definition"]["id"]
        assert (code, plan["plan"]) == (0, f"would build {version}")
        assert len((await twinrail("knowledge", "versions"))[1]["versions"]) == 1
        unknown = ("knowledge", "build", "--name", "talk", "--rewriter", "last-turn-1")
        code, _, log = await twinrail(*unknown)
        assert (code, "no rewriter last-turn-1; choose last-turns-1 or model-1" in log) == (2, True)
        named = ("knowledge", "build", "--name", "reranked", "--reranker", RERANKER_ID, "--dry-run")
        code, plan, _ = await twinrail(*named)
        assert (code, plan["definition"]["rerank_weight"]) == (0, 0.3)
        code, _, log = await twinrail(*named, "--rerank-weight", "0")
        assert (code, "rerank_weight: 0 leaves" in log) == (2, True)
        code, report, _ = await twinrail(*build)
        assert (code, report["version"], report["embedded"]) == (0, version, 2)
        code, listed, _ = await twinrail("knowledge", "versions")
        (stable, built) = listed["versions"]
        assert (stable["roles"], built["roles"], built["state"]) == (["stable"], [], "ready")
        assert built["tenants"] == {"acme": {"chunks": 2, "earliest_snapshot": 0}}
        assert (await twinrail("knowledge", "build", version))[1]["embedded"] == 0

        code, _, log = await twinrail("knowledge", "retire", stable["id"])
        assert (code, "is the stable version and cannot be retired" in log) == (1, True)
        for extra in (["--dry-run"], []):
            code, freed, _ = await twinrail("knowledge", "retire", version, *extra)
            assert (code, freed["freed_bytes"] > 0) == (0, True)
        async with pool(database_url, size=1) as connections:
            states = [facts.version.state for facts in await KnowledgeStore(connections).facts()]
        assert states == ["ready", "retired"]
