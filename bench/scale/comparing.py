"""The same questions to the same chunks: our search, langchain-postgres, and pgvector by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from bench.load import percentile
from bench.scale.corpus import tenant_name
from bench.scale.database import GivenVectors, Loaded, everybody
from bench.scale.peer import Peer
from bench.scale.seeds import Seeds
from retrieval.embedding import Vector
from retrieval.hits import SearchRequest
from retrieval.search import Retriever
from retrieval.sql import named_queries
from retrieval.store import KnowledgeStore, Legs

QUERIES = named_queries("bench.scale.sql", "comparing.sql")
K = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Questions, each by one tenant (its place by size)."""

    questions: tuple[str, ...]
    vectors: Vector
    tenants: tuple[int, ...]

    @property
    def tenant_names(self) -> list[str]:
        return [tenant_name(place) for place in self.tenants]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Chunk ids of each question in order, how long each took, and all of them together."""

    ids: list[list[int]]
    ms: list[float]
    seconds: float

    @property
    def p50_ms(self) -> float:
        return round(percentile(self.ms, 0.5), 1)

    @property
    def p95_ms(self) -> float:
        return round(percentile(self.ms, 0.95), 1)

    @property
    def per_second(self) -> float:
        return round(len(self.ms) / self.seconds, 1)

    @property
    def rows(self) -> float:
        """Rows that a question got, in the mean."""
        return sum(map(len, self.ids)) / len(self.ids)

    def short(self, possible: int) -> int:
        """Questions that got fewer rows than there are to get: one lost row is not lost in a mean."""
        return sum(len(got) < possible for got in self.ids)

    def recall(self, truth: Sequence[Sequence[int]]) -> float:
        """Share of the true nearest that came back."""
        shares = [len(set(got) & set(true)) / len(true) for got, true in zip(self.ids, truth, strict=True)]
        return round(sum(shares) / len(shares), 3)


def asked_by(seeds: Seeds, places: Sequence[int], *, count: int, seed: int = 0) -> Asked:
    """Real questions in a random order, as tenants drawn from `places`."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(seeds.questions))[:count]
    if len(rows) < count:
        rows = rng.choice(len(seeds.questions), count)
    return Asked(
        questions=tuple(seeds.questions[row] for row in rows),
        vectors=seeds.question_vectors[rows],
        tenants=tuple(int(place) for place in rng.choice(np.asarray(places), count)),
    )


def traffic(sizes: Sequence[int], count: int, seed: int = 0) -> list[int]:
    """Tenants as often as they are large."""
    shares = np.asarray(sizes) / sum(sizes)
    return [int(place) for place in np.random.default_rng(seed).choice(len(sizes), count, p=shares)]


def place_of_share(sizes: Sequence[int], share: float) -> int:
    """The tenant whose share of all chunks is nearest, by ratio."""
    return int(np.argmin(np.abs(np.log(np.asarray(sizes) / sum(sizes) / share))))


def fill_peer(peer: Peer, loaded: Loaded, dims: int, say: Callable[[str], None] = print) -> dict[str, float]:
    """Give langchain-postgres the same chunks and its own indexes, once; seconds of each step."""
    with psycopg.connect(loaded.admin_url, autocommit=True) as conn:
        known = conn.execute(QUERIES["peer_is_filled"]).fetchone()
        if not (known and known[0]):
            say("  filling langchain-postgres's table")
            peer.create()
            began = time.perf_counter()
            conn.execute(statement("fill_peer", loaded, dims))
            seconds = {"rows_s": time.perf_counter() - began, **peer.index()}
            conn.execute(QUERIES["analyze_peer"])
            conn.execute(QUERIES["remember_peer"], {"seconds": Jsonb(seconds)})
            say("  " + ", ".join(f"{name}: {value:.0f}" for name, value in seconds.items()))
        conn.execute(QUERIES["prewarm_peer"])
        facts = conn.execute(QUERIES["peer_seconds"]).fetchone()
    found: dict[str, float] = facts[0] if facts else {}
    return found


def statement(name: str, loaded: Loaded, dims: int) -> sql.Composed:
    """A query on the partition of the corpus."""
    return sql.SQL(QUERIES[name]).format(partition=sql.Identifier(loaded.partition), dims=sql.Literal(dims))


async def ask_ours(
    loaded: Loaded, seeds: Seeds, asked: Asked, *, legs: Legs = "both", clients: int = 1
) -> Answers:
    """Our search as the gateway calls it, with the question's vector at hand."""
    embedder = GivenVectors(loaded.embedder, seeds.questions, seeds.question_vectors)
    async with AsyncConnectionPool(loaded.url, min_size=clients, max_size=clients, open=False) as pool:
        await pool.wait()
        retriever = Retriever(store=KnowledgeStore(pool), embedders={embedder.id: embedder})

        async def ask(place: int) -> list[int]:
            request = SearchRequest(
                question=asked.questions[place],
                access=everybody(tenant_name(asked.tenants[place])),
                version=loaded.version,
                k=K,
                timeout_s=60,
            )
            result = await retriever.search(request, legs=legs)
            return [hit.chunk_id for hit in result.hits]

        return await _timed(len(asked.questions), ask, clients)


def ask_peer(peer: Peer, asked: Asked, *, hybrid: bool, ef_search: int | None, clients: int = 1) -> Answers:
    """langchain-postgres, filtered by its tenant column."""
    found = peer.search(
        asked.questions,
        asked.vectors,
        asked.tenant_names,
        k=K,
        hybrid=hybrid,
        ef_search=ef_search,
        clients=clients,
    )
    ids = [[_number(each) for each in row] for row in found.ids]
    return Answers(ids=ids, ms=found.ms, seconds=found.seconds)


async def ask_sql(
    name: str, loaded: Loaded, asked: Asked, *, clients: int = 1, settings: str | None = None
) -> Answers:
    """One of the statements of comparing.sql, as superuser and so without row-level security. `settings` names
    another one, which each connection runs first.
    """
    dims = asked.vectors.shape[1]
    composed = statement(name, loaded, dims)

    async def configure(conn: psycopg.AsyncConnection[Any]) -> None:
        if settings:
            await conn.execute(QUERIES[settings])

    async with AsyncConnectionPool(
        loaded.admin_url,
        min_size=clients,
        max_size=clients,
        open=False,
        kwargs={"autocommit": True},
        configure=configure,
    ) as pool:
        await pool.wait()

        async def ask(place: int) -> list[int]:
            params: dict[str, Any] = {
                "tenant": tenant_name(asked.tenants[place]),
                "vector": str(asked.vectors[place].tolist()),
                "k": K,
            }
            async with pool.connection() as conn:
                rows = await (await conn.execute(composed, params)).fetchall()
            return [_number(row[0]) for row in rows]

        return await _timed(len(asked.questions), ask, clients)


async def _timed(count: int, ask: Callable[[int], Awaitable[list[int]]], clients: int) -> Answers:
    ids: list[list[int]] = [[] for _ in range(count)]
    ms = [0.0] * count
    queue = iter(range(count))

    async def client() -> None:
        for place in queue:
            began = time.perf_counter()
            ids[place] = await ask(place)
            ms[place] = (time.perf_counter() - began) * 1000

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return Answers(ids=ids, ms=ms, seconds=time.perf_counter() - began)


def _number(chunk: object) -> int:
    """A chunk's id, also where it was made a UUID of."""
    return chunk if isinstance(chunk, int) else int(str(chunk).replace("-", ""), 16)


def sizes_of_peer(loaded: Loaded) -> dict[str, int]:
    """Bytes of langchain-postgres's table and indexes."""
    with psycopg.connect(loaded.admin_url) as conn:
        return {str(name): int(size) for name, size in conn.execute(QUERIES["sizes_peer"]).fetchall()}
