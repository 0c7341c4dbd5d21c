"""Erase a document for good: its texts, its chunks in every index version, its vectors, its own words.

What remains is a tombstone: salted digests, by which a later ingest knows the document and a citation is told
that it was erased. Neither `as_of`, nor an undo, nor the same source brings it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from retrieval.connections import Connection, row_of
from retrieval.errors import UnknownDocumentError
from retrieval.sql import named_queries

QUERIES = named_queries("retrieval.sql", "erasing.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What a purge took away; all zero when it had been done before."""

    document_id: str
    #: Digest of the id, in hexadecimal: what the tombstone is known by.
    tombstone: str
    erased_at: datetime | None
    texts: int
    #: Over all index versions.
    chunks: int
    #: Vectors that no other document needs.
    vectors: int


async def erase(conn: Connection, tenant: str, document_id: str, *, by: str, dry_run: bool) -> Erasure:
    """Erase within a transaction that has entered the tenant with all its principals and holds both locks.

    Erasing again what is erased already is no error: whoever has to repeat a purge that was cut short can.
    """
    params = {"tenant": tenant, "document": document_id, "by": by}
    texts, chunks = await row_of(conn, QUERIES["holdings"], params)
    vectors = 0
    if texts and not dry_run:
        await conn.execute(QUERIES["add_tombstone"], params)
        (chunks,) = await row_of(conn, QUERIES["erase_chunks"], params)
        await conn.execute(QUERIES["erase_words"], params)
        vectors = (await conn.execute(QUERIES["erase_vectors"], params)).rowcount
        for step in ("erase_versions", "erase_releases", "erase_document"):
            await conn.execute(QUERIES[step], params)
    if not dry_run:
        await conn.execute(QUERIES["erase_sent"], params)
    tombstone = await (await conn.execute(QUERIES["last_tombstone"], params)).fetchone()
    if not texts and tombstone is None:
        raise UnknownDocumentError(f"document: tenant {tenant!r} has no document {document_id!r}")
    digest, erased_at = tombstone or ("", None)
    return Erasure(
        document_id=document_id,
        tombstone=digest,
        erased_at=erased_at,
        texts=texts,
        chunks=chunks,
        vectors=vectors,
    )
