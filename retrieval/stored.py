"""Documents as they are now: for those who write them and want to see what is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from psycopg.rows import class_row

from retrieval.connections import borrowed
from retrieval.documents import Access, MetadataValue
from retrieval.errors import DocumentConflictError, UnknownDocumentError
from retrieval.sql import named_queries
from retrieval.store import QUERIES as STORE_QUERIES
from retrieval.store import KnowledgeStore

QUERIES = named_queries("retrieval.sql", "documents.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDocument:
    """The live version of a document."""

    id: str
    source: str
    version: int
    #: Snapshot since which it is live.
    snapshot: int
    title: str
    text: str
    url: str
    language: str
    effective_from: date | None
    effective_to: date | None
    principals: list[str]
    metadata: Mapping[str, MetadataValue]
    created_at: datetime


class DocumentStore:
    """The live documents of all tenants, one tenant at a time."""

    def __init__(self, store: KnowledgeStore) -> None:
        self._store = store

    async def document(self, access: Access, document_id: str) -> StoredDocument:
        """A live document that these eyes may see."""
        params = {"tenant": access.tenant, "principals": list(access.principals), "id": document_id}
        async with (
            borrowed(self._store.pool, timeout_s=self._store.acquire_timeout_s) as conn,
            conn.transaction(),
            conn.cursor(row_factory=class_row(StoredDocument)) as cursor,
        ):
            await conn.execute(STORE_QUERIES["enter"], params)
            await conn.execute(QUERIES["enter_with_principals"], params)
            found = await (await cursor.execute(QUERIES["document"], params)).fetchone()
        if found is None:
            raise UnknownDocumentError(f"id: there is no live document {document_id!r}")
        return found

    async def require_source(self, tenant: str, document_id: str, source: str) -> None:
        """Raise if a live document of this id belongs to another source."""
        params = {"tenant": tenant, "id": document_id}
        async with (
            borrowed(self._store.pool, timeout_s=self._store.acquire_timeout_s) as conn,
            conn.transaction(),
        ):
            await conn.execute(STORE_QUERIES["enter"], params)
            await conn.execute(STORE_QUERIES["enter_with_all_principals"])
            row = await (await conn.execute(QUERIES["source"], params)).fetchone()
        if row is not None and row[0] != source:
            problem = f"{document_id!r} belongs to source {row[0]!r} already"
            raise DocumentConflictError("request", "id", problem, "choose another id, or name that source")
