"""What is left of erased documents, and what a later ingest may not bring back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from retrieval.connections import Connection
from retrieval.erasing import QUERIES
from retrieval.errors import ErasedDocumentError
from retrieval.parsing import ParsedDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """What is left of an erased document."""

    #: Digest of its id.
    document: bytes
    #: Digests of its texts.
    texts: frozenset[bytes]
    purged_at: datetime
    #: The tenant's, the same in all its tombstones.
    salt: bytes


def refusals(
    tombstones: Sequence[Tombstone], documents: Sequence[ParsedDocument], new: Set[str]
) -> dict[str, ErasedDocumentError]:
    """Those of the documents about to be written that were erased: id -> reason.

    `new` are the ids that are not live. One that is live again was let in on purpose, and there only the
    erased text itself is refused.
    """
    if not tombstones:
        return {}
    by_id = {tombstone.document: tombstone for tombstone in tombstones}
    by_text = {text: tombstone for tombstone in tombstones for text in tombstone.texts}
    salt, refused = tombstones[0].salt, {}
    for parsed in documents:
        document = parsed.document
        found = by_id.get(_digest(salt, document.id)) if document.id in new else None
        field, what = "id", f"{document.id!r} was erased"
        if found is None:
            found = by_text.get(_digest(salt, document.text))
            field, what = "text", "is that of a document that was erased"
        if found is not None:
            refused[document.id] = ErasedDocumentError(
                parsed.origin,
                field,
                f"{what} on {found.purged_at:%Y-%m-%d} (tombstone {found.document.hex()[:12]})",
                "remove it from the source, or take it in again with --allow-purged",
            )
    return refused


async def tombstones(conn: Connection, tenant: str) -> list[Tombstone]:
    """The tenant's tombstones; the transaction must have entered it."""
    rows = await (await conn.execute(QUERIES["tombstones"], {"tenant": tenant})).fetchall()
    return [
        Tombstone(document=row[0], texts=frozenset(row[1]), purged_at=row[2], salt=UUID(str(row[3])).bytes)
        for row in rows
    ]


def _digest(salt: bytes, text: str) -> bytes:
    """As the SQL function `retrieval.digest` makes it."""
    return hashlib.sha256(salt + text.encode()).digest()
