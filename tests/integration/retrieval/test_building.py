"""Building an index version from stored text while publishes, undos, erasures and searches go on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import psycopg
import pytest

from retrieval.building import CACHE_BATCH, BuildProgress, BuildReport, build
from retrieval.chunking import Block, BlockKind, chunker_of, cut
from retrieval.documents import Access
from retrieval.errors import (
    BuildRunningError,
    ChunkerError,
    EmbedderMismatchError,
    NothingToUndoError,
    RequestError,
    UnknownChunkerError,
    UnknownSnapshotError,
    UnknownVersionError,
    VersionNotReadyError,
    VersionRetiredError,
)
from retrieval.hits import SearchRequest
from retrieval.ingest import ingest
from retrieval.publishing import Publisher
from retrieval.search import Retriever
from retrieval.staging import StagedChunk, Unfilled
from retrieval.store import KnowledgeStore
from retrieval.versions import KnowledgeVersion, VersionState
from tests.fakes.embedding import FailingEmbedder, InterruptedEmbedder, LyingEmbedder, WordEmbedder
from tests.integration.retrieval.conftest import write_corpus

PUBLIC = Access(tenant="acme", principals=("public",))
Documents = Mapping[str, str | Mapping[str, object]]


class Rail:
    """A store with one version of one embedder, and another version to build."""

    def __init__(self, store: KnowledgeStore, folder: Path, database_url: str) -> None:
        self.store = store
        self.first = WordEmbedder(name="first")
        self.second = InterruptedEmbedder(name="second", dims=16)
        self.version = KnowledgeVersion.make(name="second", embedder=self.second.id, dims=self.second.dims)
        self.embedders = {each.id: each for each in (self.first, self.second)}
        self._folder = folder
        self._url = database_url

    async def publish(self, documents: Documents, *, tenant: str = "acme", source: str = "help") -> None:
        corpus = write_corpus(self._folder / f"{tenant}-{source}.jsonl", documents)
        await ingest(
            self.store, self.first, corpus, tenant=tenant, source_name=source, other_embedders=[self.second]
        )

    async def build(self, version: KnowledgeVersion | None = None, since: int | None = None) -> BuildReport:
        wanted = version or self.version
        await self.store.register(wanted)
        return await build(self.store, self.embedders, wanted.id, since=since)

    async def texts(self, *, as_of: int | None = None, version: str | None = None) -> dict[str, str]:
        """What anybody sees: id -> text."""
        retriever = Retriever(store=self.store, embedders=self.embedders)
        request = SearchRequest(
            question="red green blue", access=PUBLIC, version=version or self.version.id, k=50, as_of=as_of
        )
        return {hit.document_id: hit.text for hit in (await retriever.search(request)).hits}

    async def rows(
        self, version: str, *, earliest: int = 0, tenant: str = "acme"
    ) -> list[tuple[object, ...]]:
        """Every chunk of a version that a snapshot from `earliest` on shows, and the counts of its words."""
        select = (
            "SELECT 'chunk', document_id, document_version, born, died, ordinal, acl::text, chunk_hash"
            " FROM retrieval.chunk c, retrieval.index_version v"
            " WHERE c.index_number = v.number AND v.id = %(version)s"
            " AND (died IS NULL OR died > %(earliest)s)"
            " UNION ALL SELECT 'term', lexeme, df, 0, 0, 0, '', '' FROM retrieval.term_stats t,"
            " retrieval.index_version v WHERE t.index_number = v.number AND v.id = %(version)s AND df <> 0"
            " UNION ALL SELECT 'chunks', '', chunks, 0, 0, 0, '', '' FROM retrieval.chunk_stats s,"
            " retrieval.index_version v WHERE s.index_number = v.number AND v.id = %(version)s"
        )
        async with await psycopg.AsyncConnection.connect(self._url) as conn:
            await conn.execute("SELECT set_config('retrieval.tenant', %s, true)", [tenant])
            await conn.execute(
                "SELECT set_config('retrieval.principals',"
                " (SELECT coalesce(array_agg(id), '{}')::text FROM retrieval.principal), true)"
            )
            rows = await (await conn.execute(select, {"version": version, "earliest": earliest})).fetchall()
        return sorted(rows, key=repr)


@pytest.fixture
def rail(store: KnowledgeStore, tmp_path: Path, database_url: str) -> Rail:
    return Rail(store, tmp_path, database_url)


async def stable(rail: Rail) -> str:
    return (await rail.store.pointer()).stable


async def test_a_version_is_built_from_stored_text_for_every_tenant(rail: Rail) -> None:
    await rail.publish({"a": "red", "b": {"text": "green", "visibility": "internal"}})
    await rail.publish({"x": "blue"}, tenant="other")
    report = await rail.build()
    assert (report.releases, report.chunks, report.embedded, report.stopped) == (3, 3, 3, False)
    for tenant in ("acme", "other"):
        assert await rail.rows(rail.version.id, tenant=tenant) == await rail.rows(
            await stable(rail), tenant=tenant
        )
    assert await rail.texts() == {"a": "red"}
    assert (await rail.store.promote(rail.version.id)).stable == rail.version.id
    again = await rail.build()
    assert (again.releases, again.embedded) == (0, 0)


async def test_versions_of_one_embedder_share_its_vectors(rail: Rail) -> None:
    await rail.publish({"a": "red", "b": "green"})
    base = await rail.store.version(await stable(rail))
    heavier = base.derived(name="heavier", dense_weight=0.9)
    rail.first.texts.clear()
    assert (await rail.build(heavier)).embedded == 0
    assert rail.first.texts == []


async def test_searches_find_by_the_indexes_that_the_build_made(rail: Rail, database_url: str) -> None:
    await rail.publish({"a": "red"})
    await rail.build()
    assert valid_indexes(database_url, rail.version.id) == (3, True)


def valid_indexes(database_url: str, version: str) -> tuple[int, bool] | None:
    """How many of the indexes that searches need are there, and whether all of them can be used."""
    with psycopg.connect(database_url) as conn:
        return conn.execute(
            "SELECT count(*), bool_and(x.indisvalid) FROM retrieval.index_version v,"
            " retrieval.partition_indexes(v.number) AS i JOIN pg_class c ON c.relname = i.name"
            " JOIN pg_index x ON x.indexrelid = c.oid WHERE v.id = %s",
            [version],
        ).fetchone()


async def test_an_index_that_was_broken_off_is_made_anew(rail: Rail, database_url: str) -> None:
    await rail.publish({"a": "red"})
    await rail.store.register(rail.version)
    await rail.publish({"a": "red", "b": "green", "c": "blue"})
    with psycopg.connect(database_url, autocommit=True) as conn:
        row = conn.execute(
            "SELECT number FROM retrieval.index_version WHERE id = %s", [rail.version.id]
        ).fetchone()
        assert row is not None
        # Fails, and leaves an index of that name that is not valid, as one that is killed does.
        with pytest.raises(psycopg.errors.UniqueViolation):
            conn.execute(
                f"CREATE UNIQUE INDEX CONCURRENTLY chunk_{row[0]}_tsv ON retrieval.chunk_{row[0]} (tenant)"
            )
    await rail.build()
    assert valid_indexes(database_url, rail.version.id) == (3, True)


Meanwhile = Callable[[Rail], Awaitable[object]]


async def _restore(rail: Rail) -> None:
    """An undone publish, and one more that builds on what the undo brought back."""
    await rail.store.undo("acme", "publish")
    await rail.publish({"z": "yellow"}, source="more")


async def _undo_twice(rail: Rail) -> None:
    for _ in "undo", "redo":
        await rail.store.undo("acme", "publish")


async def _purge(rail: Rail) -> None:
    await rail.store.purge("acme", "b", by="test")


MEANWHILE: dict[str, Meanwhile] = {
    "a document changes": lambda rail: rail.publish({"a": "red", "b": "green again", "c": "blue"}),
    "a document goes": lambda rail: rail.publish({"a": "red", "c": "blue"}),
    "a document comes": lambda rail: rail.publish({"a": "red", "b": "green", "c": "blue", "d": "yellow"}),
    "readers change": lambda rail: rail.publish(
        {"a": "red", "b": {"text": "green", "visibility": "internal"}, "c": "blue"}
    ),
    "undo": lambda rail: rail.store.undo("acme", "publish"),
    "undo and redo": _undo_twice,
    "restore": _restore,
    "erasure": _purge,
}


@pytest.mark.parametrize("kind", MEANWHILE)
async def test_what_happens_between_reading_and_writing_is_neither_lost_nor_doubled(
    rail: Rail, kind: str
) -> None:
    await rail.publish({"a": "rose", "b": "green"})
    await rail.publish({"a": "red", "b": "green", "c": "blue"})
    await rail.store.register(rail.version)
    rail.second.meanwhile = [lambda: MEANWHILE[kind](rail)]
    report = await rail.build()
    assert rail.second.meanwhile == []
    assert report.earliest == {"acme": 1}
    first = await stable(rail)
    assert await rail.rows(rail.version.id, earliest=1) == await rail.rows(first, earliest=1)
    for _ in "undo", "redo":
        assert await rail.texts() == await rail.texts(version=first)
        await rail.store.undo("acme", "publish")


async def test_a_build_among_many_writers_is_whole(rail: Rail) -> None:
    """Two tenants publish, undo and change readers at random while the version is built."""
    dice = random.Random(7)
    words = ("red", "green", "blue", "yellow")
    names = [f"d{number:02}" for number in range(90)]

    def documents() -> Documents:
        return {
            name: {
                "text": f"{dice.choice(words)} {name}",
                "visibility": dice.choice(("public", "internal")),
            }
            for name in dice.sample(names, 70)
        }

    for tenant in ("acme", "other"):
        for _ in range(2):
            await rail.publish(documents(), tenant=tenant)
    await rail.store.register(rail.version)
    building = asyncio.create_task(build(rail.store, rail.embedders, rail.version.id))

    async def write(tenant: str) -> None:
        for _ in range(6):
            if dice.random() < 0.4:
                await rail.store.undo(tenant, "publish")
            else:
                await rail.publish(documents(), tenant=tenant)

    await asyncio.gather(write("acme"), write("other"), building)
    first, report = await stable(rail), building.result()
    for tenant in ("acme", "other"):
        earliest = report.earliest[tenant]
        assert await rail.rows(rail.version.id, earliest=earliest, tenant=tenant) == await rail.rows(
            first, earliest=earliest, tenant=tenant
        )
    assert (await rail.store.promote(rail.version.id)).stable == rail.version.id


async def test_a_broken_build_goes_on_where_it_was(rail: Rail) -> None:
    documents = {f"d{number:03}": f"red {number}" for number in range(3 * CACHE_BATCH)}
    await rail.publish(documents)
    await rail.store.register(rail.version)
    failing = FailingEmbedder(after=CACHE_BATCH, name="second", dims=16)
    with pytest.raises(ConnectionResetError):
        await build(rail.store, {failing.id: failing}, rail.version.id)
    (facts,) = [each for each in await rail.store.facts() if each.version.id == rail.version.id]
    assert facts.version.state is VersionState.BUILDING
    assert (facts.tenants["acme"].filled, facts.tenants["acme"].wanted) == (0, 3 * CACHE_BATCH)
    with pytest.raises(VersionNotReadyError, match=r"is not built to its end; 1 tenant\(s\) .* go on with"):
        await rail.store.promote(rail.version.id)

    stops: list[BuildProgress] = []
    stopped = await build(
        rail.store,
        rail.embedders,
        rail.version.id,
        on_progress=stops.append,
        should_stop=lambda: bool(stops[-1].done),
    )
    assert stopped.stopped
    assert 0 < stopped.releases < 3 * CACHE_BATCH
    (facts,) = [each for each in await rail.store.facts() if each.version.id == rail.version.id]
    assert facts.progress == stopped.releases / (3 * CACHE_BATCH)
    rest = await rail.build()
    assert stopped.releases + rest.releases == 3 * CACHE_BATCH
    embedded = [*failing.texts, *rail.second.texts]
    assert len(embedded) == len(set(embedded)) == 3 * CACHE_BATCH
    assert await rail.rows(rail.version.id) == await rail.rows(await stable(rail))


async def test_a_version_says_from_which_snapshot_on_it_is_whole(rail: Rail) -> None:
    for text in ("red", "green", "blue"):
        await rail.publish({"a": text})
    report = await rail.build()
    assert report.earliest == {"acme": 2}
    assert await rail.texts(as_of=2) == {"a": "green"}
    with pytest.raises(UnknownSnapshotError, match=r"from snapshot 2 on, and snapshot 1 is earlier"):
        await rail.texts(as_of=1)
    (facts,) = [each for each in await rail.store.facts() if each.version.id == rail.version.id]
    assert facts.tenants["acme"].earliest == 2
    # Later, and while it serves, the same version can get more of the past.
    await rail.store.promote(rail.version.id)
    assert (await rail.build(since=1)).earliest == {"acme": 1}
    assert await rail.texts(as_of=1) == {"a": "red"}
    assert (await rail.build(since=9)).earliest == {"acme": 1}


async def test_a_build_that_adds_nothing_forgets_no_history(rail: Rail) -> None:
    """No build had said from where the first version is whole, nor that of a tenant who began after it."""
    for text in ("red", "green", "blue"):
        await rail.publish({"a": text})
    await rail.store.register(rail.version)
    for text in ("red", "green", "blue"):
        await rail.publish({"a": text}, tenant="late")
    first = await rail.store.version(await stable(rail))
    for since in (None, 2):
        report = await rail.build(first, since)
        assert (report.releases, report.earliest) == (0, {"acme": 0, "late": 0})
    assert await rail.texts(as_of=1, version=first.id) == {"a": "red"}
    assert (await rail.build()).earliest == {"acme": 2, "late": 0}


async def test_readers_that_come_while_a_batch_waits_its_turn_see_it(
    rail: Rail, tmp_path: Path, database_url: str
) -> None:
    """The publish that brings them holds the lock, so the batch has begun when they are still unknown."""
    await rail.publish({"a": "red", "b": "green"})
    version = (await rail.store.version(await stable(rail))).derived(name="heavier", dense_weight=0.9)
    await rail.store.register(version)
    publisher = Publisher(rail.store, "acme")
    (target,) = [each for each in await publisher.targets() if each.version == version]
    chunks = []
    for key, text in {"a": "red", "b": "green"}.items():
        blocks = (Block(BlockKind.PARAGRAPH, 0, 0, len(text)),)
        release = Unfilled(document_id=key, document_version=1, born=1, title=key, body=text, blocks=blocks)
        (chunk,) = cut(chunker_of(version.chunker, {}), key, text, blocks)
        chunks.append(StagedChunk(target=target, document_id=key, chunk=chunk, release=release))
    batches: list[asyncio.Task[bool]] = []

    async def while_publishing(*_: object) -> None:
        batches.append(asyncio.create_task(publisher.fill(target, chunks)))
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as conn:
            # PostgreSQL tells nobody when somebody waits.
            while (await (await conn.execute(waiting)).fetchone()) == (0,):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    corpus = write_corpus(tmp_path / "new.jsonl", {"a": {"text": "red", "principals": ["new"]}, "b": "green"})
    await ingest(
        rail.store, rail.first, corpus, tenant="acme", source_name="help", on_publish=while_publishing
    )
    assert await batches[0]
    assert await rail.rows(version.id) == await rail.rows(await stable(rail))


async def test_one_build_of_a_version_at_a_time(rail: Rail) -> None:
    await rail.publish({"a": "red"})
    await rail.store.register(rail.version)

    async def another() -> None:
        with pytest.raises(BuildRunningError, match="is being built by another process"):
            await build(rail.store, rail.embedders, rail.version.id)

    rail.second.meanwhile = [another]
    await rail.build()
    assert rail.second.meanwhile == []


async def test_a_version_that_is_retired_meanwhile_ends_its_build(rail: Rail) -> None:
    await rail.publish({"a": "red"})
    await rail.store.register(rail.version)
    rail.second.meanwhile = [lambda: rail.store.retire(rail.version.id)]
    with pytest.raises(VersionRetiredError, match="was retired while it was being built"):
        await rail.build()
    with pytest.raises(VersionRetiredError, match="`twinrail knowledge build"):
        await rail.texts()
    assert (await rail.build()).chunks == 1
    assert await rail.texts() == {"a": "red"}


async def test_what_a_build_cannot_have_is_refused_before_it_writes(rail: Rail) -> None:
    await rail.publish({"a": "red"})
    second = rail.second
    lying = LyingEmbedder(name="lying", dims=16)
    parts = {"embedder": second.id, "dims": second.dims}
    cases = (
        (
            {"embedder": "gone-1", "dims": 16},
            EmbedderMismatchError,
            "embedder: .* needs gone-1; at hand: fake-",
        ),
        (
            {**parts, "dims": 8},
            EmbedderMismatchError,
            "dims: .* has 8, and fake-second-16 makes vectors of 16",
        ),
        ({**parts, "chunker": "magic"}, UnknownChunkerError, "chunker: 'magic' is not known"),
        ({**parts, "lexer": "latin-1"}, UnknownVersionError, "lexer: .* needs latin-1"),
        (
            {"embedder": lying.id, "dims": 16},
            EmbedderMismatchError,
            r"dims: .* gave vectors of shape \(1, 15\)",
        ),
    )
    for given, error, said in cases:
        version = KnowledgeVersion.make(name="bad", **given)  # type: ignore[arg-type]
        await rail.store.register(version)
        with pytest.raises(error, match=said):
            await build(rail.store, {**rail.embedders, lying.id: lying}, version.id)
        assert await rail.rows(version.id) == []
        await rail.store.retire(version.id)
    with pytest.raises(UnknownVersionError, match="no index version k-no-00000000"):
        await build(rail.store, rail.embedders, "k-no-00000000")
    with pytest.raises(RequestError, match="since: -1"):
        await rail.build(since=-1)


class Rewriting:
    """A chunker that lowers the case."""

    id = "rewriting-1"

    def chunk(self, title: str, text: str, blocks: object) -> object:
        (chunk,) = chunker_of("whole-1", {}).chunk(title, text.lower(), ())
        return [chunk]


async def test_a_callers_chunker_is_part_of_a_version(rail: Rail) -> None:
    await rail.publish({"a": "red\n\ngreen", "b": "Blue"})
    whole = KnowledgeVersion.make(
        name="whole", embedder=rail.second.id, dims=rail.second.dims, chunker="whole-1"
    )
    await rail.build(whole)
    assert await rail.texts(version=whole.id) == {"a": "red\n\ngreen", "b": "Blue"}
    bad = KnowledgeVersion.make(
        name="bad", embedder=rail.second.id, dims=rail.second.dims, chunker=Rewriting.id
    )
    await rail.store.register(bad)
    with pytest.raises(ChunkerError, match="rewriting-1 gave 'blue'"):
        await build(rail.store, rail.embedders, bad.id, chunkers={Rewriting.id: Rewriting()})  # type: ignore[dict-item]


async def test_nothing_to_undo_leaves_everything_as_it_is(rail: Rail) -> None:
    await rail.publish({"a": "red"})
    await rail.build()
    before = await rail.store.pointer()
    with pytest.raises(NothingToUndoError, match="has not moved"):
        await rail.store.undo("acme", "version")
    assert await rail.store.pointer() == before
