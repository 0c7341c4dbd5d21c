"""Snapshots, undo and redo against a model: a dict per snapshot number."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.documents import Access, TextSpan
from retrieval.errors import NothingToUndoError, UnknownSnapshotError
from retrieval.hits import SearchRequest
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore
from tests.integration.retrieval.conftest import Publish

WORDS = ("red", "green", "blue")
contents = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(WORDS), min_size=1)
steps = st.lists(st.one_of(contents, st.just("undo")), min_size=1, max_size=7)


async def content(
    retriever: Retriever, store: KnowledgeStore, tenant: str, snapshot: int | None
) -> dict[str, str]:
    """Everything visible at a snapshot, as the search sees it."""
    request = SearchRequest(
        question=" ".join(WORDS),
        access=Access(tenant=tenant, principals=("public",)),
        version=(await store.pointer()).stable,
        k=20,
        as_of=snapshot,
    )
    hits = (await retriever.search(request)).hits
    assert len({hit.document_id for hit in hits}) == len(hits), "a document is visible twice"
    return {hit.document_id: hit.text for hit in hits}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
async def test_every_snapshot_stays_what_it_was(
    store: KnowledgeStore, retriever: Retriever, publish: Publish, steps: list[Mapping[str, str] | str]
) -> None:
    tenant = secrets.token_hex(6)
    history: dict[int, Mapping[str, str]] = {0: {}}
    head, previous, newest = 0, None, 0
    for step in steps:
        if isinstance(step, str):
            if previous is None:
                with pytest.raises(NothingToUndoError):
                    await store.undo(tenant, "publish")
                continue
            undone = await store.undo(tenant, "publish")
            head, previous = previous, head
            assert (undone.before, undone.after) == (str(previous), str(head))
        else:
            report = await publish(step, tenant=tenant)
            if dict(step) != dict(history[head]):
                newest += 1
                head, previous = newest, head
                history[newest] = dict(step)
            assert report.snapshot == head
        assert await store.snapshot(tenant) == head
        assert await content(retriever, store, tenant, None) == history[head]
        for number, expected in history.items():
            assert await content(retriever, store, tenant, number) == expected


async def test_publish_after_undo_builds_on_the_restored_content(
    store: KnowledgeStore, retriever: Retriever, publish: Publish
) -> None:
    await publish({"a": "red", "b": "green"}, tenant="t", source="one")
    await publish({"a": "blue"}, tenant="t", source="one")
    await store.undo("t")
    await publish({"c": "red"}, tenant="t", source="two")
    assert await content(retriever, store, "t", None) == {"a": "red", "b": "green", "c": "red"}
    assert await content(retriever, store, "t", 2) == {"a": "blue"}
    assert await store.snapshot("t") == 3


async def test_snapshot_that_does_not_exist(
    store: KnowledgeStore, retriever: Retriever, publish: Publish
) -> None:
    await publish({"a": "red"}, tenant="t")
    with pytest.raises(UnknownSnapshotError, match="newest is 1"):
        await content(retriever, store, "t", 5)


async def test_tenants_have_snapshots_of_their_own(store: KnowledgeStore, publish: Publish) -> None:
    await publish({"a": "red"}, tenant="t")
    await publish({"a": "blue"}, tenant="t")
    await publish({"a": "green"}, tenant="u")
    assert [await store.snapshot(tenant) for tenant in ("t", "u", "v")] == [2, 1, 0]
    await store.undo("t")
    assert [await store.snapshot(tenant) for tenant in ("t", "u")] == [1, 1]


async def test_version_numbers_of_texts_are_kept(
    retriever: Retriever, store: KnowledgeStore, publish: Publish
) -> None:
    """A text that comes back is the version that it was, so old citations and new ones agree."""
    for text in ("red", "blue", "red"):
        await publish({"a": text}, tenant="t")
    access = Access(tenant="t", principals=("public",))
    assert await store.text_span(access, "a", 1, 0, 3) == "red"
    assert await store.text_span(access, "a", 2, 0, 4) == "blue"
    assert await store.text_span(access, "a", 3, 0, 3) is None
    spans = [TextSpan("a", 2, 0, 4), TextSpan("a", 1, 0, 3), TextSpan("b", 1, 0, 3), TextSpan("a", 1, 3, 0)]
    assert await store.text_spans(access, spans) == ["blue", "red", None, None]
