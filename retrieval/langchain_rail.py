"""The knowledge rail as LangChain's objects hold it: opened for each event loop that uses it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import psycopg
from langchain_core.embeddings import Embeddings
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from retrieval.chunking import NO_CHUNKERS, Chunker, WholeChunker
from retrieval.connections import Pool
from retrieval.embedding import Embedder
from retrieval.errors import StoreUnavailableError
from retrieval.eventloops import PerLoop
from retrieval.langchain_embeddings import opener_of
from retrieval.reranking import Reranker
from retrieval.search import Retriever
from retrieval.starting import first_version
from retrieval.store import KnowledgeStore
from retrieval.versions import KnowledgeVersion, VersionState


@dataclass(frozen=True, slots=True, kw_only=True)
class Rail:
    """What reads and writes need, on one event loop."""

    store: KnowledgeStore
    retriever: Retriever
    #: Of every index version that is written; the first makes the first version of an empty rail.
    embedders: Sequence[Embedder]
    #: Those that are not our own, by the id that an index version names.
    chunkers: Mapping[str, Chunker]
    #: Publishes of one tenant overtake each other, so those of one event loop take turns.
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)


Rails: TypeAlias = PerLoop[Rail]


@asynccontextmanager
async def open_rail(
    database_url: str,
    embedders: Sequence[Embedder],
    *,
    chunkers: Mapping[str, Chunker] = NO_CHUNKERS,
    rerankers: Mapping[str, Reranker] | None = None,
    pool_size: int = 4,
    timeout_s: float = 10.0,
) -> AsyncIterator[Rail]:
    """The rail in this database, on the running event loop, until the block ends."""
    pool: Pool = AsyncConnectionPool(
        database_url,
        min_size=1,
        max_size=pool_size,
        open=False,
        timeout=timeout_s,
        reconnect_timeout=timeout_s,
    )
    try:
        try:
            await pool.open(wait=True, timeout=timeout_s)
        except (PoolTimeout, psycopg.Error) as exc:
            raise StoreUnavailableError("database_url: no answer; start that server or correct it") from exc
        store = KnowledgeStore(pool, acquire_timeout_s=timeout_s)
        await store.check()
        retriever = Retriever(
            store=store, embedders={each.id: each for each in embedders}, rerankers=rerankers
        )
        try:
            yield Rail(store=store, retriever=retriever, embedders=tuple(embedders), chunkers=chunkers)
        except asyncio.CancelledError:
            # The event loop ends, and so have the pool's own tasks, which would have closed these.
            await pool.drain()
            raise
        finally:
            await retriever.close()
    finally:
        await pool.close()


def connect(
    database_url: str,
    embeddings: Embeddings,
    *,
    model_id: str | None = None,
    dims: int | None = None,
    chunkers: Mapping[str, Chunker] = NO_CHUNKERS,
    rerankers: Mapping[str, Reranker] | None = None,
    pool_size: int = 4,
) -> Rails:
    """The rail in a migrated database, opened when it is first used.

    `model_id` names the model of `embeddings` for good: index versions are kept apart by it. Ours need none.
    `dims` spares the call that finds it out. A rail with versions of several embedders, or services on a
    session, need a function of their own around `open_rail`: `PerLoop(function)`.
    """
    opener = opener_of(embeddings, model_id=model_id, dims=dims)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Rail]:
        async with (
            opener() as embedder,
            open_rail(
                database_url, [embedder], chunkers=chunkers, rerankers=rerankers, pool_size=pool_size
            ) as rail,
        ):
            yield rail

    return PerLoop(opened)


async def ensure_version(rail: Rail) -> None:
    """On an empty rail, an index version that takes each text as it stands."""
    if all(version.state is VersionState.RETIRED for version in await rail.store.versions()):
        first = first_version(rail.embedders[0])
        await rail.store.register(
            KnowledgeVersion.make(
                name="langchain",
                embedder=first.embedder,
                dims=first.dims,
                chunker=WholeChunker.id,
                abstain_below=first.abstain_below,
            )
        )
