"""One of our rerankers for documents that any LangChain retriever found."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor
from langchain_core.documents import Document as LangchainDocument
from pydantic import ConfigDict

from retrieval.eventloops import PerLoop
from retrieval.reranking import Reranker


class TwinrailCompressor(BaseDocumentCompressor):
    """Puts documents in the order of a cross-encoder and keeps the best; `rerank_score` is in their metadata.

    Our own searches have their reranker in the index version, where it is blended with the other scores.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    rerankers: PerLoop[Reranker]
    top_n: int = 4

    async def acompress_documents(
        self, documents: Sequence[LangchainDocument], query: str, callbacks: Callbacks | None = None
    ) -> list[LangchainDocument]:
        """The best documents, best first."""
        reranker = await self.rerankers.here()
        passages = ["\n".join(filter(None, (_title(each), each.page_content))) for each in documents]
        scores = await reranker.scores(query, passages)
        ordered = sorted(zip(scores, documents, strict=True), key=lambda pair: -pair[0])
        return [
            document.model_copy(update={"metadata": {**document.metadata, "rerank_score": score}})
            for score, document in ordered[: self.top_n]
        ]

    def compress_documents(
        self, documents: Sequence[LangchainDocument], query: str, callbacks: Callbacks | None = None
    ) -> list[LangchainDocument]:
        """The same for callers without an event loop."""
        return self.rerankers.call(lambda: self.acompress_documents(documents, query, callbacks))


def _title(document: LangchainDocument) -> str:
    title = document.metadata.get("title")
    return title if isinstance(title, str) else ""
