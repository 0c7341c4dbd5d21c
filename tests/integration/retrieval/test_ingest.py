"""What an ingest changes, and what it leaves alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from retrieval.connections import Connection, Pool
from retrieval.documents import Access
from retrieval.errors import DuplicateDocumentError, EmbedderMismatchError, EmptySourceError
from retrieval.hits import SearchRequest
from retrieval.ingest import CACHE_BATCH, apply, ingest
from retrieval.ingest_report import Changes, IngestProgress, IngestReport
from retrieval.parsing import parse_row
from retrieval.publishing import MANY_CHUNKS
from retrieval.search import Retriever
from retrieval.starting import first_version
from retrieval.store import KnowledgeStore
from retrieval.versions import VersionState
from tests.fakes.embedding import FailingEmbedder, WordEmbedder
from tests.integration.retrieval.conftest import Publish, write_corpus

PUBLIC = Access(tenant="acme", principals=("public",))


async def found(retriever: Retriever, store: KnowledgeStore, question: str, **changes: object) -> list[str]:
    version = (await store.pointer()).stable
    request = SearchRequest(question=question, access=PUBLIC, version=version, **changes)  # type: ignore[arg-type]
    return [hit.document_id for hit in (await retriever.search(request)).hits]


async def test_first_ingest_makes_a_stable_version_and_snapshot_one(
    store: KnowledgeStore, publish: Publish
) -> None:
    report = await publish({"a": "Refunds take ten days.", "b": "Sync keeps folders alike."})
    assert (report.added, report.snapshot) == (2, 1)
    assert (await store.pointer()).stable == report.versions[0]
    assert [version.state for version in await store.versions()] == ["ready"]


def newest_row_version(database_url: str) -> int:
    """The highest transaction id that wrote a row that is still there."""
    tables = ("chunk", "document", "document_version", "document_release", "snapshot_head", "term_stats")
    tables += ("embedding_cache", "pointer", "principal", "filter_field")
    newest = 0
    with psycopg.connect(database_url) as conn:
        conn.execute("SELECT set_config('retrieval.tenant', 'acme', false)")
        conn.execute("SELECT set_config('retrieval.principals', '{1}', false)")
        for table in tables:
            row = conn.execute(f"SELECT max(xmin::text::bigint), count(*) FROM retrieval.{table}").fetchone()  # type: ignore[arg-type]
            assert row is not None
            assert row[1] > 0, table
            newest = max(newest, row[0])
    return newest


async def test_unchanged_source_embeds_and_writes_nothing(
    publish: Publish, embedder: WordEmbedder, database_url: str
) -> None:
    await publish({"a": "one text", "b": "another text"})
    embedder.texts.clear()
    before = newest_row_version(database_url)
    report = await publish({"a": "one text", "b": "another text"})
    assert embedder.texts == []
    assert (report.unchanged, report.chunks, report.snapshot) == (2, 0, 1)
    assert newest_row_version(database_url) == before


async def test_changed_and_removed_documents(
    store: KnowledgeStore, retriever: Retriever, publish: Publish
) -> None:
    await publish({"a": "the price is eight", "b": "the gate is green"})
    report = await publish({"a": "the price is nine", "c": "a new page about gates"})
    assert (report.added, report.changed, report.removed, report.snapshot) == (1, 1, 1, 2)
    assert set(await found(retriever, store, "price gate")) == {"a", "c"}
    assert set(await found(retriever, store, "price gate", as_of=1)) == {"a", "b"}


async def test_sources_do_not_disturb_each_other(
    store: KnowledgeStore, retriever: Retriever, publish: Publish
) -> None:
    await publish({"a": "alpha"}, source="one")
    await publish({"b": "beta"}, source="two")
    assert set(await found(retriever, store, "alpha beta")) == {"a", "b"}


async def test_id_of_another_source_is_left_out_and_the_rest_goes_in(
    store: KnowledgeStore, retriever: Retriever, publish: Publish
) -> None:
    await publish({"a": "alpha"}, source="one")
    report = await publish({"a": "stolen", "b": "beta"}, source="two")
    remedy = "rename it, or ingest under that source's name"
    assert [str(failure) for failure in report.failures] == [
        f"corpus.jsonl:1: id: 'a' belongs to source 'one' already; {remedy}"
    ]
    assert (report.documents, report.added) == (1, 1)
    assert set(await found(retriever, store, "alpha beta stolen")) == {"a", "b"}


async def test_killed_run_goes_on_where_it_was(store: KnowledgeStore, tmp_path: Path) -> None:
    for number in range(3 * CACHE_BATCH):
        (tmp_path / f"{number}.txt").write_text(f"text number {number}")
    failing = FailingEmbedder(after=2 * CACHE_BATCH)
    with pytest.raises(ConnectionResetError):
        await ingest(store, failing, tmp_path, tenant="acme")
    assert await store.snapshot("acme") == 0
    embedder = WordEmbedder()
    report = await ingest(store, embedder, tmp_path, tenant="acme")
    assert len(embedder.texts) == report.embedded == CACHE_BATCH
    assert report.snapshot == 1


async def test_dry_run_counts_and_writes_nothing(
    store: KnowledgeStore, embedder: WordEmbedder, tmp_path: Path
) -> None:
    (tmp_path / "a.md").write_text("# A\n\ntext")
    report = await ingest(store, embedder, tmp_path, tenant="acme", dry_run=True)
    assert (report.added, report.embedded, report.snapshot, report.dry_run) == (1, 1, 0, True)
    assert embedder.texts == []
    assert await store.versions() == []


async def test_bad_files_are_listed_and_the_rest_goes_in(
    store: KnowledgeStore, retriever: Retriever, embedder: WordEmbedder, tmp_path: Path
) -> None:
    (tmp_path / "good.md").write_text("# Good\n\nreadable words")
    (tmp_path / "binary.md").write_bytes(b"\x00\x01\x02")
    (tmp_path / "date.md").write_text("---\neffective_from: soon\n---\ntext")
    (tmp_path / "picture.png").write_bytes(b"png")
    report = await ingest(store, embedder, tmp_path, tenant="acme")
    assert [str(failure).split(":")[:2] for failure in report.failures] == [
        ["binary.md", " content"],
        ["date.md", " effective_from"],
    ]
    assert report.skipped == ("picture.png",)
    assert await found(retriever, store, "readable") == ["good"]


async def test_document_stays_while_its_file_is_broken(
    store: KnowledgeStore, retriever: Retriever, embedder: WordEmbedder, tmp_path: Path
) -> None:
    (tmp_path / "page.md").write_text("---\nid: known\n---\nold words")
    (tmp_path / "gone.md").write_text("passing words")
    await ingest(store, embedder, tmp_path, tenant="acme")
    (tmp_path / "page.md").write_bytes(b"\x00")
    (tmp_path / "gone.md").unlink()
    report = await ingest(store, embedder, tmp_path, tenant="acme")
    assert report.removed == 1
    assert await found(retriever, store, "words") == ["known"]


async def test_renamed_file_costs_nothing_and_its_document_stays_while_that_file_is_broken(
    store: KnowledgeStore, retriever: Retriever, embedder: WordEmbedder, tmp_path: Path
) -> None:
    (tmp_path / "old.md").write_text("---\nid: known\ntitle: Known\n---\nold words")
    (tmp_path / "other.md").write_text("other words")
    await ingest(store, embedder, tmp_path, tenant="acme")
    embedder.texts.clear()
    (tmp_path / "old.md").rename(tmp_path / "new.md")
    report = await ingest(store, embedder, tmp_path, tenant="acme")
    assert (report.renamed, report.unchanged, report.removed, report.snapshot) == (1, 2, 0, 1)
    assert embedder.texts == []
    (tmp_path / "new.md").write_bytes(b"\x00")
    report = await ingest(store, embedder, tmp_path, tenant="acme")
    assert (report.removed, report.renamed) == (0, 0)
    assert set(await found(retriever, store, "words")) == {"known", "other"}


async def test_duplicate_ids_write_nothing(
    store: KnowledgeStore, embedder: WordEmbedder, tmp_path: Path
) -> None:
    (tmp_path / "one.md").write_text("---\nid: same\n---\none")
    (tmp_path / "two.md").write_text("---\nid: same\n---\ntwo")
    with pytest.raises(DuplicateDocumentError, match=r"one\.md and two\.md"):
        await ingest(store, embedder, tmp_path, tenant="acme")
    assert await store.versions() == []


async def test_empty_folder_is_refused(store: KnowledgeStore, embedder: WordEmbedder, tmp_path: Path) -> None:
    with pytest.raises(EmptySourceError):
        await ingest(store, embedder, tmp_path, tenant="acme")


async def test_progress_reaches_its_total(
    store: KnowledgeStore, embedder: WordEmbedder, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("text")
    seen: list[IngestProgress] = []
    await ingest(store, embedder, tmp_path, tenant="acme", on_progress=seen.append)
    assert list(dict.fromkeys((step.stage, step.done, step.total) for step in seen)) == [
        ("read", 0, 0),
        ("read", 0, 1),
        ("read", 1, 1),
        ("embed", 1, 1),
        ("publish", 0, 1),
        ("publish", 1, 1),
    ]


async def test_another_embedder_is_refused_by_name(
    store: KnowledgeStore, publish: Publish, tmp_path: Path
) -> None:
    await publish({"a": "alpha"})
    with pytest.raises(EmbedderMismatchError, match="fake-words-32"):
        await ingest(
            store, WordEmbedder(name="other"), tmp_path / "corpus.jsonl", tenant="acme", source_name="help"
        )


async def test_access_change_takes_effect_without_a_snapshot(
    store: KnowledgeStore, retriever: Retriever, publish: Publish
) -> None:
    await publish({"a": "secret offer"})
    report = await publish({"a": {"text": "secret offer", "metadata": {"principals": ["staff"]}}})
    assert (report.access_changed, report.changed, report.snapshot) == (1, 0, 1)
    assert await found(retriever, store, "secret offer") == []


async def test_stored_blocks_are_spans_of_the_text(publish: Publish, database_url: str) -> None:
    await publish({"a": "# Head\n\npara\n\n- item\n- item two"})
    with psycopg.connect(database_url) as conn:
        conn.execute(
            "SELECT set_config('retrieval.tenant', 'acme', false),"
            " set_config('retrieval.principals', '{1}', false)"
        )
        row = conn.execute("SELECT body, blocks FROM retrieval.document_version").fetchone()
    assert row is not None
    body, blocks = row
    assert [(kind, body[start:end]) for kind, _, start, end in blocks] == [
        ("heading", "Head"),
        ("paragraph", "para"),
        ("list", "- item\n- item two"),
    ]
    assert json.dumps(blocks)


async def test_first_ingests_of_several_tenants_at_once(
    store: KnowledgeStore, embedder: WordEmbedder, tmp_path: Path
) -> None:
    async def bring_in(tenant: str) -> None:
        corpus = write_corpus(tmp_path / f"{tenant}.jsonl", {f"{tenant}{each}": "red" for each in range(20)})
        await ingest(store, embedder, corpus, tenant=tenant, source_name="help")

    await asyncio.gather(*map(bring_in, ("one", "two", "three")))
    (version,) = await store.versions()
    assert version.state is VersionState.READY
    assert (await store.pointer()).stable == version.id


async def test_a_version_that_was_retired_before_it_was_used_is_not_the_first(
    store: KnowledgeStore, publish: Publish, retriever: Retriever
) -> None:
    """As an ingest leaves one that was killed between making its version and publishing."""
    unused = first_version(WordEmbedder(name="other"))
    await store.register(unused)
    await store.retire(unused.id)
    report = await publish({"a": "red"})
    assert report.versions == ((await store.pointer()).stable,)
    assert await found(retriever, store, "red") == ["a"]


async def test_a_publish_reads_no_chunks_but_those_that_it_changes(
    store: KnowledgeStore, embedder: WordEmbedder, publish: Publish, pool: Pool
) -> None:
    await publish({f"d{number}": f"red {number}" for number in range(400)}, source="api")
    async with pool.connection() as conn:
        await conn.execute("ANALYZE retrieval.chunk, retrieval.document, retrieval.document_release")
    # Counts are of a connection, and these have made the indexes.
    await pool.drain()
    scans: list[int] = []

    async def count(conn: Connection, _report: IngestReport) -> None:
        select = "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'chunk_1'"
        scans.extend(row[0] for row in await (await conn.execute(select)).fetchall())

    async def change(*deletes: str) -> None:
        changed = parse_row("d1", {"id": "d1", "title": "d1", "text": f"green {deletes}"})
        changes = Changes(upserts=(changed,), deletes=deletes)
        await apply(store, [embedder], changes, tenant="acme", source="api", on_publish=count)

    await change("d2")
    await change()
    await store.undo("acme", "publish")
    await change("d3")
    assert scans == [0, 0, 0]


@pytest.fixture
async def indexes_in_the_making(publish: Publish, database_url: str) -> AsyncIterator[None]:
    """What a build holds while it makes the indexes of a partition. Whoever waits for it gives up."""
    await publish({"a": "red"})
    async with await psycopg.AsyncConnection.connect(database_url) as conn:
        await conn.execute("LOCK TABLE retrieval.chunk_1 IN SHARE UPDATE EXCLUSIVE MODE")
        yield


async def test_large_publishes_and_purges_wait_for_no_build(
    publish: Publish, store: KnowledgeStore, indexes_in_the_making: None
) -> None:
    async with asyncio.timeout(60):
        await publish({"a": "red", **{f"n{number}": f"green {number}" for number in range(MANY_CHUNKS)}})
        await store.purge("acme", "a", by="test")
