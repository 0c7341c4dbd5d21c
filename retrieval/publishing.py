"""Publish documents: one transaction, one new snapshot, in every index version that traffic can reach.

A snapshot is visible at once and as a whole. Rows are never rewritten for it: they are born in one snapshot
and die in another, so an undo only moves the head, and a search at an older snapshot finds what was there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
from psycopg.types.json import Jsonb

from retrieval.binary_rows import RealArray, RealArrayDumper
from retrieval.connections import Connection, borrowed, row_of
from retrieval.embedding import Vector
from retrieval.errors import PublishConflictError, RetrievalError, StoreError, VersionRetiredError
from retrieval.parsing import ParsedDocument
from retrieval.pointing import version_of
from retrieval.sql import named_queries
from retrieval.staging import HeldBy, StagedChunk, Target, copied, encoded_chunks, encoded_terms
from retrieval.store import QUERIES as STORE_QUERIES
from retrieval.store import KnowledgeStore
from retrieval.tombstones import Tombstone, tombstones

logger = logging.getLogger(__name__)

QUERIES = named_queries("retrieval.sql", "publishing.sql")
#: From this many new chunks on, if they are a tenth of all, the planner's statistics are renewed at once.
MANY_CHUNKS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where the tenant's snapshots stand."""

    head: int
    #: Where an undo would lead; None before the first publish.
    previous: int | None
    newest: int
    #: Documents that were erased until now: what was read before one of them may hold it.
    erasures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDocument:
    """A document that the store knows; `content_hash` is None when it is not live at the head."""

    id: str
    source: str
    file: str
    content_hash: str | None
    principals: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """Everything that one publish changes."""

    source: str
    position: Position
    #: Every index version that is not retired; `chunks` has the chunks of each.
    targets: Sequence[Target]
    chunks: Sequence[StagedChunk]
    #: New or changed documents.
    documents: Sequence[ParsedDocument] = ()
    #: Ids of documents that are gone.
    removed: Sequence[str] = ()
    #: Documents whose text stays and whose readers change: id -> principals.
    access: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Documents that stay and are read from another file: id -> file.
    renamed: Mapping[str, str] = field(default_factory=dict)
    #: How many of `documents` are new.
    added: int = 0
    #: Runs in the publish's own transaction, with the snapshot that it makes live: both happen, or neither.
    within: Callable[[Connection, int], Awaitable[None]] | None = None

    @property
    def moves_content(self) -> bool:
        """Whether there will be a new snapshot; permissions make none."""
        return bool(self.documents or self.removed)


class Publisher:
    """Writes of one tenant."""

    def __init__(self, store: KnowledgeStore, tenant: str) -> None:
        self._store = store
        self._tenant = tenant
        #: Erasures at the last `position`: vectors of what was read then are not kept after another one.
        self._erasures: int | None = None
        #: The connection of `alone`, whose transaction everything belongs to meanwhile.
        self._conn: Connection | None = None
        #: Chunks that were written there: statistics know of them only after its end.
        self._written_alone = 0

    async def position(self) -> Position:
        """Where the snapshots stand now."""
        async with self.entered() as conn:
            position = await self._position(conn)
        self._erasures = position.erasures
        return position

    async def tombstones(self) -> list[Tombstone]:
        """What is left of the documents that were erased."""
        async with self.entered() as conn:
            return await tombstones(conn, self._tenant)

    async def targets(self) -> list[Target]:
        """The index versions that a publish must write."""
        async with self.entered() as conn:
            return await _targets(conn)

    async def live_documents(self, position: Position) -> dict[str, LiveDocument]:
        """Every document that the tenant ever had, by id."""
        return await self._documents("live_documents", {"tenant": self._tenant, "head": position.head})

    async def _documents(self, query: str, params: Mapping[str, object]) -> dict[str, LiveDocument]:
        async with self.entered() as conn:
            rows = await (await conn.execute(QUERIES[query], params)).fetchall()
        return {
            row[0]: LiveDocument(
                id=row[0], source=row[1], file=row[2], content_hash=row[3], principals=tuple(row[4])
            )
            for row in rows
        }

    async def documents(self, position: Position, ids: Sequence[str]) -> dict[str, LiveDocument]:
        """Those of the ids that the tenant ever had."""
        params = {"tenant": self._tenant, "head": position.head, "ids": list(ids)}
        return await self._documents("live_documents_by_id", params)

    async def cached(self, embedder: str, hashes: Sequence[str]) -> set[str]:
        """Those of the hashes whose vectors are stored."""
        async with self.entered() as conn:
            params = {"embedder": embedder, "tenant": self._tenant, "hashes": list(hashes)}
            return {row[0] for row in await (await conn.execute(QUERIES["cached"], params)).fetchall()}

    async def add_to_cache(self, embedder: str, vectors: Iterable[tuple[str, Vector]]) -> None:
        """Keep vectors for good, so that a run that ends here has not computed them in vain."""
        hashes, rows = zip(*vectors, strict=True)
        params = {
            "embedder": embedder,
            "tenant": self._tenant,
            "hashes": list(hashes),
            "values": RealArray(np.concatenate(rows)),
            "dims": len(rows[0]),
        }
        async with self.entered() as conn, conn.cursor() as cursor:
            await conn.execute(QUERIES["lock_shared"], {"tenant": self._tenant})
            if self._erasures not in (None, (await self._position(conn)).erasures):
                raise PublishConflictError("a document was erased meanwhile, maybe one of these: run again")
            cursor.adapters.register_dumper(RealArray, RealArrayDumper)
            await cursor.execute(QUERIES["add_to_cache"], params)

    async def publish(self, publication: Publication) -> int:
        """Write it all or nothing; return the snapshot that is live afterwards."""
        async with self.entered() as conn:
            await self._require_unmoved(conn, publication)
            # Before the lock, so that what takes Python's time keeps no other publish waiting.
            await self._stage(conn, publication)
            await conn.execute(QUERIES["lock"], {"tenant": self._tenant})
            await conn.execute(QUERIES["lock_versions_shared"])
            await self._require_unmoved(conn, publication)
            number = await self._write(conn, publication)
        if self._conn is None:
            await self._renew_statistics(len(publication.chunks))
        else:
            self._written_alone += len(publication.chunks)
        return number

    async def _require_unmoved(self, conn: Connection, publication: Publication) -> None:
        if await self._position(conn) != publication.position:
            raise PublishConflictError
        written = {target.number for target in publication.targets}
        if written != {target.number for target in await _targets(conn)}:
            raise PublishConflictError("an index version came or went meanwhile: run the ingest again")

    async def _renew_statistics(self, added: int) -> None:
        """After many chunks. Never fails: the publish is done."""
        if added < MANY_CHUNKS:
            return
        try:
            async with borrowed(self._store.pool, timeout_s=self._store.acquire_timeout_s) as conn:
                (analyzed,) = await row_of(conn, QUERIES["analyzed_chunks"], {})
                if 10 * added >= analyzed:
                    await conn.execute(QUERIES["analyze_chunks"])
        except RetrievalError:
            logger.warning("statistics not renewed", exc_info=True, extra={"action": "analyze_chunks"})

    async def fill(self, target: Target, chunks: Sequence[StagedChunk]) -> bool:
        """Add the chunks of releases that exist, all or nothing; False: a vector is gone, embed again.

        Under the lock of publishes, so that lives, readers and erasures are those of this moment. A release
        that has got chunks meanwhile keeps them.
        """
        async with self.entered() as conn:
            await self._stage_chunks(conn, chunks)
            await conn.execute(QUERIES["lock"], {"tenant": self._tenant})
            await conn.execute(QUERIES["lock_versions_shared"])
            # Once more: what was waited for may have been a publish with readers that nobody knew before.
            await conn.execute(STORE_QUERIES["enter_with_all_principals"])
            if target.number not in {known.number for known in await _targets(conn)}:
                raise VersionRetiredError(
                    f"version: {target.version.id} was retired while it was being built"
                )
            params = {"tenant": self._tenant, "new": 0}
            (lost,) = await row_of(conn, QUERIES["lost_vectors"], params)
            if lost:
                return False
            dropped = (await conn.execute(QUERIES["drop_filled"], params)).rowcount
            written = (await conn.execute(QUERIES["add_chunks"], params)).rowcount
            if written != len(chunks) - dropped:
                raise StoreError(
                    f"{len(chunks) - dropped - written} chunks found no document: run the build again"
                )
            for step in ("move_filled", "count_terms", "count_chunks"):
                await conn.execute(QUERIES[step], params)
        return True

    async def _write(self, conn: Connection, publication: Publication) -> int:
        position = publication.position
        new = position.newest + 1 if publication.moves_content else position.head
        params = {"tenant": self._tenant, "new": new, "head": position.head, "source": publication.source}
        names = {name for parsed in publication.documents for name in parsed.document.principals}
        names.update(name for principals in publication.access.values() for name in principals)
        await conn.execute(QUERIES["add_tenant"], params)
        await conn.execute(QUERIES["add_principals"], {"tenant": self._tenant, "names": sorted(names)})
        await conn.execute(STORE_QUERIES["enter_with_all_principals"])
        if publication.moves_content:
            for step in _steps_before(publication):
                await conn.execute(QUERIES[step], params)
            for step in ("number_documents", "add_documents", "add_document_versions", "add_releases"):
                await conn.execute(QUERIES[step], params)
        await conn.execute(QUERIES["change_access"], params)
        renamed = {"ids": list(publication.renamed), "files": list(publication.renamed.values())}
        await conn.execute(QUERIES["rename_files"], {**params, **renamed})
        written = (await conn.execute(QUERIES["add_chunks"], params)).rowcount
        if written != len(publication.chunks):
            raise StoreError(
                f"{len(publication.chunks) - written} chunks found no vector: run the ingest again"
            )
        for step in ("move_added", "count_terms", "count_chunks", "add_filter_fields"):
            await conn.execute(QUERIES[step], params)
        if publication.moves_content:
            counts = {
                "added": publication.added,
                "changed": len(publication.documents) - publication.added,
                "removed": len(publication.removed),
            }
            await conn.execute(QUERIES["add_snapshot"], {**params, **counts})
            if await (await conn.execute(QUERIES["move_head"], params)).fetchone() is None:
                raise PublishConflictError
        if publication.within is not None:
            await publication.within(conn, new)
        return new

    async def _stage(self, conn: Connection, publication: Publication) -> None:
        """Bring everything into temporary tables with COPY; what follows are joins."""
        held_by = await self._stage_chunks(conn, publication.chunks)
        async with conn.cursor() as cursor:
            async with cursor.copy(QUERIES["copy_terms"]) as copy:
                for block in copied(encoded_terms(held_by)):
                    await copy.write(block)
            async with cursor.copy(QUERIES["copy_documents"]) as copy:
                for parsed in publication.documents:
                    await copy.write_row(_document_row(parsed))
            await cursor.execute(QUERIES["stage_removals"], {"ids": list(publication.removed)})
            await cursor.executemany(
                QUERIES["stage_access"],
                [{"id": key, "principals": list(value)} for key, value in publication.access.items()],
            )
            await cursor.execute(QUERIES["index_staged"])
            await cursor.execute(QUERIES["analyze_staged"])

    async def _stage_chunks(self, conn: Connection, chunks: Sequence[StagedChunk]) -> HeldBy:
        await conn.execute(QUERIES["stage"])
        held_by: HeldBy = {}
        async with conn.cursor() as cursor, cursor.copy(QUERIES["copy_chunks"]) as copy:
            for block in copied(encoded_chunks(self._tenant, chunks, held_by)):
                await copy.write(block)
        return held_by

    async def _position(self, conn: Connection) -> Position:
        row = await row_of(conn, QUERIES["position"], {"tenant": self._tenant})
        return Position(head=row[0], previous=row[1], newest=row[2], erasures=row[3])

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Nobody else publishes for this tenant meanwhile; all that is done is one transaction.

        For a writer whom others overtook again and again. They wait as long as it takes, embedding too, or
        until the server ends a transaction that stands still for minutes.
        """
        self._written_alone = 0
        async with self.entered() as conn:
            await conn.execute(QUERIES["lock"], {"tenant": self._tenant})
            # Once more: what was waited for may have been a publish with readers that nobody knew before.
            await conn.execute(STORE_QUERIES["enter_with_all_principals"])
            await conn.execute(QUERIES["allow_pauses"])
            self._conn = conn
            try:
                yield
            finally:
                self._conn = None
        await self._renew_statistics(self._written_alone)

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[Connection]:
        """A transaction as the tenant with all its principals: a writer must see what it replaces."""
        if self._conn is not None:
            async with self._conn.transaction():
                yield self._conn
            return
        async with (
            borrowed(self._store.pool, timeout_s=self._store.acquire_timeout_s) as conn,
            conn.transaction(),
        ):
            await conn.execute(STORE_QUERIES["enter"], {"tenant": self._tenant})
            await conn.execute(STORE_QUERIES["enter_with_all_principals"])
            yield conn


def _steps_before(publication: Publication) -> tuple[str, ...]:
    """What must happen to older rows: nothing, where all documents are new and nothing was undone before."""
    position = publication.position
    if position.newest > position.head:
        retired = ("retire_chunks", "retire_undone_chunks", "retire_releases", "retire_undone_releases")
        return (*retired, "restore_chunks", "restore_releases")
    if publication.removed or publication.added < len(publication.documents):
        return ("retire_chunks", "retire_releases")
    return ()


async def _targets(conn: Connection) -> list[Target]:
    cursor = await conn.execute(QUERIES["targets"])
    names = [column.name for column in cursor.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]
    return [Target(number=row.pop("number"), version=version_of(row)) for row in rows]


def _document_row(parsed: ParsedDocument) -> tuple[object, ...]:
    document = parsed.document
    return (
        document.id,
        parsed.content_hash,
        document.title,
        document.text,
        Jsonb([block.row() for block in parsed.blocks], dumps=json.dumps),
        document.url,
        document.language,
        document.effective_from,
        document.effective_to,
        Jsonb(dict(document.metadata)),
        list(document.principals),
        parsed.file,
    )
