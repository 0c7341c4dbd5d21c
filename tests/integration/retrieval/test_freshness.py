"""What is known of a source after syncs, publishes and single documents."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from retrieval.errors import UnknownSourceError
from retrieval.freshness import SourceFreshness, expect_syncs, freshness, oldest_syncs
from retrieval.ingest import apply, ingest
from retrieval.ingest_report import Changes
from retrieval.parsing import parse_row
from retrieval.store import KnowledgeStore
from tests.fakes.embedding import WordEmbedder


async def only(store: KnowledgeStore, tenant: str = "acme") -> SourceFreshness:
    (source,) = await freshness(store, tenant)
    return source


async def test_every_look_is_noted_and_only_changes_are_published(
    store: KnowledgeStore, embedder: WordEmbedder, tmp_path: Path
) -> None:
    folder = tmp_path / "articles"
    folder.mkdir()
    article = folder / "a.md"
    article.write_text("red", encoding="utf-8")

    async def sync(*, dry_run: bool = False) -> SourceFreshness | None:
        await ingest(store, embedder, folder, tenant="acme", dry_run=dry_run)
        return next(iter(await freshness(store, "acme")), None)

    assert await sync(dry_run=True) is None
    first = await sync()
    assert first is not None
    assert (first.source, first.left_out, first.lag_s) == ("articles", 0, None)
    assert first.published_at is not None
    assert first.checked_at is not None

    again = await sync()
    assert again is not None
    assert again.checked_at is not None
    assert again.checked_at > first.checked_at
    assert (again.published_at, again.lag_s) == (first.published_at, None)

    # A minute old, but not there at the last look: it came since.
    article.write_text("green", encoding="utf-8")
    old = (datetime.now(UTC) - timedelta(hours=5)).timestamp()
    os.utime(article, (old, old))
    (folder / "bad.md").write_bytes(b"\x00")
    changed = await sync()
    assert changed is not None
    assert changed.published_at is not None
    assert changed.published_at > first.published_at
    assert changed.lag_s is not None
    assert changed.lag_s == pytest.approx((changed.published_at - again.checked_at).total_seconds(), abs=0.01)
    assert changed.left_out == 1
    assert changed.changed_at == first.changed_at


async def test_documents_that_are_sent_are_published_and_never_looked_for(
    store: KnowledgeStore, embedder: WordEmbedder
) -> None:
    changes = Changes(upserts=(parse_row("sent", {"id": "a", "text": "red"}),))
    await apply(store, [embedder], changes, tenant="acme", source="api")
    sent = await only(store)
    assert sent.published_at is not None
    assert (sent.checked_at, sent.lag_s) == (None, None)
    await apply(store, [embedder], changes, tenant="acme", source="api")
    assert await only(store) == sent
    assert await oldest_syncs(store) == []


async def test_the_oldest_look_over_all_tenants_is_shown_and_no_tenant_with_it(
    store: KnowledgeStore, embedder: WordEmbedder, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"id": "a", "text": "red"}', encoding="utf-8")
    for tenant in ("acme", "globex"):
        await ingest(store, embedder, corpus, tenant=tenant, source_name="help")
    (sync,) = await oldest_syncs(store)
    oldest = (await only(store)).checked_at
    assert (sync.source, sync.checked_at, sync.due_at) == ("help", oldest, None)

    await expect_syncs(store, "globex", "help", 3600)
    theirs = (await only(store, "globex")).checked_at
    assert theirs is not None
    (sync,) = await oldest_syncs(store)
    assert sync.due_at == theirs + timedelta(hours=1)
    await expect_syncs(store, "globex", "help", None)
    (sync,) = await oldest_syncs(store)
    assert sync.due_at is None
    with pytest.raises(UnknownSourceError, match="known: help"):
        await expect_syncs(store, "globex", "other", 3600)
