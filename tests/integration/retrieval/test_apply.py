"""Single documents of a source: written and taken away in one publish, the rest stays."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from datetime import timedelta

import pytest
from psycopg_pool import AsyncConnectionPool

from retrieval.connections import Connection
from retrieval.documents import Access
from retrieval.embedding import Vector
from retrieval.errors import DocumentConflictError, DuplicateDocumentError, EmbeddingRefusedError
from retrieval.hits import SearchRequest
from retrieval.ingest import ATTEMPTS, apply
from retrieval.ingest_report import Changes, IngestProgress, IngestReport
from retrieval.parsing import ParsedDocument, parse_row
from retrieval.publishing import MANY_CHUNKS, Publisher
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore
from tests.fakes.embedding import WordEmbedder
from tests.integration.retrieval.conftest import Publish


def document(key: str, text: str, **row: object) -> ParsedDocument:
    return parse_row(key, {"id": key, "title": key, "text": text, **row})


async def live(retriever: Retriever, store: KnowledgeStore, question: str) -> set[str]:
    request = SearchRequest(
        question=question,
        access=Access(tenant="acme", principals=("public",)),
        version=(await store.pointer()).stable,
    )
    return {hit.document_id for hit in (await retriever.search(request)).hits}


async def test_one_publish_writes_and_takes_away(
    store: KnowledgeStore, embedder: WordEmbedder, retriever: Retriever
) -> None:
    first = Changes(upserts=(document("a", "gates"), document("b", "gates"), document("c", "gates")))
    report = await apply(store, [embedder], first, tenant="acme", source="api")
    assert (report.added, report.snapshot) == (3, 1)
    embedder.texts.clear()
    second = Changes(
        upserts=(document("a", "gates"), document("b", "blue gates")), deletes=("c", "never there")
    )
    report = await apply(store, [embedder], second, tenant="acme", source="api")
    assert (report.unchanged, report.changed, report.removed, report.snapshot) == (1, 1, 1, 2)
    assert len(embedder.texts) == 1
    assert await live(retriever, store, "gates") == {"a", "b"}


async def test_many_writers_at_once_all_get_through(
    store: KnowledgeStore, embedder: WordEmbedder, publish: Publish
) -> None:
    """More of them than attempts: without a turn of their own, the last ones are overtaken at each."""
    await publish({"start": "gates"}, source="folder")
    names = [f"d{number:02}" for number in range(4 * ATTEMPTS)]

    async def write(name: str) -> IngestReport:
        changes = Changes(upserts=(document(name, f"gates {name}"),))
        return await apply(store, [embedder], changes, tenant="acme", source="api")

    reports = await asyncio.gather(*(write(name) for name in names))
    assert sorted(report.snapshot for report in reports) == list(range(2, len(names) + 2))
    assert len(embedder.texts) == 1 + len(names)


async def test_whom_others_overtook_publishes_alone_and_the_planner_learns_of_it(
    store: KnowledgeStore, embedder: WordEmbedder, publish: Publish, database_url: str
) -> None:
    await publish({"start": "gates"}, source="folder")
    begun: list[int] = []

    async def another() -> None:
        async with AsyncConnectionPool(database_url, min_size=1, max_size=1, open=False) as own:
            changes = Changes(upserts=(document(f"other-{len(begun)}", "gates"),))
            await apply(KnowledgeStore(own), [embedder], changes, tenant="acme", source="elsewhere")

    def overtake(progress: IngestProgress) -> None:
        if progress.stage == "publish" and progress.done < progress.total:
            begun.append(progress.total)
            if len(begun) < ATTEMPTS:
                quick = threading.Thread(target=lambda: asyncio.run(another()))
                quick.start()
                quick.join()

    many = tuple(document(f"d{number}", f"gates {number}") for number in range(MANY_CHUNKS))
    async with store.pool.connection() as conn:
        await conn.execute("ANALYZE retrieval.chunk")
    report = await apply(
        store, [embedder], Changes(upserts=many), tenant="acme", source="api", on_progress=overtake
    )
    assert (begun, report.snapshot) == ([MANY_CHUNKS] * ATTEMPTS, ATTEMPTS + 1)
    async with store.pool.connection() as conn:
        known = "SELECT reltuples::int FROM pg_class WHERE oid = 'retrieval.chunk'::regclass"
        assert await (await conn.execute(known)).fetchone() == (MANY_CHUNKS + ATTEMPTS,)


async def test_who_waited_for_a_turn_of_its_own_sees_readers_that_are_new(
    store: KnowledgeStore, embedder: WordEmbedder
) -> None:
    publisher = Publisher(store, "acme")
    waiting: list[asyncio.Task[set[str]]] = []

    async def alone() -> set[str]:
        async with publisher.alone():
            return set(await publisher.live_documents(await publisher.position()))

    async def once_it_waits(conn: Connection, report: IngestReport) -> None:
        waiting.append(asyncio.create_task(alone()))
        held_up = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        async with asyncio.timeout(10):
            while await (await conn.execute(held_up)).fetchone() == (0,):
                await conn.execute("SELECT pg_sleep(0.01)")

    changes = Changes(upserts=(document("a", "gates", principals=["board"]),))
    await apply(store, [embedder], changes, tenant="acme", source="api", on_publish=once_it_waits)
    assert await waiting[0] == {"a"}


async def test_alone_there_is_time_to_cut_and_to_embed(store: KnowledgeStore) -> None:
    """Else the server would end the transaction of just those whose work takes long."""
    publisher = Publisher(store, "acme")
    async with publisher.alone(), publisher.entered() as conn:
        allowed = "SELECT current_setting('idle_in_transaction_session_timeout')::interval"
        row = await (await conn.execute(allowed)).fetchone()
    assert row is not None
    assert row[0] >= timedelta(minutes=5)


async def test_unchanged_documents_make_no_snapshot(store: KnowledgeStore, embedder: WordEmbedder) -> None:
    changes = Changes(upserts=(document("a", "gates"),))
    await apply(store, [embedder], changes, tenant="acme", source="api")
    embedder.texts.clear()
    report = await apply(store, [embedder], changes, tenant="acme", source="api")
    assert (report.snapshot, report.unchanged, report.chunks, embedder.texts) == (1, 1, 0, [])


async def test_documents_of_other_sources_are_left_alone_and_listed(
    store: KnowledgeStore, embedder: WordEmbedder, retriever: Retriever, publish: Publish
) -> None:
    await publish({"a": "alpha", "b": "beta"}, source="folder")
    changes = Changes(upserts=(document("a", "mine"), document("c", "gamma")), deletes=("b",))
    report = await apply(store, [embedder], changes, tenant="acme", source="api")
    assert [(type(each), each.field) for each in report.failures] == [(DocumentConflictError, "id")] * 2
    assert (report.added, report.removed) == (1, 0)
    assert await live(retriever, store, "alpha beta gamma") == {"a", "b", "c"}


@pytest.mark.parametrize(
    "changes",
    [
        Changes(upserts=(document("a", "one"), document("a", "two"))),
        Changes(upserts=(document("a", "one"),), deletes=("a",)),
        Changes(deletes=("a", "a")),
    ],
)
async def test_an_id_named_twice_writes_nothing(
    store: KnowledgeStore, embedder: WordEmbedder, changes: Changes
) -> None:
    with pytest.raises(DuplicateDocumentError, match="'a' is named twice"):
        await apply(store, [embedder], changes, tenant="acme", source="api")
    assert await store.snapshot("acme") == 0


class ChoosyEmbedder(WordEmbedder):
    """Refuses a request with a long text in it, as services with a limit do."""

    async def embed_documents(self, texts: Sequence[str]) -> Vector:
        if any("endless" in text for text in texts):
            raise EmbeddingRefusedError("HTTP 413: too many tokens")
        return await super().embed_documents(texts)


async def test_text_that_the_embedder_refuses_is_left_out_and_what_was_live_stays(
    store: KnowledgeStore, retriever: Retriever
) -> None:
    choosy = ChoosyEmbedder()
    await apply(store, [choosy], Changes(upserts=(document("a", "gates"),)), tenant="acme", source="api")
    changes = Changes(upserts=(document("a", "endless gates"), document("b", "gates"), document("c", "gate")))
    report = await apply(store, [choosy], changes, tenant="acme", source="api")
    assert [str(failure) for failure in report.failures] == [
        "a: text: the embedder refuses it: HTTP 413: too many tokens; shorten or split it"
    ]
    assert (report.added, report.changed, report.snapshot) == (2, 0, 2)
    assert await live(retriever, store, "gates gate") == {"a", "b", "c"}


async def test_what_runs_within_the_publish_sees_its_snapshot_and_can_stop_it(
    store: KnowledgeStore, embedder: WordEmbedder
) -> None:
    seen: list[int] = []

    async def refuse(conn: Connection, report: IngestReport) -> None:
        seen.append(report.snapshot)
        raise ConnectionResetError

    changes = Changes(upserts=(document("a", "gates"),))
    with pytest.raises(ConnectionResetError):
        await apply(store, [embedder], changes, tenant="acme", source="api", on_publish=refuse)
    assert seen == [1]
    assert await store.snapshot("acme") == 0


async def test_a_publish_that_comes_between_is_compared_with_again(
    store: KnowledgeStore, embedder: WordEmbedder, retriever: Retriever
) -> None:
    class Overtaken(WordEmbedder):
        """Somebody else publishes while this one embeds."""

        async def embed_documents(self, texts: Sequence[str]) -> Vector:
            if not self.texts:
                other = Changes(upserts=(document("other", "gates"),))
                await apply(store, [embedder], other, tenant="acme", source="elsewhere")
            return await super().embed_documents(texts)

    slow = Overtaken()
    changes = Changes(upserts=(document("mine", "blue gates"),))
    report = await apply(store, [slow], changes, tenant="acme", source="api")
    assert (report.snapshot, report.embedded, len(slow.texts)) == (2, 1, 1)
    assert await live(retriever, store, "gates") == {"mine", "other"}


async def test_stopping_between_batches_publishes_nothing(
    store: KnowledgeStore, embedder: WordEmbedder
) -> None:
    def stop(progress: IngestProgress) -> None:
        if progress.stage == "embed":
            raise KeyboardInterrupt

    changes = Changes(upserts=(document("a", "gates"),))
    with pytest.raises(KeyboardInterrupt):
        await apply(store, [embedder], changes, tenant="acme", source="api", on_progress=stop)
    assert await store.snapshot("acme") == 0
    embedder.texts.clear()
    report = await apply(store, [embedder], changes, tenant="acme", source="api")
    assert (report.snapshot, embedder.texts) == (1, [])
