"""Build an index version beside the live ones, from stored text, while they serve and publishes go on.

Publishes write every version that is not retired, so a build adds only what was there before: batch by batch,
each in a transaction that holds the tenant's publish lock and looks again at what has become of its releases.
A build that was killed goes on where it was, and embeds at most one batch of vectors again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from retrieval.chunking import NO_CHUNKERS, Block, BlockKind, Chunker, chunker_of, cut
from retrieval.connections import Connection, borrowed, row_of
from retrieval.embedding import Embedder, unit_vectors
from retrieval.errors import (
    BuildRunningError,
    EmbedderMismatchError,
    EmbeddingRefusedError,
    PublishConflictError,
    RequestError,
    UnknownVersionError,
)
from retrieval.lexing import LEXER
from retrieval.partitions import DEFAULT_RESOURCES, IndexResources, sweep
from retrieval.publishing import Publisher
from retrieval.sql import named_queries
from retrieval.staging import StagedChunk, Target, Unfilled
from retrieval.store import KnowledgeStore
from retrieval.versions import KnowledgeVersion, VersionState

QUERIES = named_queries("retrieval.sql", "building.sql")
#: Chunks between two commits of vectors: what a killed build may have to embed again.
CACHE_BATCH = 32
#: Releases and bytes of text that are in memory at a time.
BATCH_RELEASES = 64
BATCH_BYTES = 2 * 1024 * 1024
#: How often one batch is tried anew because an erasure took away what it had read.
ATTEMPTS = 5
#: Between two looks at whether another process has ended its part.
WAIT_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildProgress:
    """How far a build is: releases while it fills, nothing countable while it makes the indexes."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """What a build did."""

    version: str
    releases: int
    chunks: int
    embedded: int
    #: Tenant -> the first snapshot that the version holds whole.
    earliest: Mapping[str, int]
    #: Asked to stop before the end; the next build goes on from here.
    stopped: bool


OnProgress = Callable[[BuildProgress], None]


def require_parts(
    version: KnowledgeVersion, embedders: Mapping[str, Embedder], chunkers: Mapping[str, Chunker]
) -> tuple[Embedder, Chunker]:
    """The embedder and the chunker that a version names, or an error that names what is missing."""
    embedder = embedders.get(version.embedder)
    if embedder is None:
        raise EmbedderMismatchError(
            f"embedder: {version.id} needs {version.embedder}; at hand: {', '.join(embedders) or 'none'}; "
            "name its service in RETRIEVAL_EMBEDDERS"
        )
    if embedder.dims != version.dims:
        raise EmbedderMismatchError(
            f"dims: {version.id} has {version.dims}, and {embedder.id} makes vectors of {embedder.dims}; "
            "register a version with the embedder's own number"
        )
    if version.lexer != LEXER:
        raise UnknownVersionError(f"lexer: {version.id} needs {version.lexer}; this release has {LEXER}")
    return embedder, chunker_of(version.chunker, chunkers)


async def build(
    store: KnowledgeStore,
    embedders: Mapping[str, Embedder],
    version_id: str,
    *,
    chunkers: Mapping[str, Chunker] = NO_CHUNKERS,
    since: int | None = None,
    resources: IndexResources = DEFAULT_RESOURCES,
    on_progress: OnProgress = lambda _progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> BuildReport:
    """Fill a registered version for every tenant, then make its indexes and let it take traffic.

    It holds what every head and an undo of it can show; with `since`, all that was live at that snapshot or
    later, also for a version that is ready. `on_progress` is called between batches; what it raises ends the
    build there, and so does `should_stop`, without an error.
    """
    if since is not None and since < 0:
        raise RequestError(f"since: {since} is not the number of a snapshot; give 0 or more")
    version = await store.version(version_id)
    embedder, chunker = require_parts(version, embedders, chunkers)
    async with _alone(store, version_id):
        run = _Run(store, version, embedder, chunker, since, on_progress, should_stop)
        while True:
            for tenant in await store.tenants():
                if not await run.fill(tenant):
                    return run.report(stopped=True)
            if version.state is VersionState.READY:
                return run.report(stopped=False)
            on_progress(BuildProgress(stage="index", done=run.done, total=run.total))
            if not await store.make_ready(version_id, resources=resources):
                return run.report(stopped=False)
            # Somebody restored, meanwhile, documents of an undone publish that were not in the version yet.


class _Run:
    """One build: what it has done so far, over all tenants."""

    def __init__(
        self,
        store: KnowledgeStore,
        version: KnowledgeVersion,
        embedder: Embedder,
        chunker: Chunker,
        since: int | None,
        on_progress: OnProgress,
        should_stop: Callable[[], bool],
    ) -> None:
        self._store = store
        self._version = version
        self._embedder = embedder
        self._chunker = chunker
        self._since = since
        self._say = on_progress
        self._should_stop = should_stop
        self._chunks = 0
        self._embedded = 0
        self._earliest: dict[str, int] = {}
        self.done = 0
        self.total = 0

    def report(self, *, stopped: bool) -> BuildReport:
        """What was done until now."""
        return BuildReport(
            version=self._version.id,
            releases=self.done,
            chunks=self._chunks,
            embedded=self._embedded,
            earliest=dict(self._earliest),
            stopped=stopped,
        )

    async def fill(self, tenant: str) -> bool:
        """Bring in what the version lacks of one tenant; False when asked to stop."""
        publisher = Publisher(self._store, tenant)
        target = await self._target(publisher)
        scope: dict[str, object] = {"tenant": tenant, "index_number": target.number}
        async with publisher.entered() as conn:
            (earliest,) = await row_of(conn, QUERIES["earliest"], {**scope, "since": self._since})
            scope["earliest"] = earliest
            (lacking,) = await row_of(conn, QUERIES["count_unfilled"], scope)
        self.total += lacking
        after: tuple[str, int] = ("", -1)
        while True:
            self._say(BuildProgress(stage="fill", done=self.done, total=max(self.total, self.done)))
            if self._should_stop():
                return False
            batch = await self._batch(publisher, target, scope, after)
            if not batch:
                break
            self.done += len(batch)
            after = (batch[-1].document_id, batch[-1].born)
        async with publisher.entered() as conn:
            # Last, so that nobody asks for a snapshot before it is whole.
            await conn.execute(QUERIES["cover"], scope)
        self._earliest[tenant] = earliest
        return True

    async def _target(self, publisher: Publisher) -> Target:
        for target in await publisher.targets():
            if target.version.id == self._version.id:
                return target
        # Retired meanwhile: says so.
        await self._store.version(self._version.id)
        raise PublishConflictError(f"version: {self._version.id} was registered anew meanwhile; run it again")

    async def _batch(
        self, publisher: Publisher, target: Target, scope: Mapping[str, object], after: tuple[str, int]
    ) -> list[Unfilled]:
        """The next releases, which are in the version afterwards; none at the end."""
        for _ in range(ATTEMPTS):
            # First, so that an erasure after it is noticed: what was read may be what was erased.
            await publisher.position()
            batch = await self._unfilled(publisher, scope, after)
            chunks = [
                StagedChunk(target=target, document_id=release.document_id, chunk=chunk, release=release)
                for release in batch
                for chunk in cut(self._chunker, release.title, release.body, release.blocks)
            ]
            try:
                await self._embed(publisher, chunks)
                if not batch or await publisher.fill(target, chunks):
                    self._chunks += len(chunks)
                    return batch
            except PublishConflictError:
                continue
        raise PublishConflictError("documents are being erased while this build runs: run it again later")

    async def _unfilled(
        self, publisher: Publisher, scope: Mapping[str, object], after: tuple[str, int]
    ) -> list[Unfilled]:
        limits = {"limit": BATCH_RELEASES, "budget": BATCH_BYTES}
        params = {**scope, **limits, "after_id": after[0], "after_born": after[1]}
        async with publisher.entered() as conn:
            rows = await (await conn.execute(QUERIES["unfilled"], params)).fetchall()
        return [
            Unfilled(
                document_id=row[0],
                document_version=row[1],
                born=row[2],
                title=row[3],
                body=row[4],
                blocks=tuple(Block(BlockKind(kind), level, start, end) for kind, level, start, end in row[5]),
            )
            for row in rows
        ]

    async def _embed(self, publisher: Publisher, chunks: Sequence[StagedChunk]) -> None:
        """Make and keep the vectors that are not there yet; equal texts count once."""
        texts = {staged.chunk.hash: staged for staged in chunks}
        for known in await publisher.cached(self._version.embedder, list(texts)):
            del texts[known]
        hashes = list(texts)
        for start in range(0, len(hashes), CACHE_BATCH):
            batch = hashes[start : start + CACHE_BATCH]
            wanted = [texts[each].chunk.embedded_text for each in batch]
            try:
                vectors = await unit_vectors(self._embedder, wanted)
            except EmbeddingRefusedError as exc:
                names = ", ".join(sorted({texts[each].document_id for each in batch}))
                raise EmbeddingRefusedError(
                    f"embedder: {self._embedder.id} refuses a text of one of the documents {names} ({exc}); "
                    "give the version a chunker of smaller pieces"
                ) from exc
            await publisher.add_to_cache(self._version.embedder, zip(batch, vectors, strict=True))
            self._embedded += len(batch)


async def finish(store: KnowledgeStore, version_id: str) -> None:
    """Make a version ready to which publishes alone have brought all; wait for whoever is at it.

    Asks again and again rather than waiting for the lock: a statement that waits keeps the indexes, for which
    all statements that were there before must end, from being made.
    """
    while (await store.version(version_id)).state is VersionState.BUILDING:
        try:
            async with _locked(store, version_id):
                if await store.make_ready(version_id):
                    return
        except BuildRunningError:
            await asyncio.sleep(WAIT_S)


@asynccontextmanager
async def _alone(store: KnowledgeStore, version_id: str) -> AsyncIterator[None]:
    """As `_locked`, and what a retirement that was broken off had left is gone."""
    async with _locked(store, version_id) as conn:
        await sweep(conn)
        yield


@asynccontextmanager
async def _locked(store: KnowledgeStore, version_id: str) -> AsyncIterator[Connection]:
    """Nobody else builds the version meanwhile. Takes one connection of the pool for as long."""
    async with borrowed(store.pool, timeout_s=store.acquire_timeout_s) as conn:
        params = {"version": version_id}
        (alone,) = await row_of(conn, QUERIES["try_lock"], params)
        if not alone:
            raise BuildRunningError(
                f"version: {version_id} is being built by another process; `twinrail knowledge versions` "
                "says how far it is"
            )
        try:
            yield conn
        finally:
            if not conn.closed:
                await conn.execute(QUERIES["unlock"], params)
