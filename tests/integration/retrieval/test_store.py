"""The store when things go wrong: roles, deadlines, cancellation, a database that is gone."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import numpy as np
import psycopg
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

from retrieval.connections import Pool
from retrieval.documents import Access
from retrieval.errors import RetrievalTimeoutError, StoreError, StoreRoleError, StoreUnavailableError
from retrieval.hits import SearchRequest
from retrieval.jobs import JobStore
from retrieval.langchain import TwinrailVectorStore, connect
from retrieval.publishing import Publisher
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore
from tests.conftest import TestServer
from tests.fakes.embedding import WordEmbedder
from tests.integration.retrieval.conftest import Publish

PUBLIC = Access(tenant="acme", principals=("public",))


async def request(store: KnowledgeStore, timeout_s: float = 5.0) -> SearchRequest:
    version = (await store.pointer()).stable
    return SearchRequest(question="red", access=PUBLIC, version=version, timeout_s=timeout_s)


@asynccontextmanager
async def blocked_searches(database_url: str) -> AsyncIterator[None]:
    """Hold a lock that every search needs."""
    async with await psycopg.AsyncConnection.connect(database_url) as conn:
        await conn.execute("LOCK TABLE retrieval.chunk IN ACCESS EXCLUSIVE MODE")
        yield
        await conn.rollback()


async def waiting_searches(database_url: str) -> int:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as conn:
        row = await (
            await conn.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND state = 'active' AND query LIKE '%retrieval.search%' AND pid <> pg_backend_pid()"
            )
        ).fetchone()
    assert row is not None
    return int(row[0])


async def test_plain_role_passes_the_check(store: KnowledgeStore) -> None:
    await store.check()


@pytest.fixture
def bare_database_url(postgres: TestServer) -> Iterator[str]:
    """A database that nobody has migrated."""
    name = f"bare_{secrets.token_hex(6)}"
    names = {"name": sql.Identifier(name), "role": sql.Identifier(postgres.role)}
    postgres.execute(sql.SQL("CREATE DATABASE {name} OWNER {role}").format(**names))
    yield postgres.database_url(name)
    postgres.execute(sql.SQL("DROP DATABASE {name} WITH (FORCE)").format(**names))


async def test_a_database_that_nobody_migrated_says_so(
    bare_database_url: str, embedder: WordEmbedder
) -> None:
    def request_of(version: str) -> SearchRequest:
        return SearchRequest(question="red", access=PUBLIC, version=version)

    async with AsyncConnectionPool(bare_database_url, min_size=1, max_size=1, open=False) as pool:
        store = KnowledgeStore(pool)
        retriever = Retriever(store=store, embedders={embedder.id: embedder})
        for work in (
            store.pointer(),
            JobStore(store).jobs("acme"),
            retriever.search(request_of("k-a-00000000")),
        ):
            with pytest.raises(StoreError, match=r"does not exist.*run `twinrail migrate`"):
                await work
    access = Access(tenant="acme", principals=("public",))
    async with connect(bare_database_url, DeterministicFakeEmbedding(size=8), model_id="fake-8") as rails:
        with pytest.raises(StoreError, match="run `twinrail migrate`"):
            await TwinrailVectorStore(rails, access).aadd_texts(["red"])


async def test_superuser_is_refused(postgres: TestServer, database_url: str) -> None:
    database = database_url.rsplit("/", 1)[-1]
    admin = make_conninfo(postgres.admin_url, dbname=database)
    async with AsyncConnectionPool(admin, min_size=1, max_size=1, open=False) as pool:
        with pytest.raises(StoreRoleError, match="BYPASSRLS"):
            await KnowledgeStore(pool).check()


async def test_deadline_stops_the_statement(
    store: KnowledgeStore, retriever: Retriever, publish: Publish, database_url: str
) -> None:
    await publish({"a": "red"})
    asked = await request(store, timeout_s=0.4)
    await retriever.search(await request(store))
    async with blocked_searches(database_url):
        with pytest.raises(RetrievalTimeoutError):
            await retriever.search(asked)
        assert await waiting_searches(database_url) == 0
    assert len((await retriever.search(asked)).hits) == 1


async def test_the_statement_itself_carries_the_deadline(
    store: KnowledgeStore, publish: Publish, database_url: str
) -> None:
    await publish({"a": "red"})
    version = (await store.pointer()).stable
    vector = [0.0] * 31 + [1.0]
    async with blocked_searches(database_url):
        with pytest.raises(RetrievalTimeoutError) as caught:
            await store.search(
                PUBLIC,
                version=version,
                question="red",
                embedding=np.array(vector, dtype=np.float32),
                k=1,
                filters={},
                as_of=None,
                effective_on=None,
                timeout_s=0.2,
            )
    assert isinstance(caught.value.__cause__, psycopg.errors.QueryCanceled)


async def test_cancelling_frees_statement_and_connection(
    store: KnowledgeStore, retriever: Retriever, publish: Publish, pool: Pool, database_url: str
) -> None:
    await publish({"a": "red"})
    asked = await request(store)
    async with blocked_searches(database_url):
        tasks = [asyncio.create_task(retriever.search(asked)) for _ in range(4)]
        for _ in range(500):
            if await waiting_searches(database_url) == 4:
                break
            await asyncio.sleep(0.01)
        assert await waiting_searches(database_url) == 4
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        assert await waiting_searches(database_url) == 0
    assert len((await retriever.search(asked)).hits) == 1
    assert pool.get_stats()["pool_available"] == pool.get_stats()["pool_size"]


async def test_exhausted_pool_is_unavailable_not_a_hang(publish: Publish, pool: Pool) -> None:
    await publish({"a": "red"})
    store = KnowledgeStore(pool, acquire_timeout_s=0.05)
    held = [await pool.getconn() for _ in range(4)]
    try:
        with pytest.raises(StoreUnavailableError) as caught:
            await store.snapshot("acme")
        assert caught.value.retryable
    finally:
        for conn in held:
            await pool.putconn(conn)
    assert await store.snapshot("acme") == 1


async def test_connections_lost_to_a_restart_are_replaced(
    store: KnowledgeStore, retriever: Retriever, publish: Publish, pool: Pool, postgres: TestServer
) -> None:
    await publish({"a": "red"})
    asked = await request(store)
    assert len((await retriever.search(asked)).hits) == 1
    with psycopg.connect(postgres.admin_url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", [postgres.role]
        )
    assert len((await retriever.search(asked)).hits) == 1


async def test_database_that_is_gone() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"postgresql://nobody@127.0.0.1:{port}/nothing"
    pool: Pool = AsyncConnectionPool(url, min_size=1, max_size=1, open=False, reconnect_timeout=0.1)
    await pool.open(wait=False)
    try:
        with pytest.raises(StoreUnavailableError):
            await KnowledgeStore(pool, acquire_timeout_s=0.1).pointer()
    finally:
        await pool.close()


async def test_publish_is_all_or_nothing(store: KnowledgeStore, publish: Publish, database_url: str) -> None:
    """A publish that fails at its last statement leaves no trace."""
    await publish({"a": "red"})
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("ALTER TABLE retrieval.snapshot ADD CONSTRAINT no_more CHECK (number < 2)")
        with pytest.raises(Exception, match="no_more"):
            await publish({"a": "blue", "b": "green"})
        conn.execute("ALTER TABLE retrieval.snapshot DROP CONSTRAINT no_more")
    assert await store.snapshot("acme") == 1
    documents = await Publisher(store, "acme").live_documents(await Publisher(store, "acme").position())
    assert list(documents) == ["a"]
    assert (await publish({"a": "blue", "b": "green"})).snapshot == 2


async def test_concurrent_publishes_do_not_mix(store: KnowledgeStore, publish: Publish) -> None:
    await publish({"a": "red"})
    undone = await store.undo("acme", "publish")
    assert (undone.before, undone.after) == ("1", "0")
    publisher = Publisher(store, "acme")
    position = await publisher.position()
    assert (position.head, position.previous, position.newest) == (0, 1, 1)
