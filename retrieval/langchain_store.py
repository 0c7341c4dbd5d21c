"""The knowledge rail as a LangChain `VectorStore`.

The async methods do the work. The sync ones run them on a private event loop, with a pool of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Self

from langchain_core.documents import Document as LangchainDocument
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from retrieval.connections import Connection
from retrieval.documents import Access
from retrieval.errors import RequestError
from retrieval.filters import Filters
from retrieval.ingest import apply
from retrieval.ingest_report import Changes, IngestReport
from retrieval.langchain_documents import documents_of, given_form, identified, stored_form
from retrieval.langchain_rail import Rails, connect, ensure_version
from retrieval.langchain_search import NO_FILTERS, DocumentSearch, Scored, unit, version_to_read
from retrieval.store import Legs
from retrieval.stored import DocumentStore

FilterArgument = Filters | None


class TwinrailVectorStore(VectorStore):
    """Texts that somebody else has cut already: a LangChain document is one of ours, and comes back whole.

    `access` says whose eyes read. `readers` says who may read what is added; it may be left out where
    `access` has one principal. `source` owns what is added: documents of other sources are found, and neither
    changed nor deleted. An empty rail gets an index version that embeds each text as it stands; a rail that
    has versions keeps them, and all of them are written. So build a version with a chunker that cuts before
    long articles are ingested into a rail that began here. `version` pins the one to read; None follows
    the pointer. `legs` may leave words (`dense`) or vectors (`lexical`) out of searches by text.

    Scores are cosines, higher is better. Documents come in the order of the whole search (words, a reranker
    where the version has one), so with both legs their scores need not fall.
    """

    def __init__(
        self,
        rails: Rails,
        access: Access,
        *,
        embeddings: Embeddings | None = None,
        readers: Sequence[str] | None = None,
        source: str = "langchain",
        version: str | None = None,
        legs: Legs = "both",
        timeout_s: float = 5.0,
    ) -> None:
        self.rails = rails
        self.access = access
        self._embeddings = embeddings
        self._readers = readers
        self._source = source
        self._version = version
        self._legs: Legs = legs
        self._timeout_s = timeout_s

    @classmethod
    def connect(
        cls,
        database_url: str,
        embeddings: Embeddings,
        *,
        tenant: str,
        principals: Sequence[str] = ("public",),
        model_id: str | None = None,
        dims: int | None = None,
        **options: Any,
    ) -> Self:
        """A store on a rail of its own (`retrieval.langchain.connect`); `options` are those of the store."""
        rails = connect(database_url, embeddings, model_id=model_id, dims=dims)
        access = Access(tenant=tenant, principals=tuple(principals))
        return cls(rails, access, embeddings=embeddings, **options)

    @property
    def embeddings(self) -> Embeddings | None:
        """What embeds, where the store was given it."""
        return self._embeddings

    # ---- writes ----------------------------------------------------------------------------------

    async def aadd_documents(
        self, documents: list[LangchainDocument], *, ids: Sequence[str | None] | None = None, **_kwargs: Any
    ) -> list[str]:
        """Add or replace documents by id, in one publish: all or none. Unchanged ones cost nothing."""
        given = identified(documents, ids)
        if not documents:
            return []
        readers = self._readers
        if readers is None:
            if len(self.access.principals) != 1:
                raise RequestError(
                    "readers: say who may read what is added, for example ['staff']; the store reads with "
                    f"{len(self.access.principals)} principals, and a document shows to each that it names"
                )
            readers = self.access.principals
        parsed = [
            stored_form(document, document_id, source=self._source, readers=readers)
            for document, document_id in zip(documents, given, strict=True)
        ]
        await self._publish(Changes(upserts=tuple(parsed)))
        return given

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """The same for texts."""
        return await self.aadd_documents(documents_of(texts, metadatas, ids), **kwargs)

    async def adelete(self, ids: list[str] | None = None, **_kwargs: Any) -> bool | None:
        """Take documents away, in one publish; deleting what is not there changes nothing."""
        await self.remove(ids)
        return True

    async def remove(self, ids: Sequence[str] | None) -> int:
        """Take documents away; returns how many there were."""
        if ids is None:
            raise ValueError("ids: name the documents to delete; a store is not emptied by leaving them out")
        if not ids:
            return 0
        report = await self._publish(Changes(deletes=tuple(dict.fromkeys(ids))))
        return report.removed

    async def _publish(self, changes: Changes) -> IngestReport:
        async def refuse_failures(_conn: Connection, report: IngestReport) -> None:
            for failure in report.failures:
                raise failure

        rail = await self.rails.here()
        async with rail.writing:
            if changes.upserts:
                await ensure_version(rail)
            report = await apply(
                rail.store,
                rail.embedders,
                changes,
                tenant=self.access.tenant,
                source=self._source,
                chunkers=rail.chunkers,
                on_publish=refuse_failures,
            )
        for failure in report.failures:
            # There was nothing beside what failed, so nothing was published.
            raise failure
        return report

    # ---- reads -----------------------------------------------------------------------------------

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[LangchainDocument]:
        """Live documents in the order asked, without those that are not there."""
        rail = await self.rails.here()
        found = await DocumentStore(rail.store).documents(self.access, ids)
        return [given_form(stored.id, stored.text, stored.metadata) for stored in found]

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[LangchainDocument]:
        """The best documents for a question. `filter` takes LangChain's operators, `as_of` a snapshot."""
        return _without_scores(await self.asimilarity_search_with_score(query, k, **kwargs))

    async def asimilarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        filter: FilterArgument = None,  # noqa: A002 - LangChain's name
        as_of: int | datetime | None = None,
    ) -> list[tuple[LangchainDocument, float]]:
        """The same with their cosines."""
        search = await self._search()
        if search is None:
            return []
        hits = await search.by_text(query, k, filters=filter or NO_FILTERS, as_of=as_of)
        return _with_scores(await search.documents(hits))

    async def asimilarity_search_by_vector(
        self, embedding: list[float], k: int = 4, **kwargs: Any
    ) -> list[LangchainDocument]:
        """The documents with the nearest vectors."""
        return _without_scores(await self.asimilarity_search_with_score_by_vector(embedding, k, **kwargs))

    async def asimilarity_search_with_score_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        filter: FilterArgument = None,  # noqa: A002
        as_of: int | datetime | None = None,
    ) -> list[tuple[LangchainDocument, float]]:
        """The same with their cosines."""
        search = await self._search()
        if search is None:
            return []
        hits = await search.by_vector(unit(embedding), k, filters=filter or NO_FILTERS, as_of=as_of)
        return _with_scores(await search.documents(hits))

    async def amax_marginal_relevance_search(  # type: ignore[override]
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: FilterArgument = None,  # noqa: A002
        as_of: int | datetime | None = None,
    ) -> list[LangchainDocument]:
        """Of the `fetch_k` best documents, `k` that are near the question and unlike each other."""
        search = await self._search()
        if search is None:
            return []
        hits = await search.by_text(query, max(k, fetch_k), filters=filter or NO_FILTERS, as_of=as_of)
        return await search.diverse(hits, await search.vector_of(query), k, lambda_mult)

    async def amax_marginal_relevance_search_by_vector(  # type: ignore[override]
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: FilterArgument = None,  # noqa: A002
        as_of: int | datetime | None = None,
    ) -> list[LangchainDocument]:
        """The same of the `fetch_k` documents with the nearest vectors."""
        search = await self._search()
        if search is None:
            return []
        vector = unit(embedding)
        hits = await search.by_vector(vector, max(k, fetch_k), filters=filter or NO_FILTERS, as_of=as_of)
        return await search.diverse(hits, vector, k, lambda_mult)

    async def _search(self) -> DocumentSearch | None:
        """Searches of the version that counts now; None where nothing was ever added."""
        rail = await self.rails.here()
        version = await version_to_read(rail, self._version)
        if version is None:
            return None
        return DocumentSearch(rail, self.access, version, legs=self._legs, timeout_s=self._timeout_s)

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """Cosines below 0 count as 0, and rounding adds nothing to 1."""
        return lambda score: min(1.0, max(0.0, score))

    # ---- the same without an event loop ----------------------------------------------------------

    def add_documents(
        self, documents: list[LangchainDocument], *, ids: Sequence[str | None] | None = None, **kwargs: Any
    ) -> list[str]:
        """`aadd_documents` for callers without an event loop, as all that follow."""
        return self.rails.call(lambda: self.aadd_documents(documents, ids=ids, **kwargs))

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add or replace texts."""
        return self.rails.call(lambda: self.aadd_texts(texts, metadatas, ids=ids, **kwargs))

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool | None:
        """Take documents away."""
        return self.rails.call(lambda: self.adelete(ids, **kwargs))

    def get_by_ids(self, ids: Sequence[str], /) -> list[LangchainDocument]:
        """Live documents in the order asked."""
        return self.rails.call(lambda: self.aget_by_ids(ids))

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[LangchainDocument]:
        """The best documents for a question."""
        return self.rails.call(lambda: self.asimilarity_search(query, k, **kwargs))

    def similarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[LangchainDocument, float]]:
        """The same with their cosines."""
        return self.rails.call(lambda: self.asimilarity_search_with_score(query, k, **kwargs))

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, **kwargs: Any
    ) -> list[LangchainDocument]:
        """The documents with the nearest vectors."""
        return self.rails.call(lambda: self.asimilarity_search_by_vector(embedding, k, **kwargs))

    def similarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, **kwargs: Any
    ) -> list[tuple[LangchainDocument, float]]:
        """The same with their cosines."""
        return self.rails.call(lambda: self.asimilarity_search_with_score_by_vector(embedding, k, **kwargs))

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[LangchainDocument]:
        """Documents near the question and unlike each other."""
        return self.rails.call(
            lambda: self.amax_marginal_relevance_search(query, k, fetch_k, lambda_mult, **kwargs)
        )

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Any,
    ) -> list[LangchainDocument]:
        """Documents near a vector and unlike each other."""
        return self.rails.call(
            lambda: self.amax_marginal_relevance_search_by_vector(
                embedding, k, fetch_k, lambda_mult, **kwargs
            )
        )

    # ---- life ------------------------------------------------------------------------------------

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """A store with these texts; `kwargs` are those of `connect`: `database_url` and `tenant` at least."""
        store = cls.connect(embeddings=embedding, **kwargs)
        try:
            store.add_texts(texts, metadatas, ids=ids)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    async def afrom_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """The same on the running event loop."""
        store = cls.connect(embeddings=embedding, **kwargs)
        try:
            await store.aadd_texts(texts, metadatas, ids=ids)
        except BaseException:
            await store.aclose()
            raise
        return store

    def close(self) -> None:
        """Close what sync calls opened, also those of others on the same `rails`."""
        self.rails.close()

    async def aclose(self) -> None:
        """Close what this event loop and sync calls opened, also of others on the same `rails`."""
        await self.rails.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()


def _with_scores(found: Sequence[Scored]) -> list[tuple[LangchainDocument, float]]:
    return [(each.document, each.score) for each in found]


def _without_scores(found: Sequence[tuple[LangchainDocument, float]]) -> list[LangchainDocument]:
    return [document for document, _ in found]
