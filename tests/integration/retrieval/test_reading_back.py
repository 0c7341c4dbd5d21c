"""Content of a moment: what was live then, through publishes, undo and redo; and what cannot be read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from retrieval.connections import Pool
from retrieval.documents import Access
from retrieval.errors import UnknownSnapshotError
from retrieval.hits import SearchRequest
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore
from tests.integration.retrieval.conftest import Publish

PUBLIC = Access(tenant="acme", principals=("public",))


async def moves(pool: Pool) -> list[datetime]:
    """When the tenant's head moved, oldest first."""
    async with pool.connection() as conn:
        await conn.execute("SELECT set_config('retrieval.tenant', 'acme', true)")
        cursor = await conn.execute("SELECT moved_at FROM retrieval.head_move ORDER BY moved_seq")
        return [row[0] for row in await cursor.fetchall()]


async def test_a_moment_shows_what_was_live_then(
    retriever: Retriever, store: KnowledgeStore, publish: Publish, pool: Pool
) -> None:
    await publish({"a": "first words"})
    await publish({"a": "second words"})
    await store.undo("acme", "publish")
    await store.undo("acme", "publish")
    version = (await store.pointer()).stable

    async def read(as_of: int | datetime | None) -> tuple[int, str]:
        request = SearchRequest(question="words", access=PUBLIC, version=version, as_of=as_of)
        result = await retriever.search(request)
        return result.snapshot, result.hits[0].text

    first, second, undone, redone = await moves(pool)
    tick = timedelta(microseconds=1)
    assert await read(first) == (1, "first words")
    assert await read(second - tick) == (1, "first words")
    assert await read(second) == (2, "second words")
    assert await read(undone) == (1, "first words")
    assert await read(redone) == (2, "second words")
    assert await read(datetime.now(UTC) + timedelta(days=1)) == (2, "second words")
    assert await read(1) == (1, "first words")
    with pytest.raises(UnknownSnapshotError, match="as_of: nothing was published by"):
        await read(first - tick)
    with pytest.raises(UnknownSnapshotError, match="snapshot 3 does not exist; the newest is 2"):
        await read(3)


async def test_before_what_a_version_holds_is_an_error(
    retriever: Retriever, store: KnowledgeStore, publish: Publish, pool: Pool
) -> None:
    await publish({"a": "first words"})
    await publish({"a": "second words"})
    version = (await store.pointer()).stable
    async with pool.connection() as conn:
        await conn.execute("SELECT set_config('retrieval.tenant', 'acme', true)")
        await conn.execute(
            "INSERT INTO retrieval.index_coverage (index_number, tenant, earliest)"
            " SELECT number, 'acme', 2 FROM retrieval.index_version WHERE id = %s",
            [version],
        )
    (first, _) = await moves(pool)
    for as_of in (1, first):
        request = SearchRequest(question="words", access=PUBLIC, version=version, as_of=as_of)
        with pytest.raises(UnknownSnapshotError, match="was built from snapshot 2 on, and snapshot 1 is"):
            await retriever.search(request)
    request = SearchRequest(question="words", access=PUBLIC, version=version, as_of=2)
    assert (await retriever.search(request)).snapshot == 2
