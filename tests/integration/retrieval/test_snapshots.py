"""Snapshots, undo, redo, permissions and erasures against a model: a dict per snapshot number."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.connections import Pool
from retrieval.documents import Access, TextSpan
from retrieval.errors import NothingToUndoError, UnknownDocumentError, UnknownSnapshotError
from retrieval.hits import SearchRequest
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore
from tests.integration.retrieval.conftest import Publish

WORDS = ("red", "green", "blue")
EYES = {"public": ("public",), "staff": ("public", "staff")}


@dataclass(frozen=True)
class Publishing:
    """The source then holds exactly these: id -> word, and who of it is for staff only."""

    words: Mapping[str, str]
    staff: frozenset[str]


@dataclass(frozen=True)
class Purging:
    document: str


documents = st.sampled_from("abcd")
publishings = st.builds(
    Publishing,
    words=st.dictionaries(documents, st.sampled_from(WORDS), min_size=1),
    staff=st.frozensets(documents, max_size=2),
)
#: Undo is redo when it comes again.
steps = st.lists(
    st.one_of(publishings, publishings, st.just("undo"), st.builds(Purging, documents)),
    min_size=1,
    max_size=7,
)


async def content(
    retriever: Retriever,
    store: KnowledgeStore,
    tenant: str,
    as_of: int | datetime | None,
    principals: tuple[str, ...] = ("public",),
) -> dict[str, str]:
    """Everything visible at a snapshot or a moment, as the search sees it."""
    request = SearchRequest(
        question=" ".join((*WORDS, *"abcd")),
        access=Access(tenant=tenant, principals=principals),
        version=(await store.pointer()).stable,
        k=20,
        as_of=as_of,
    )
    hits = (await retriever.search(request)).hits
    assert len({hit.document_id for hit in hits}) == len(hits), "a document is visible twice"
    return {hit.document_id: hit.text for hit in hits}


@dataclass
class Model:
    """What a tenant's rail should be: contents by snapshot, readers of now, and what was erased."""

    history: dict[int, dict[str, str]] = field(default_factory=lambda: {0: {}})
    head: int = 0
    previous: int | None = None
    staff: set[str] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)
    #: Moments between two steps, each with what was live.
    moments: list[tuple[datetime, int]] = field(default_factory=list)

    def publish(self, publishing: Publishing) -> None:
        texts = {key: f"{key} {word}" for key, word in publishing.words.items() if key not in self.erased}
        # Permissions are those of now: not of a snapshot, and not taken back by an undo.
        self.staff = (self.staff - texts.keys()) | (publishing.staff & texts.keys())
        if texts != self.history[self.head]:
            self.previous, self.head = self.head, max(self.history) + 1
            self.history[self.head] = texts

    def undo(self) -> None:
        assert self.previous is not None
        self.head, self.previous = self.previous, self.head

    def purge(self, document: str) -> bool:
        """Whether there was anything to erase."""
        known = any(document in texts for texts in self.history.values())
        for texts in self.history.values():
            texts.pop(document, None)
        self.erased |= {document} if known else set()
        return known

    def visible(self, snapshot: int, principals: tuple[str, ...]) -> dict[str, str]:
        hidden = set() if "staff" in principals else self.staff
        return {key: text for key, text in self.history[snapshot].items() if key not in hidden}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
async def test_every_snapshot_stays_what_it_was(
    store: KnowledgeStore,
    retriever: Retriever,
    publish: Publish,
    pool: Pool,
    steps: list[Publishing | Purging | str],
) -> None:
    """But for permissions and erasures, which hold at all of them at once."""
    tenant = secrets.token_hex(6)
    model = Model()
    for step in steps:
        if isinstance(step, Publishing):
            rows = {
                key: {"text": f"{key} {word}", "principals": ["staff" if key in step.staff else "public"]}
                for key, word in step.words.items()
            }
            report = await publish(rows, tenant=tenant)
            assert len(report.failures) == len(step.words.keys() & model.erased)
            model.publish(step)
            assert report.snapshot == model.head
        elif isinstance(step, Purging):
            if step.document in model.erased:
                assert (await store.purge(tenant, step.document, by="test")).texts == 0
            elif model.purge(step.document):
                assert (await store.purge(tenant, step.document, by="test")).texts > 0
            else:
                with pytest.raises(UnknownDocumentError):
                    await store.purge(tenant, step.document, by="test")
        elif model.previous is None:
            with pytest.raises(NothingToUndoError):
                await store.undo(tenant, "publish")
            continue
        else:
            model.undo()
            undone = await store.undo(tenant, "publish")
            assert (undone.before, undone.after) == (str(model.previous), str(model.head))
        if max(model.history) == 0:
            continue
        async with pool.connection() as conn:
            row = await (await conn.execute("SELECT clock_timestamp()")).fetchone()
        assert row is not None
        model.moments.append((row[0], model.head))
        assert await store.snapshot(tenant) == model.head
        for principals in EYES.values():
            assert await content(retriever, store, tenant, None, principals) == model.visible(
                model.head, principals
            )
            for number in model.history:
                seen = await content(retriever, store, tenant, number, principals)
                assert seen == model.visible(number, principals)
    for moment, number in model.moments:
        seen = await content(retriever, store, tenant, moment)
        assert seen == model.visible(number, ("public",))


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
    spans = [TextSpan("a", 2, 0, 4), TextSpan("a", 1, 0, 3), TextSpan("a", 3, 0, 3)]
    spans += [TextSpan("b", 1, 0, 3), TextSpan("a", 1, 3, 0)]
    assert await store.text_spans(access, spans) == ["blue", "red", None, None, None]


async def test_citations_resolve_byte_for_byte_over_many_versions_and_after_undo(
    store: KnowledgeStore, publish: Publish
) -> None:
    """Also where characters are wider than bytes, and where a version was never live again."""
    texts = [
        f"Fassung {number}: für {'ß' * (number + 1)} €, 日本 {'語' * (number % 3)}." for number in range(12)
    ]
    for number, text in enumerate(texts):
        await publish({"a": text, "b": f"beside {number}"}, tenant="t")
        if number % 4 == 3:
            await store.undo("t", "publish")
    access = Access(tenant="t", principals=("public",))
    spans = [TextSpan("a", version, 3, len(text)) for version, text in enumerate(texts, 1)]
    resolved = await store.resolve(access, spans)
    assert [each.text for each in resolved] == [text[3:] for text in texts]
    # The last publish was undone: the one before is live again.
    assert [version for version, each in enumerate(resolved, 1) if each.current] == [11]
    assert all(each.changed_at is not None for each in resolved if not each.current)
    await publish({"b": "alone"}, tenant="t")
    resolved = await store.resolve(access, spans)
    assert [each.text for each in resolved] == [text[3:] for text in texts]
    assert {(each.current, each.changed_at) for each in resolved} == {(False, None)}
