"""`ingest` replaces a source as a whole, but not by accident."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from deploy.database import pool
from deploy.knowledge import ingest_source
from retrieval.errors import MassRemovalError
from retrieval.ingest_report import IngestReport
from retrieval.settings import RetrievalSettings
from retrieval.store import KnowledgeStore
from tests.fakes.embeddings_server import FakeEmbeddings


def articles(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / f"{name}.md").write_text(f"# {name}\n\nAbout {name}.\n", encoding="utf-8")
    return folder


async def test_most_of_a_source_is_removed_only_when_asked_for(database_url: str, tmp_path: Path) -> None:
    fake = FakeEmbeddings()
    async with fake.serving() as url:
        settings = RetrievalSettings(
            embeddings_url=url,
            embeddings_model="words",
            embeddings_dims=fake.embedder.dims,
            embeddings_api_key=SecretStr("k"),
        )

        async def publish(source: Path, *, name: str = "help-centre", **options: bool) -> IngestReport:
            return await ingest_source(
                database_url,
                source,
                settings=settings,
                embedder_folder=tmp_path,
                tenant="acme",
                say=lambda _: None,
                name=name,
                **options,
            )

        async def snapshot() -> int:
            async with pool(database_url, size=1) as connections:
                return await KnowledgeStore(connections).snapshot("acme")

        whole = articles(tmp_path / "whole", "refunds", "plans", "trials", "guests")
        other = articles(tmp_path / "other", "fees")
        assert (await publish(whole, replace=False)).added == 4
        before = await snapshot()
        for dry_run in (True, False):
            with pytest.raises(
                MassRemovalError,
                match=r"^source: would remove 4 of the 4 documents of 'help-centre' and add 1; "
                r"publish beside them under another --name, or confirm with --replace$",
            ):
                await publish(other, replace=False, dry_run=dry_run)
        assert await snapshot() == before

        (whole / "plans.md").unlink()
        (whole / "guests.md").unlink()
        assert (await publish(whole, replace=False)).removed == 2  # half is still an edit
        assert (await publish(other, name="bank", replace=False)).removed == 0
        (other / "fees.md").unlink()
        (other / "cards.md").write_text("# cards\n\nAbout cards.\n", encoding="utf-8")
        assert (await publish(other, name="bank", replace=True)).removed == 1
