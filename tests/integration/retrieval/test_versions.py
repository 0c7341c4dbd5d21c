"""Index versions, the pointer and its undo."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
import pytest

from retrieval.documents import Access
from retrieval.errors import (
    CanaryError,
    NoStableVersionError,
    NothingToUndoError,
    PointerMovedError,
    PublishConflictError,
    SnapshotNotFilledError,
    UnknownVersionError,
    VersionNotReadyError,
)
from retrieval.hits import SearchRequest
from retrieval.publishing import Publication, Publisher
from retrieval.search import Retriever
from retrieval.store import QUERIES, KnowledgeStore
from retrieval.versions import KnowledgeVersion, Pointer, UndoGoal
from tests.fakes.embedding import WordEmbedder
from tests.integration.retrieval.conftest import Publish

PUBLIC = Access(tenant="acme", principals=("public",))


def second(embedder: WordEmbedder) -> KnowledgeVersion:
    return KnowledgeVersion.make(
        name="second", embedder=embedder.id, dims=embedder.dims, chunker="structure-60"
    )


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


async def test_new_version_is_filled_by_the_next_ingest(
    store: KnowledgeStore, retriever: Retriever, publish: Publish, embedder: WordEmbedder
) -> None:
    await publish({"a": "red", "b": "green"})
    await publish({"a": "blue", "b": "green"})
    version = second(embedder)
    await store.register(version)
    await store.register(version)
    with pytest.raises(VersionNotReadyError, match="run an ingest"):
        await store.promote(version.id)
    embedder.texts.clear()
    report = await publish({"a": "blue", "b": "green"})
    assert report.snapshot == 2
    assert embedder.texts == []
    await store.promote(version.id)
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
    assert (await publish({"a": "green"}, tenant="acme")).waiting == (version.id,)
    for move in (store.promote(version.id), store.set_canary(version.id, 500)):
        with pytest.raises(VersionNotReadyError, match=r"1 tenant\(s\) have content .* run an ingest"):
            await move
    assert (await publish({"a": "green", "b": "blue"}, tenant="acme")).waiting == (version.id,)
    assert (await publish({"a": "yellow"}, tenant="third")).waiting == (version.id,)
    assert (await publish({"a": {"text": "red", "visibility": "internal"}}, tenant="other")).waiting == ()
    assert (await store.promote(version.id)).stable == version.id
    for tenant, principal, text in (("other", "staff", "red"), ("acme", "public", "green")):
        access = Access(tenant=tenant, principals=(principal,))
        hits = (await retriever.search(SearchRequest(question=text, access=access, version=version.id))).hits
        assert hits[0].text == text


async def test_a_tenant_without_documents_holds_no_version_up(
    store: KnowledgeStore, retriever: Retriever, publish: Publish, embedder: WordEmbedder
) -> None:
    await publish({"a": "red"}, tenant="gone")
    await store.undo("gone", "publish")
    await publish({"a": "green"}, tenant="acme")
    version = second(embedder)
    await store.register(version)
    assert (await publish({"a": "green"}, tenant="acme")).waiting == ()
    assert (await store.promote(version.id)).stable == version.id
    # It comes back after all: from its next ingest on it is served like everybody else.
    with pytest.raises(SnapshotNotFilledError, match=f"not whole in {version.id}.* ingest its"):
        await store.undo("gone", "publish")
    assert await store.snapshot("gone") == 0
    await publish({"a": "red"}, tenant="gone")
    assert await found(retriever, "gone", version.id) == ["red"]
    for _ in "undo", "redo":
        await store.undo("gone", "publish")
    assert await found(retriever, "gone", version.id) == ["red"]


async def test_a_version_that_became_ready_without_a_snapshot_never_shows_it(
    store: KnowledgeStore, publish: Publish, embedder: WordEmbedder
) -> None:
    """Else a redo that is whole in the stable version would be empty after the next promote."""
    await publish({"a": "red"}, tenant="gone")
    await publish({"a": "green"}, tenant="acme")
    await store.undo("gone", "publish")
    version = second(embedder)
    await store.register(version)
    await store.undo("gone", "publish")
    await store.undo("gone", "publish")
    assert (await publish({"a": "green"}, tenant="acme")).waiting == ()
    with pytest.raises(SnapshotNotFilledError):
        await store.undo("gone", "publish")


async def test_a_redo_waits_for_the_version_that_is_being_declared_filled(
    store: KnowledgeStore, publish: Publish, embedder: WordEmbedder, database_url: str
) -> None:
    await publish({"a": "red"}, tenant="gone")
    await store.undo("gone", "publish")
    version = second(embedder)
    await store.register(version)
    async with await psycopg.AsyncConnection.connect(database_url) as filling:
        await filling.execute(QUERIES["unfilled_tenants"], {"version": version.id})
        await filling.execute(QUERIES["set_state"], {"id": version.id, "state": "ready"})
        redo = asyncio.create_task(store.undo("gone", "publish"))
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as watch:
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            async with asyncio.timeout(10):
                while not redo.done() and (await (await watch.execute(waiting)).fetchone()) == (0,):
                    await watch.execute("SELECT pg_sleep(0.01)")
        await filling.commit()
    with pytest.raises(SnapshotNotFilledError):
        await redo


async def test_an_undo_finds_the_articles_that_a_publish_removed(
    store: KnowledgeStore, retriever: Retriever, publish: Publish, embedder: WordEmbedder
) -> None:
    """A tenant whose last publish left nothing is asked for what an undo would bring back."""
    await publish({"a": "red"}, tenant="emptied")
    await publish({"a": "green"}, tenant="acme")
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
    await store.register(version)
    assert (await publish({"a": "green"}, tenant="acme")).waiting == (version.id,)
    unreadable = await publish({"b": ""}, tenant="emptied")
    assert (unreadable.snapshot, unreadable.waiting) == (2, ())
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
    with pytest.raises(PublishConflictError, match=f"{version.id} was registered meanwhile"):
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
    await store.register(version)
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
    await store.register(version)
    await publish({"a": "red"})
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
        await store.register(version)
        ids.append(version.id)
    await publish({"a": "red"})
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
    await store.register(version)
    await publish({"a": "red"})
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
    await store.register(version)
    await publish({"a": "red"})
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
    await store.register(version)
    await publish({"a": "red"})
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


async def test_version_out_of_reach_must_be_filled_again(
    store: KnowledgeStore, publish: Publish, embedder: WordEmbedder
) -> None:
    await publish({"a": "red"})
    first = (await store.pointer()).stable
    others = [
        KnowledgeVersion.make(name=name, embedder=embedder.id, dims=embedder.dims)
        for name in ("second", "third")
    ]
    for version in others:
        await store.register(version)
    await publish({"a": "red"})
    await store.set_canary(others[1].id, 100)
    await store.undo("acme", "version")
    for version in others:
        await store.promote(version.id)
    states = {version.id: version.state for version in await store.versions()}
    assert states == {first: "retired", others[0].id: "ready", others[1].id: "ready"}
    with pytest.raises(VersionNotReadyError):
        await store.promote(first)


async def test_every_move_is_kept(
    store: KnowledgeStore, publish: Publish, embedder: WordEmbedder, database_url: str
) -> None:
    await publish({"a": "red"})
    version = second(embedder)
    await store.register(version)
    await publish({"a": "red"})
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
