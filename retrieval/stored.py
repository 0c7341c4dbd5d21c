"""Documents as they are now: for those who write them and want to see what is there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
from psycopg.rows import class_row, dict_row

from retrieval.connections import Connection, borrowed
from retrieval.documents import Access, MetadataValue
from retrieval.embedding import Vector
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Snapshots that show a document version: from `born` until before `died`."""

    born: int
    died: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PastVersion:
    """What a document said, and when it was to be found."""

    version: int
    title: str
    text: str
    effective_from: date | None
    effective_to: date | None
    releases: tuple[Release, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All that a document ever said, oldest first, whether it is live or not."""

    id: str
    #: The snapshot that is live now.
    head: int
    versions: tuple[PastVersion, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedDocument:
    """A live document at a glance."""

    id: str
    title: str
    effective_from: date | None
    effective_to: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What one document version holds."""

    text: str
    metadata: Mapping[str, Any]


class DocumentStore:
    """The live documents of all tenants, one tenant at a time."""

    def __init__(self, store: KnowledgeStore) -> None:
        self._store = store

    async def document(self, access: Access, document_id: str) -> StoredDocument:
        """A live document that these eyes may see."""
        found = await self.documents(access, [document_id])
        if not found:
            raise UnknownDocumentError(f"id: there is no live document {document_id!r}")
        return found[0]

    async def documents(self, access: Access, ids: Sequence[str]) -> list[StoredDocument]:
        """Those of the ids that are live and that these eyes may see, in the order asked."""
        async with (
            self._entered(access) as conn,
            conn.cursor(row_factory=class_row(StoredDocument)) as cursor,
        ):
            await cursor.execute(QUERIES["documents"], {"tenant": access.tenant, "ids": list(ids)})
            return await cursor.fetchall()

    async def history(self, access: Access, document_id: str) -> History:
        """Every version that there ever was, of a document that these eyes may see."""
        params = {"tenant": access.tenant, "id": document_id}
        async with self._entered(access) as conn, conn.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(QUERIES["history"], params)
            rows = await cursor.fetchall()
        if not rows:
            raise UnknownDocumentError(f"id: there never was a document {document_id!r}")
        return History(
            id=document_id, head=rows[0]["head"], versions=tuple(_past_version(row) for row in rows)
        )

    async def listing(self, access: Access, *, after: str = "", limit: int = 200) -> list[ListedDocument]:
        """Live documents that these eyes may see, by id, behind `after`."""
        params = {"tenant": access.tenant, "after": after, "limit": limit}
        async with (
            self._entered(access) as conn,
            conn.cursor(row_factory=class_row(ListedDocument)) as cursor,
        ):
            await cursor.execute(QUERIES["listing"], params)
            return await cursor.fetchall()

    async def contents(
        self, access: Access, versions: Sequence[tuple[str, int]]
    ) -> dict[tuple[str, int], Content]:
        """What document versions hold, by id and number; those that these eyes may not see are left out."""
        params = {
            "tenant": access.tenant,
            "ids": [document_id for document_id, _ in versions],
            "numbers": [number for _, number in versions],
        }
        async with self._entered(access) as conn:
            rows = await (await conn.execute(QUERIES["contents"], params)).fetchall()
        return {(row[0], row[1]): Content(text=row[2], metadata=row[3]) for row in rows}

    async def embeddings(self, access: Access, version: str, chunks: Sequence[int]) -> dict[int, Vector]:
        """The vectors of an index version's chunks, by chunk id."""
        params = {"tenant": access.tenant, "version": version, "chunks": list(chunks)}
        async with self._entered(access) as conn:
            rows = await (await conn.execute(QUERIES["embeddings"], params)).fetchall()
        return {chunk_id: np.asarray(vector, dtype=np.float32) for chunk_id, vector in rows}

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

    @asynccontextmanager
    async def _entered(self, access: Access) -> AsyncIterator[Connection]:
        """A transaction with the reader's eyes."""
        params = {"tenant": access.tenant, "principals": list(access.principals)}
        async with (
            borrowed(self._store.pool, timeout_s=self._store.acquire_timeout_s) as conn,
            conn.transaction(),
        ):
            await conn.execute(STORE_QUERIES["enter"], params)
            await conn.execute(QUERIES["enter_with_principals"], params)
            yield conn


def _past_version(row: Mapping[str, Any]) -> PastVersion:
    releases = zip(row["born"] or (), row["died"] or (), strict=True)
    return PastVersion(
        version=row["version"],
        title=row["title"],
        text=row["text"],
        effective_from=row["effective_from"],
        effective_to=row["effective_to"],
        releases=tuple(Release(born=born, died=died) for born, died in releases),
    )
