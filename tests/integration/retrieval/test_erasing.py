"""Purge: what is erased is nowhere, stays away, and is told to whoever cited it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from psycopg import sql
from psycopg.rows import tuple_row

from retrieval.connections import Pool
from retrieval.documents import Access, TextSpan
from retrieval.errors import ErasedDocumentError, PublishConflictError, UnknownDocumentError
from retrieval.hits import SearchRequest
from retrieval.ingest import apply, ingest
from retrieval.ingest_report import Changes
from retrieval.jobs import JobStore, Submission
from retrieval.parsing import ParsedDocument, parse_row
from retrieval.publishing import Publication, Publisher
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore
from retrieval.versions import KnowledgeVersion
from tests.fakes.embedding import WordEmbedder
from tests.integration.retrieval.conftest import Publish

PUBLIC = Access(tenant="acme", principals=("public",))
#: In no other word of any test or table.
SECRET = "zyxwvut"


async def found(
    retriever: Retriever, store: KnowledgeStore, question: str, as_of: int | None = None
) -> dict[str, str]:
    version = (await store.pointer()).stable
    request = SearchRequest(question=question, access=PUBLIC, version=version, k=20, as_of=as_of)
    return {hit.document_id: hit.text for hit in (await retriever.search(request)).hits}


async def everything(pool: Pool) -> list[str]:
    """Every row of every table of the rail as text, seen with all eyes of the tenant."""
    rows: list[str] = []
    async with pool.connection() as conn, conn.transaction():
        await conn.execute("SELECT set_config('retrieval.tenant', 'acme', true)")
        await conn.execute(
            "SELECT set_config('retrieval.principals',"
            " (SELECT coalesce(array_agg(id), '{}')::text FROM retrieval.principal), true)"
        )
        cursor = conn.cursor(row_factory=tuple_row)
        tables = await (
            await cursor.execute(
                "SELECT table_name FROM information_schema.tables"
                " WHERE table_schema = 'retrieval' AND table_type = 'BASE TABLE'"
            )
        ).fetchall()
        for (table,) in tables:
            select = sql.SQL("SELECT t::text FROM retrieval.{} t").format(sql.Identifier(table))
            rows += [f"{table}: {row[0]}" for row in await (await conn.execute(select)).fetchall()]
    return rows


async def test_nothing_of_an_erased_document_is_left_in_any_table(
    store: KnowledgeStore, retriever: Retriever, publish: Publish, embedder: WordEmbedder, pool: Pool
) -> None:
    await publish(
        {
            "case-" + SECRET: {
                "text": f"{SECRET} red",
                "title": f"About {SECRET}",
                "url": f"https://help.invalid/{SECRET}",
                "note": SECRET,
                "visibility": "internal",
            },
            "other": "red green",
        }
    )
    other = KnowledgeVersion.make(name="other", embedder=embedder.id, dims=embedder.dims, chunker="whole-1")
    await store.register(other)
    await publish({"case-" + SECRET: f"{SECRET} blue", "other": "red green"})
    await publish({"case-" + SECRET: f"{SECRET} blue", "other": "red green"})
    assert any(SECRET in row for row in await everything(pool))

    planned = await store.purge("acme", "case-" + SECRET, by="operator", dry_run=True)
    assert any(SECRET in row for row in await everything(pool))
    erasure = await store.purge("acme", "case-" + SECRET, by="operator")
    assert (erasure.texts, erasure.chunks) == (planned.texts, planned.chunks)
    assert erasure.texts == 2
    assert erasure.chunks >= 3
    assert erasure.vectors >= 2

    assert [row for row in await everything(pool) if SECRET in row] == []
    assert set(await found(retriever, store, "red green")) == {"other"}


@pytest.mark.parametrize("published", [False, True])
async def test_what_was_only_sent_is_erased_and_stays_away(
    store: KnowledgeStore, publish: Publish, embedder: WordEmbedder, pool: Pool, published: bool
) -> None:
    if published:
        await publish({"other": "red"})
    jobs = JobStore(store)
    document = Submission(id="case-" + SECRET, content={"title": "x", "text": SECRET})
    for _ in range(2):
        job = await jobs.submit_documents("acme", [document], source="api")
        await jobs.move("acme", job.id, "pause")
        erasure = await store.purge("acme", document.id, by="operator")
        assert (erasure.texts, erasure.chunks, bool(erasure.tombstone)) == (1, 0, True)
        assert [row for row in await everything(pool) if SECRET in row] == []
    assert (await store.purge("acme", document.id, by="operator")).texts == 0
    with pytest.raises(UnknownDocumentError):
        await store.purge("globex", document.id, by="operator")
    assert "globex" not in await store.tenants()
    row = parse_row("c:1", {"id": document.id, "text": SECRET})
    report = await apply(store, [embedder], Changes(upserts=(row,)), tenant="acme", source="api")
    assert [type(failure) for failure in report.failures] == [ErasedDocumentError]


async def test_words_are_counted_as_if_it_had_never_been(
    store: KnowledgeStore, publish: Publish, pool: Pool
) -> None:
    async def counts() -> list[str]:
        rows = await everything(pool)
        return sorted(row for row in rows if row.startswith(("term_stats", "chunk_stats")))

    await publish({"other": "red green"})
    before = await counts()
    await publish({"other": "red green", "a": "red purple"})
    await store.purge("acme", "a", by="operator")
    assert await counts() == before


async def test_a_vector_that_another_document_shares_stays(
    store: KnowledgeStore, publish: Publish, embedder: WordEmbedder
) -> None:
    row = {"title": "same", "text": "red green"}
    await publish({"a": row, "b": row})
    assert (await store.purge("acme", "a", by="operator")).vectors == 0
    embedder.texts.clear()
    await publish({"b": row, "c": row})
    assert embedder.texts == []


async def test_neither_as_of_nor_undo_nor_redo_brings_it_back(
    store: KnowledgeStore, retriever: Retriever, publish: Publish
) -> None:
    await publish({"a": "red", "b": "green"})
    await publish({"a": "blue", "b": "green"})
    await publish({"b": "green"})
    await store.purge("acme", "a", by="operator")
    for snapshot in (1, 2, 3):
        assert await found(retriever, store, "red green blue", snapshot) == {"b": "green"}
    await store.undo("acme", "publish")
    assert await found(retriever, store, "red green blue") == {"b": "green"}
    await publish({"b": "green", "c": "yellow"})
    assert await found(retriever, store, "red green blue yellow") == {"b": "green", "c": "yellow"}


async def test_a_source_that_still_holds_it_is_told_and_the_rest_goes_on(
    store: KnowledgeStore, retriever: Retriever, publish: Publish
) -> None:
    await publish({"a": "red", "b": "green"})
    await store.purge("acme", "a", by="operator")
    report = await publish({"a": "red", "b": "green", "c": "blue"})
    (failure,) = report.failures
    assert isinstance(failure, ErasedDocumentError)
    assert failure.field == "id"
    assert "was erased on 2" in failure.problem
    assert "--allow-purged" in failure.fix
    assert (report.added, report.removed) == (1, 0)
    assert set(await found(retriever, store, "red green blue")) == {"b", "c"}
    assert (await publish({"a": "other words", "b": "green", "c": "blue"})).failures != ()


async def test_the_same_text_under_another_name_is_known(store: KnowledgeStore, publish: Publish) -> None:
    await publish({"a": "red", "b": "green"})
    await publish({"a": "blue", "b": "green"})
    await store.purge("acme", "a", by="operator")
    report = await publish({"renamed": "red", "b": "blue", "c": "yellow"})
    assert [failure.field for failure in report.failures] == ["text", "text"]
    assert (report.added, report.changed) == (1, 0)


async def test_let_in_again_on_purpose_it_is_a_new_document(
    store: KnowledgeStore, retriever: Retriever, embedder: WordEmbedder, publish: Publish, tmp_path: Path
) -> None:
    await publish({"a": "red"})
    await publish({"a": "green"})
    await store.purge("acme", "a", by="operator")
    corpus = tmp_path / "again.jsonl"
    corpus.write_text('{"id": "a", "title": "a", "text": "blue"}\n', encoding="utf-8")
    report = await ingest(store, embedder, corpus, tenant="acme", source_name="help", allow_purged=True)
    assert report.failures == ()
    assert await found(retriever, store, "blue") == {"a": "blue"}
    spans = [TextSpan("a", number, 0, 4) for number in (1, 2, 3)]
    old, older, new = await store.resolve(PUBLIC, spans)
    assert (old.text, old.current) == (None, False)
    assert old.erased_at is not None
    assert older.erased_at == old.erased_at
    assert (new.text, new.current, new.erased_at) == ("blue", True, None)
    assert (await publish({"a": "blue"})).failures == ()
    assert (await publish({"a": "blue and more"})).failures == ()


async def test_a_citation_says_that_it_was_erased(store: KnowledgeStore, publish: Publish) -> None:
    await publish({"a": "red"})
    erasure = await store.purge("acme", "a", by="operator")
    gone, never, later = await store.resolve(
        PUBLIC, [TextSpan("a", 1, 0, 3), TextSpan("never", 1, 0, 3), TextSpan("a", 2, 0, 3)]
    )
    assert (gone.text, gone.current, gone.erased_at) == (None, False, erasure.erased_at)
    assert (never.text, never.current, never.erased_at) == (None, None, None)
    assert later.erased_at is None
    assert await store.text_spans(PUBLIC, [TextSpan("a", 1, 0, 3)]) == [None]


async def test_erasing_again_is_no_error_and_erasing_nothing_is(
    store: KnowledgeStore, publish: Publish
) -> None:
    await publish({"a": "red"})
    with pytest.raises(UnknownDocumentError, match="no document 'b'"):
        await store.purge("acme", "b", by="operator")
    with pytest.raises(UnknownDocumentError):
        await store.purge("globex", "a", by="operator")
    first = await store.purge("acme", "a", by="operator")
    again = await store.purge("acme", "a", by="operator")
    assert (again.texts, again.chunks, again.tombstone) == (0, 0, first.tombstone)
    assert again.erased_at == first.erased_at


async def test_a_tombstone_says_nothing_of_the_document(
    store: KnowledgeStore, publish: Publish, pool: Pool
) -> None:
    """Not even to who tries the same id in another tenant."""
    await publish({"a": "red"}, tenant="acme")
    await publish({"a": "red"}, tenant="globex")
    ours = await store.purge("acme", "a", by="operator")
    theirs = await store.purge("globex", "a", by="operator")
    assert ours.tombstone != theirs.tombstone


def parsed(document_id: str, text: str) -> ParsedDocument:
    return parse_row("api", {"id": document_id, "title": document_id, "text": text})


class Pausing(WordEmbedder):
    """Does something once, while it embeds for the first time."""

    def __init__(self, meanwhile: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self._meanwhile: Callable[[], Awaitable[object]] | None = meanwhile

    async def embed_documents(self, texts: list[str]) -> object:  # type: ignore[override]
        vectors = await super().embed_documents(texts)
        if self._meanwhile is not None:
            meanwhile, self._meanwhile = self._meanwhile, None
            await meanwhile()
        return vectors


async def test_an_ingest_that_had_read_it_before_does_not_bring_it_back(
    store: KnowledgeStore, retriever: Retriever, publish: Publish, pool: Pool
) -> None:
    """It embeds the changed text while the purge runs; neither the text nor its vector may stay."""
    await publish({"a": "red", "b": "green"})
    embedder = Pausing(lambda: store.purge("acme", "a", by="operator"))
    changes = Changes(upserts=(parsed("a", f"{SECRET} red"), parsed("b", "green blue")))
    report = await apply(store, [embedder], changes, tenant="acme", source="help")
    assert [failure.field for failure in report.failures] == ["id"]
    assert await found(retriever, store, "red green blue") == {"b": "green blue"}
    rows = await everything(pool)
    assert not [row for row in rows if SECRET in row]
    vectors = [row for row in rows if row.startswith("embedding_cache")]
    chunks = [row for row in rows if row.startswith("chunk:")]
    assert len(vectors) == len(chunks) == 2  # both versions of b


async def test_a_publish_that_was_prepared_before_is_refused(store: KnowledgeStore, publish: Publish) -> None:
    await publish({"a": "red", "b": "green"})
    publisher = Publisher(store, "acme")
    position, targets = await publisher.position(), await publisher.targets()
    await store.purge("acme", "a", by="operator")
    prepared = Publication(source="help", position=position, targets=targets, chunks=(), removed=("b",))
    with pytest.raises(PublishConflictError):
        await publisher.publish(prepared)


async def test_purge_and_publish_of_the_same_document_at_once(
    store: KnowledgeStore, publish: Publish, embedder: WordEmbedder
) -> None:
    await publish({"a": "red", "b": "green"})
    for word in ("one", "two", "three", "four"):
        changes = Changes(upserts=(parsed(f"c-{word}", word), parsed("b", word)))
        await asyncio.gather(
            apply(store, [embedder], changes, tenant="acme", source="help"),
            store.purge("acme", "b", by="operator"),
        )
        (resolved,) = await store.resolve(PUBLIC, [TextSpan("b", 1, 0, 3)])
        assert resolved.erased_at is not None


async def test_only_the_tenant_sees_its_tombstones(
    store: KnowledgeStore, publish: Publish, pool: Pool
) -> None:
    await publish({"a": "red"})
    await store.purge("acme", "a", by="operator")
    async with pool.connection() as conn:
        for tenant, seen in (("acme", 1), ("globex", 0), ("", 0)):
            async with conn.transaction(force_rollback=True):
                await conn.execute("SELECT set_config('retrieval.tenant', %s, true)", [tenant])
                row = await (await conn.execute("SELECT count(*) FROM retrieval.tombstone")).fetchone()
                assert row == (seen,)
