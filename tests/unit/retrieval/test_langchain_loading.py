"""Any LangChain loader as a source."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.documents import Document

from retrieval.errors import DuplicateDocumentError, EmptySourceError
from retrieval.langchain_loading import read_loader
from tests.fakes.loading import FakeLoader


def document(text: str, *, id: str | None = None, **metadata: Any) -> Document:  # noqa: A002
    """One of a loader's documents."""
    return Document(page_content=text, id=id, metadata=metadata)


async def test_ids_metadata_and_text() -> None:
    loader = FakeLoader(
        [
            document(
                "# not a heading", id="a", source="x.md", level=2, beta=True, tags=["a", "b"], none=None
            ),
            document("one", source="guide.pdf", page=0, title="Guide", language="de", audience="internal"),
            document("two", source="guide.pdf", page=1),
            document("three", source="https://example.com/help"),
        ]
    )
    reading = await read_loader(loader, name="wiki")
    assert (reading.name, reading.failures, reading.complete) == ("wiki", (), True)
    found = {parsed.document.id: parsed.document for parsed in reading.documents}
    assert list(found) == ["a", "guide.pdf#page=0", "guide.pdf#page=1", "https://example.com/help"]
    assert found["a"].text == "# not a heading"
    assert found["a"].metadata == {"source": "x.md", "level": 2, "beta": True, "tags": ("a", "b")}
    page = found["guide.pdf#page=0"]
    assert (page.title, page.language, page.principals) == ("Guide", "de", ("staff",))
    assert {parsed.file for parsed in reading.documents} == {"wiki"}


async def test_markdown() -> None:
    reading = await read_loader(
        FakeLoader([document("# Head\n\n**text**", id="a")]), name="wiki", markdown=True
    )
    (parsed,) = reading.documents
    assert (parsed.document.title, parsed.document.text) == ("Head", "Head\n\ntext")


async def test_bad_documents_are_listed() -> None:
    loader = FakeLoader(
        [
            document("no id"),
            document("", id="empty"),
            document("x", id="nested", loc={"line": 1}),
            document("a\x00b", id="nul"),
            document("good", id="good"),
        ]
    )
    reading = await read_loader(loader, name="wiki")
    assert [parsed.document.id for parsed in reading.documents] == ["good"]
    assert reading.complete
    assert [(failure.file, failure.field) for failure in reading.failures] == [
        ("wiki:1", "id"),
        ("wiki:2", "content"),
        ("wiki:3", "loc"),
        ("wiki:4", "text"),
    ]


async def test_a_loader_that_fails_midway_keeps_what_it_gave() -> None:
    reading = await read_loader(FakeLoader([document("x", id="a")], OSError("gone")), name="wiki")
    assert [parsed.document.id for parsed in reading.documents] == ["a"]
    assert not reading.complete
    (failure,) = reading.failures
    assert (failure.file, failure.field) == ("wiki", "loader")
    assert failure.problem == "failed after 1 documents (OSError: gone)"


async def test_a_loader_that_gives_nothing_is_no_source() -> None:
    with pytest.raises(EmptySourceError, match="wiki: the loader gave no document"):
        await read_loader(FakeLoader([]), name="wiki")


async def test_two_documents_with_one_id() -> None:
    loader = FakeLoader([document("x", source="a.csv"), document("y", source="a.csv")])
    with pytest.raises(DuplicateDocumentError, match=r"'a\.csv' is in both wiki:1 and wiki:2"):
        await read_loader(loader, name="wiki")
