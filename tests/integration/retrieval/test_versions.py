"""Index versions, the pointer and its undo."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import psycopg
import pytest

from retrieval.building import build
from retrieval.documents import Access
from retrieval.errors import (
    CanaryError,
    NoStableVersionError,
    NothingToUndoError,
    PointerMovedError,
    PublishConflictError,
    UnknownSnapshotError,
    UnknownVersionError,
    VersionInReachError,
    VersionNotReadyError,
    VersionRetiredError,
)
from retrieval.hits import SearchRequest
from retrieval.pointing import QUERIES
from retrieval.publishing import Publication, Publisher
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore
from retrieval.versions import KnowledgeVersion, Pointer, UndoGoal
from tests.fakes.embedding import WordEmbedder
from tests.integration.retrieval.conftest import Publish

PUBLIC = Access(tenant="acme", principals=("public",))


def second(embedder: WordEmbedder) -> KnowledgeVersion:
    return KnowledgeVersion.make(
        name="second", embedder=embedder.id, dims=embedder.dims, chunker="structure-60"
    )


async def prepare(store: KnowledgeStore, embedder: WordEmbedder, *versions: KnowledgeVersion) -> None:
    """Register and build."""
    for version in versions:
        await store.register(version)
        await build(store, {embedder.id: embedder}, version.id)


async def found(retriever: Retriever, tenant: str, version: str) -> list[str]:
    """The texts that anybody finds."""
    access = Access(tenant=tenant, principals=("public",))
    request = SearchRequest(question="red green blue", access=access, version=version)
    return [hit.text for hit in (await retriever.search(request)).hits]


async def test_empty_rail(store: KnowledgeStore) -> None:
    with pytest.raises(NoStableVersionError, match="ingest"):
        await store.pointer()
    with pytest.raises(NothingToUndoError, match="has published nothing"):
        await store.undo("acme")
    with pytest.raises(NoStableVersionError):
        await store.set_canary(None, 0)


async def test_a_new_version_takes_traffic_when_it_is_built(
    store: KnowledgeStore, retriever: Retriever, publish: Publish, embedder: WordEmbedder
) -> None:
    await publish({"a": "red", "b": "green"})
    await publish({"a": "blue", "b": "green"})
    version = second(embedder)
    await store.register(version)
    await store.register(version)
    with pytest.raises(VersionNotReadyError, match="go on with `twinrail knowledge build"):
        await store.promote(version.id)
    unready = SearchRequest(question="red blue", access=PUBLIC, version=version.id)
    with pytest.raises(VersionNotReadyError, match="is not built to its end"):
        await retriever.search(unready)
    embedder.texts.clear()
    await prepare(store, embedder, version)
    assert embedder.texts == []
    await store.promote(version.id)
    with pytest.raises(UnknownSnapshotError, match="the newest is 2"):
        await retriever.search(replace(unready, as_of=2**40))
    for snapshot, expected in ((2, {"a": "blue", "b": "green"}), (1, {"a": "red", "b": "green"})):
        request = SearchRequest(question="red blue", access=PUBLIC, version=version.id, as_of=snapshot)
        hits = (await retriever.search(request)).hits
        assert {hit.document_id: hit.text for hit in hits} == expected


async def test_a_version_takes_no_traffic_before_every_tenant_is_in_it(
    store: KnowledgeStore, retriever: Retriever, publish: Publish, embedder: WordEmbedder
) -> None:
    await publish({"a": {"text": "red", "visibility": "internal"}}, tenant="other")
    await publish({"a": "green"}, tenant="acme")
    version = second(embedder)
    await store.register(version)
    await publish({"a": "yellow"}, tenant="third")
    await publish({"a": "green", "b": "blue"}, tenant="acme")
    for move in (store.promote(version.id), store.set_canary(version.id, 500), store.set_shadow(version.id)):
        with pytest.raises(VersionNotReadyError, match=r"2 tenant\(s\) have content that it lacks"):
            await move
    await prepare(store, embedder, version)
    assert (await store.promote(version.id)).stable == version.id
    for tenant, principal, text in (("other", "staff", "red"), ("acme", "public", "green")):
        access = Access(tenant=tenant, principals=(principal,))
        hits = (await retriever.search(SearchRequest(question=text, access=access, version=version.id))).hits
        assert hits[0].text == text


async def test_a_built_version_holds_what_an_undone_publish_had_shown(
    store: KnowledgeStore, retriever: Retriever, publish: Publish, embedder: WordEmbedder
) -> None:
    """Nobody is asked to ingest again: a redo finds its articles in the new version too."""
    await publish({"a": "red"}, tenant="gone")
    await store.undo("gone", "publish")
    await publish({"a": "green"}, tenant="acme")
    version = second(embedder)
    await prepare(store, embedder, version)
    await store.promote(version.id)
    for expected in (["red"], [], ["red"]):
        await store.undo("gone", "publish")
        assert await found(retriever, "gone", version.id) == expected


async def test_an_undo_finds_the_articles_that_a_publish_removed(
    store: KnowledgeStore, retriever: Retriever, publish: Publish, embedder: WordEmbedder
) -> None:
    await publish({"a": "red"}, tenant="emptied")
    publisher = Publisher(store, "emptied")
    await publisher.publish(
        Publication(
            source="help",
            position=await publisher.position(),
            targets=await publisher.targets(),
            chunks=(),
            removed=("a",),
        )
    )
    version = second(embedder)
    await prepare(store, embedder, version)
    await store.promote(version.id)
    for expected in (["red"], []):
        await store.undo("emptied", "publish")
        assert await found(retriever, "emptied", version.id) == expected


async def test_a_publish_that_does_not_know_a_version_is_refused(
    store: KnowledgeStore, publish: Publish, embedder: WordEmbedder
) -> None:
    """Else the version would become ready without what that publish wrote."""
    await publish({"a": "red"})
    publisher = Publisher(store, "acme")
    position, targets = await publisher.position(), await publisher.targets()
    version = second(embedder)
    await store.register(version)
    with pytest.raises(PublishConflictError, match="an index version came or went meanwhile"):
        await publisher.publish(
            Publication(source="help", position=position, targets=targets, chunks=(), removed=("a",))
        )
    assert await store.snapshot("acme") == 1


async def test_publishes_reach_every_version_that_can_be_undone_to(
    store: KnowledgeStore, retriever: Retriever, publish: Publish, embedder: WordEmbedder
) -> None:
    await publish({"a": "red"})
    first = (await store.pointer()).stable
    version = second(embedder)
    await prepare(store, embedder, version)
    await publish({"a": "red", "b": "green"})
    await store.promote(version.id)
    await publish({"a": "blue"})
    assert (await store.undo("acme", "version")).after == first
    for each in (first, version.id):
        hits = (await retriever.search(SearchRequest(question="blue", access=PUBLIC, version=each))).hits
        assert [hit.text for hit in hits] == ["blue"]


async def test_pointer_moves_and_undo(
    store: KnowledgeStore, publish: Publish, embedder: WordEmbedder
) -> None:
    await publish({"a": "red"})
    first = (await store.pointer()).stable
    version = second(embedder)
    await prepare(store, embedder, version)
    pointer = await store.set_canary(version.id, 500)
    assert (pointer.stable, pointer.canary, pointer.canary_weight_bp) == (first, version.id, 500)
    undone = await store.undo("acme", "version")
    assert (undone.before, undone.after) == (version.id, first)
    assert (await store.pointer()).canary is None
    pointer = await store.promote(version.id)
    assert (pointer.stable, pointer.previous) == (version.id, first)
    undone = await store.undo("acme", "version")
    assert (undone.what, undone.before, undone.after) == ("version", version.id, first)
    undone = await store.undo("acme", "version")
    assert (await store.pointer()).stable == version.id


#: Every kind of move on a rail with the versions first, second (stable) and third (5 % if so wanted).
MOVES: dict[str, tuple[bool, Callable[[KnowledgeStore, list[str]], Awaitable[Pointer]]]] = {
    "promote": (False, lambda store, ids: store.promote(ids[2])),
    "promote of the canary": (True, lambda store, ids: store.promote(ids[2])),
    "promote over a canary": (True, lambda store, ids: store.promote(ids[0])),
    "canary set": (False, lambda store, ids: store.set_canary(ids[2], 500)),
    "canary weight": (True, lambda store, ids: store.set_canary(ids[2], 5_000)),
    "canary off": (True, lambda store, ids: store.set_canary(None, 0)),
}


def traffic(pointer: Pointer | UndoGoal) -> tuple[str, str | None, int]:
    return pointer.stable, pointer.canary, pointer.canary_weight_bp


@pytest.mark.parametrize("kind", MOVES)
async def test_undo_takes_back_any_move_and_twice_is_redo(
    store: KnowledgeStore, publish: Publish, embedder: WordEmbedder, kind: str
) -> None:
    with_canary, move = MOVES[kind]
    await publish({"a": "red"})
    ids = [(await store.pointer()).stable]
    for name in ("second", "third"):
        version = KnowledgeVersion.make(name=name, embedder=embedder.id, dims=embedder.dims)
        await prepare(store, embedder, version)
        ids.append(version.id)
    before = await store.promote(ids[1])
    if with_canary:
        before = await store.set_canary(ids[2], 500)
    after = await move(store, ids)
    assert traffic(after) != traffic(before)
    for expected in (before, after, before, after):
        goal = await store.undo_goal()
        assert goal is not None
        assert traffic(goal) == traffic(expected)
        assert (await store.undo("acme")).what == "version"
        assert traffic(await store.pointer()) == traffic(expected)
    pointer = await store.pointer()
    assert pointer.previous == after.previous
    states = {version.id: version.state for version in await store.versions()}
    assert {states[each] for each in (pointer.stable, pointer.canary, pointer.previous) if each} == {"ready"}


async def test_a_move_to_where_the_pointer_stands_is_not_the_last_one(
    store: KnowledgeStore, publish: Publish, embedder: WordEmbedder
) -> None:
    await publish({"a": "red"})
    version = second(embedder)
    await prepare(store, embedder, version)
    moved = await store.promote(version.id)
    await publish({"a": "blue"})
    assert await store.set_canary(None, 0) == moved
    assert await store.promote(version.id) == moved
    assert (await store.undo("acme")).what == "publish"


async def test_an_undo_that_is_sent_again_is_refused(
    store: KnowledgeStore, publish: Publish, embedder: WordEmbedder
) -> None:
    await publish({"a": "red"})
    version = second(embedder)
    await prepare(store, embedder, version)
    seen = await store.promote(version.id)
    await store.undo("acme", expected_revision=seen.revision, expected_snapshot=1)
    with pytest.raises(PointerMovedError, match=r"expected_revision: .* read it again"):
        await store.undo("acme", expected_revision=seen.revision, expected_snapshot=1)
    moved = await store.pointer()
    assert moved.stable != version.id
    await publish({"a": "blue"})
    await store.undo("acme", expected_revision=moved.revision, expected_snapshot=2)
    with pytest.raises(PointerMovedError, match=r"expected_snapshot: .* is at 1, not 2"):
        await store.undo("acme", expected_revision=moved.revision, expected_snapshot=2)
    assert (await store.pointer(), await store.snapshot("acme")) == (moved, 1)


async def test_undo_without_a_word_takes_what_moved_last(
    store: KnowledgeStore, publish: Publish, embedder: WordEmbedder
) -> None:
    await publish({"a": "red"})
    version = second(embedder)
    await prepare(store, embedder, version)
    await store.promote(version.id)
    assert (await store.undo("acme")).what == "version"
    await publish({"a": "blue"})
    assert (await store.undo("acme")).what == "publish"
    assert (await store.undo("other")).what == "version"


async def test_refusals_name_the_field(store: KnowledgeStore, publish: Publish) -> None:
    await publish({"a": "red"})
    stable = (await store.pointer()).stable
    with pytest.raises(CanaryError, match="weight_bp: 20000"):
        await store.set_canary("k-x-00000000", 20_000)
    with pytest.raises(CanaryError, match="must be 0"):
        await store.set_canary(None, 5)
    with pytest.raises(CanaryError, match="is stable already"):
        await store.set_canary(stable, 5)
    with pytest.raises(UnknownVersionError, match=f"no index version k-x-00000000; known: {stable}"):
        await store.promote("k-x-00000000")
    with pytest.raises(NothingToUndoError, match="has not moved"):
        await store.undo("acme", "version")
    with pytest.raises(NothingToUndoError, match="'other' has published nothing"):
        await store.undo("other", "publish")


async def test_what_traffic_can_reach_is_never_retired(
    store: KnowledgeStore, retriever: Retriever, publish: Publish, embedder: WordEmbedder
) -> None:
    await publish({"a": "red"})
    ids = [(await store.pointer()).stable]
    for name in ("second", "third", "fourth"):
        version = KnowledgeVersion.make(name=name, embedder=embedder.id, dims=embedder.dims)
        await prepare(store, embedder, version)
        ids.append(version.id)
    await store.promote(ids[1])
    await store.set_canary(ids[2], 500)
    await store.set_shadow(ids[3])
    before = await store.facts()
    for version_id, role in (
        (ids[0], "the previous stable version"),
        (ids[1], "the stable version and what an undo brings back"),
        (ids[2], "the canary version"),
        (ids[3], "the shadow version"),
    ):
        with pytest.raises(VersionInReachError, match=f"version: {version_id} is {role} and cannot be ret"):
            await store.retire(version_id)
    assert await store.facts() == before
    with pytest.raises(UnknownVersionError, match="no index version k-x-00000000"):
        await store.retire("k-x-00000000")
    # What was stable two moves ago is out of reach, and written until somebody retires it.
    await store.set_canary(None, 0)
    await store.promote(ids[2])
    await publish({"a": "blue"})
    assert await found(retriever, "acme", ids[0]) == ["blue"]
    assert (await store.retire(ids[0])).freed_bytes > 0
    with pytest.raises(VersionRetiredError, match="its chunks are gone"):
        await found(retriever, "acme", ids[0])
    for move in (store.promote(ids[0]), store.set_canary(ids[0], 5), store.retire(ids[0])):
        with pytest.raises(VersionRetiredError, match=f"`twinrail knowledge build {ids[0]}` builds it again"):
            await move
    assert (await store.undo("acme", "version")).after == ids[1]


async def test_a_retired_version_leaves_nothing_and_can_be_built_again(
    store: KnowledgeStore, publish: Publish, embedder: WordEmbedder, retriever: Retriever, database_url: str
) -> None:
    other = WordEmbedder(name="other", dims=16)
    await publish({"a": "red"})
    version = KnowledgeVersion.make(name="other", embedder=other.id, dims=other.dims)
    left = (
        "SELECT (SELECT count(*) FROM pg_class WHERE relname ~ '^chunk_[0-9]+$'),"
        " (SELECT count(*) FROM retrieval.term_stats), (SELECT count(*) FROM retrieval.chunk_stats),"
        " (SELECT count(*) FROM retrieval.index_coverage), (SELECT count(*) FROM retrieval.embedding_cache)"
    )

    def counts() -> object:
        with psycopg.connect(database_url) as conn:
            conn.execute("SELECT set_config('retrieval.tenant', 'acme', true)")
            return conn.execute(left).fetchone()

    before = counts()
    for _ in range(2):
        await store.register(version)
        report = await build(store, {embedder.id: embedder, other.id: other}, version.id)
        assert report.embedded == 1
        assert await found(Retriever(store=store, embedders={other.id: other}), "acme", version.id) == ["red"]
        assert counts() != before
        await store.retire(version.id)
        assert counts() == before
    assert await found(retriever, "acme", (await store.pointer()).stable) == ["red"]


async def test_a_retirement_that_was_broken_off_is_finished_by_the_next_one(
    store: KnowledgeStore, publish: Publish, embedder: WordEmbedder, database_url: str
) -> None:
    await publish({"a": "red"})
    broken, whole = (
        KnowledgeVersion.make(name=name, embedder=embedder.id, dims=embedder.dims)
        for name in ("broken", "whole")
    )
    await prepare(store, embedder, broken, whole)
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(QUERIES["retire"], {"version": broken.id})
        number = conn.execute(
            "SELECT number FROM retrieval.index_version WHERE id = %s", [broken.id]
        ).fetchone()
        assert number is not None
        conn.execute(f"ALTER TABLE retrieval.chunk DETACH PARTITION retrieval.chunk_{number[0]} CONCURRENTLY")
        await store.retire(whole.id)
        rest = conn.execute("SELECT count(*) FROM pg_class WHERE relname ~ '^chunk_[0-9]+$'").fetchone()
    assert rest == (1,)


async def test_no_search_fails_while_versions_come_move_and_go(
    store: KnowledgeStore, retriever: Retriever, publish: Publish, embedder: WordEmbedder
) -> None:
    await publish({"a": "red", "b": "green"})
    first = (await store.pointer()).stable
    stop = asyncio.Event()
    seen: list[int] = []

    async def search() -> None:
        while not stop.is_set():
            version = (await store.pointer()).stable
            seen.append(len(await found(retriever, "acme", version)))

    readers = [asyncio.create_task(search()) for _ in range(2)]
    out_of_reach = ""
    for number in range(3):
        version = KnowledgeVersion.make(
            name=f"v{number}", embedder=embedder.id, dims=embedder.dims, dense_weight=0.1 * number
        )
        await prepare(store, embedder, version)
        await store.promote(version.id)
        await store.undo("acme", "version")
        await store.promote(version.id)
        await store.promote(first)
        await publish({"a": "red", "b": f"green {number}"})
        if out_of_reach:
            await store.retire(out_of_reach)
        out_of_reach = version.id
    stop.set()
    await asyncio.gather(*readers)
    assert len(seen) > 10
    assert set(seen) == {2}


async def test_a_shadow_moves_no_traffic_and_is_not_what_an_undo_takes_back(
    store: KnowledgeStore, publish: Publish, embedder: WordEmbedder
) -> None:
    await publish({"a": "red"})
    first = (await store.pointer()).stable
    version = second(embedder)
    await prepare(store, embedder, version)
    assert (await store.set_shadow(version.id)).shadow == version.id
    assert await store.undo_goal() is None
    with pytest.raises(CanaryError, match="takes traffic already"):
        await store.set_shadow(first)
    moved = await store.promote(version.id)
    assert (moved.stable, moved.shadow) == (version.id, None)
    await store.set_shadow(first)
    assert (await store.undo("acme")).after == first
    assert (await store.pointer()).shadow is None
    assert (await store.set_shadow(None)).shadow is None


async def test_every_move_is_kept(
    store: KnowledgeStore, publish: Publish, embedder: WordEmbedder, database_url: str
) -> None:
    await publish({"a": "red"})
    version = second(embedder)
    await prepare(store, embedder, version)
    await store.set_canary(version.id, 100)
    await store.promote(version.id)
    await store.undo("acme", "version")
    with psycopg.connect(database_url, autocommit=True) as conn:
        rows = conn.execute(
            "SELECT operation, revision FROM retrieval.pointer_history ORDER BY revision"
        ).fetchall()
        assert rows == [("promote_first", 1), ("set_canary", 2), ("promote", 3), ("undo", 4)]
        with pytest.raises(psycopg.errors.RaiseException, match="only grows"):
            conn.execute("DELETE FROM retrieval.pointer_history")
