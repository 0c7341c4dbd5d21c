"""`ingest --watch` publishes what changes, says each thing once, and outlives what passes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from deploy.errors import UsageError
from deploy.knowledge import source_sync
from deploy.watching import Sync, Watch
from retrieval.errors import MassRemovalError, StoreUnavailableError, UnparsableDocumentError
from retrieval.ingest_report import IngestReport
from retrieval.settings import RetrievalSettings
from tests.fakes.embeddings_server import FakeEmbeddings


def report(snapshot: int, *failures: UnparsableDocumentError) -> IngestReport:
    numbers = dict.fromkeys(
        ("documents", "added", "changed", "removed", "unchanged", "access_changed", "renamed"), 0
    )
    return IngestReport(
        source="help",
        **numbers,
        chunks=0,
        embedded=0,
        failures=failures,
        skipped=(),
        snapshot=snapshot,
        versions=(),
        dry_run=False,
    )


class Script:
    """What each run of the sync does, in turn; the last one again and again."""

    def __init__(self, *outcomes: IngestReport | Exception) -> None:
        self._outcomes = iter(outcomes)
        self._last: IngestReport | Exception = outcomes[-1]
        self.runs = 0
        self.opened = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Sync]:
        self.opened += 1
        yield self._run

    async def _run(self) -> IngestReport:
        self.runs += 1
        outcome = next(self._outcomes, self._last)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class Watched:
    """A watch that runs, and what it said."""

    def __init__(self) -> None:
        self.snapshots: list[int] = []
        self.said: list[str] = []

    @asynccontextmanager
    async def over(
        self, source: Path, open_sync: Callable[..., object], *, interval_s: float | None
    ) -> AsyncIterator[None]:
        watch = Watch(
            source,
            open_sync,  # type: ignore[arg-type]
            interval_s=interval_s,
            on_report=lambda found: self.snapshots.append(found.snapshot),
            say=self.said.append,
        )
        running = asyncio.create_task(watch.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.wait([running])
            assert running.cancelled()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while True:
            if true():
                return
            await asyncio.sleep(0.02)


@pytest.fixture
def watched() -> Watched:
    return Watched()


async def test_a_wrong_command_line_ends_the_watch(tmp_path: Path) -> None:
    script = Script(UsageError("--tenant: there is no tenant 'acne'"))
    watch = Watch(
        tmp_path, script.open, interval_s=0.01, on_report=lambda _report: None, say=lambda _text: None
    )
    with pytest.raises(UsageError, match="acne"):
        await watch.run()
    assert script.opened == 1


async def test_only_a_publish_makes_a_line_and_a_bad_file_is_listed_once(
    watched: Watched, tmp_path: Path
) -> None:
    bad = UnparsableDocumentError("a.md", "content", "is binary", "remove it")
    script = Script(report(1, bad), report(1, bad), report(2, bad), report(2))
    async with watched.over(tmp_path, script.open, interval_s=0.01):
        await until(lambda: script.runs >= 6)
    assert watched.snapshots == [1, 2]
    assert watched.said == ["left out a.md: content: is binary; remove it"]


async def test_a_database_that_is_away_is_opened_again(watched: Watched, tmp_path: Path) -> None:
    script = Script(StoreUnavailableError("database: gone"), report(1))
    async with watched.over(tmp_path, script.open, interval_s=0.01):
        await until(lambda: bool(watched.snapshots))
    assert watched.said == ["database: gone; trying again in 1 s"]
    assert script.opened == 2


async def test_a_refusal_is_said_and_waits_for_the_source(watched: Watched, tmp_path: Path) -> None:
    script = Script(MassRemovalError("source: would remove 9 of 9"), report(1))
    async with watched.over(tmp_path, script.open, interval_s=0.01):
        await until(lambda: bool(watched.snapshots))
    assert watched.said == ["not published: source: would remove 9 of 9; waiting for the source to change"]
    assert script.opened == 1


async def test_a_changed_file_is_published(database_url: str, watched: Watched, tmp_path: Path) -> None:
    articles = tmp_path / "articles"
    articles.mkdir()
    (articles / "gates.md").write_text("# Gates\n\nAll gates are green.", encoding="utf-8")
    fake = FakeEmbeddings()
    async with fake.serving() as url:
        settings = RetrievalSettings(
            embeddings_url=url,
            embeddings_model="words",
            embeddings_dims=fake.embedder.dims,
            embeddings_api_key=SecretStr("k"),
        )

        def open_sync() -> object:
            return source_sync(
                database_url,
                articles,
                settings=settings,
                embedder_folder=tmp_path,
                tenant="acme",
                say=lambda _: None,
            )

        async with watched.over(articles, open_sync, interval_s=None):
            await until(lambda: watched.snapshots == [1])
            (articles / "gates.md").write_text("# Gates\n\nAll gates are blue.", encoding="utf-8")
            await until(lambda: watched.snapshots == [1, 2])
    assert watched.said == []
