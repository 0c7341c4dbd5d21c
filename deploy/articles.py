"""The help centre that `up` serves: published when it changed, left alone when it did not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from deploy.database import pool
from deploy.home import Home
from deploy.knowledge import fingerprint, ingest_source, summary
from retrieval.settings import RetrievalSettings
from retrieval.store import KnowledgeStore


class Articles:
    """Remembers what was published last.

    An operator who took a publish back finds it still taken back after a restart: only a changed source is
    published again.
    """

    def __init__(self, home: Home, settings: RetrievalSettings, embedder_folder: Path) -> None:
        self._record = home.root / "articles.json"
        self._settings = settings
        self._embedder_folder = embedder_folder

    async def publish(
        self, database_url: str, source: Path | None, *, tenant: str, say: Callable[[str], None]
    ) -> str:
        """Publish the source unless this database has it; returns what came of it, in a line."""
        if source is None:
            return "none (--no-demo)"
        wanted = {
            "source": str(source),
            "fingerprint": fingerprint(source),
            "tenant": tenant,
            "embedder": self._settings.embeddings_url or "packaged",
        }
        if self._recorded() == wanted and await _has_versions(database_url):
            return f"{source.name}: unchanged since the last start"
        report = await ingest_source(
            database_url,
            source,
            settings=self._settings,
            embedder_folder=self._embedder_folder,
            tenant=tenant,
            say=say,
        )
        for failure in report.failures:
            say(f"left out {failure}")
        self._record.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
        return f"{source.name}: {summary(report)}"

    def _recorded(self) -> dict[str, str] | None:
        try:
            recorded: dict[str, str] = json.loads(self._record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return recorded


async def _has_versions(database_url: str) -> bool:
    """Whether anything was ever published in this database: it may be a new one."""
    async with pool(database_url, size=1) as connections:
        return bool(await KnowledgeStore(connections).versions())
