"""What any LangChain loader gives is a source like a folder: published, compared, removed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from langchain_core.documents import Document

from retrieval.documents import Access
from retrieval.errors import EmptySourceError, MassRemovalError
from retrieval.freshness import freshness
from retrieval.ingest_report import IngestReport
from retrieval.langchain import PerLoop, Rails, TwinrailRetriever, ingest_loader, open_rail
from retrieval.store import KnowledgeStore
from retrieval.stored import DocumentStore
from tests.fakes.embedding import WordEmbedder
from tests.fakes.loading import FakeLoader
from tests.integration.retrieval.conftest import Publish

PUBLIC = Access(tenant="acme", principals=("public",))
FOX = Document(id="fox", page_content="red fox", metadata={"product": "sync"})
HEN = Document(id="hen", page_content="blue hen")
OWL = Document(id="owl", page_content="grey owl")


@pytest.fixture
async def rails(database_url: str, embedder: WordEmbedder) -> AsyncIterator[Rails]:
    async with PerLoop(lambda: open_rail(database_url, [embedder])) as rails:
        yield rails


async def load(rails: Rails, documents: Sequence[Document], error: Exception | None = None) -> IngestReport:
    """One run of the loader of the source `wiki`."""
    return await ingest_loader(rails, FakeLoader(documents, error), tenant="acme", name="wiki")


async def live(store: KnowledgeStore) -> list[str]:
    """Which of all documents can be read."""
    found = await DocumentStore(store).documents(PUBLIC, ["fox", "hen", "owl", "a"])
    return [stored.id for stored in found]


async def test_a_loader_is_published_and_compared_as_a_folder_is(rails: Rails, store: KnowledgeStore) -> None:
    report = await load(rails, [FOX, HEN, OWL])
    assert (report.source, report.added, report.embedded, report.snapshot) == ("wiki", 3, 3, 1)
    (best,) = await TwinrailRetriever(rails=rails, access=PUBLIC, k=1).ainvoke("red fox")
    assert (best.page_content, best.metadata["product"]) == ("red fox", "sync")

    report = await load(rails, [FOX, HEN, OWL])
    assert (report.unchanged, report.embedded, report.snapshot) == (3, 0, 1)

    changed = Document(id="hen", page_content="green hen")
    report = await load(rails, [FOX, changed])
    assert (report.changed, report.removed, report.unchanged, report.snapshot) == (1, 1, 1, 2)
    assert await live(store) == ["fox", "hen"]


async def test_other_sources_stay(rails: Rails, store: KnowledgeStore, publish: Publish) -> None:
    await publish({"a": "white swan"}, source="help")
    await load(rails, [FOX])
    assert await live(store) == ["fox", "a"]
    report = await load(rails, [FOX, Document(id="a", page_content="stolen")])
    assert [failure.field for failure in report.failures] == ["id"]


async def test_after_a_loader_that_failed_nothing_is_removed(rails: Rails, store: KnowledgeStore) -> None:
    await load(rails, [FOX, HEN])
    (before,) = await freshness(store, "acme")
    report = await load(rails, [OWL], OSError("gone"))
    assert (report.added, report.removed) == (1, 0)
    assert [failure.field for failure in report.failures] == ["loader"]
    assert await live(store) == ["fox", "hen", "owl"]
    (after,) = await freshness(store, "acme")
    # It has not looked through the source: the alarm of a stale index goes on counting.
    assert after.checked_at == before.checked_at


async def test_a_file_s_documents_stay_when_a_loader_takes_over_and_fails(
    rails: Rails, store: KnowledgeStore, publish: Publish
) -> None:
    await publish({"a": "white swan"}, source="wiki")
    report = await load(rails, [FOX], OSError("gone"))
    assert (report.added, report.removed) == (1, 0)
    assert await live(store) == ["fox", "a"]


async def test_a_loader_that_suddenly_gives_little_is_refused(rails: Rails, store: KnowledgeStore) -> None:
    await load(rails, [FOX, HEN, OWL])
    with pytest.raises(MassRemovalError, match="would remove 2 of the 3 documents of 'wiki'"):
        await load(rails, [FOX])
    with pytest.raises(EmptySourceError, match="wiki: the loader gave no document"):
        await load(rails, [])
    assert await live(store) == ["fox", "hen", "owl"]
    loader = FakeLoader([FOX])
    tried = await ingest_loader(rails, loader, tenant="acme", name="wiki", dry_run=True, replace_most=True)
    assert (tried.removed, tried.dry_run) == (2, True)
    assert await live(store) == ["fox", "hen", "owl"]
    await ingest_loader(rails, loader, tenant="acme", name="wiki", replace_most=True)
    assert await live(store) == ["fox"]


async def test_without_an_event_loop(rails: Rails) -> None:
    report = rails.call(lambda: load(rails, [FOX]))
    assert report.added == 1
