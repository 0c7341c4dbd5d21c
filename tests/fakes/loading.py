"""A LangChain loader of documents that the test gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document


class FakeLoader(BaseLoader):
    """Gives documents, and then perhaps fails."""

    def __init__(self, documents: Sequence[Document], error: Exception | None = None) -> None:
        self._documents = documents
        self._error = error

    def lazy_load(self) -> Iterator[Document]:
        """One after the other, as loaders do."""
        yield from self._documents
        if self._error is not None:
            raise self._error
