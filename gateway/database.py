"""Transactions on the gateway's pool: tenant set, errors translated, reads tried twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from gateway.errors import RecordsUnavailableError
from gateway.sql import queries

Pool = AsyncConnectionPool[psycopg.AsyncConnection[Any]]
Cursor = psycopg.AsyncCursor[DictRow]
T = TypeVar("T")


class Database:
    """The pool with the two things that every statement of the gateway needs."""

    def __init__(self, pool: Pool, *, acquire_timeout_s: float = 2.0) -> None:
        self._pool = pool
        self._acquire_timeout_s = acquire_timeout_s

    @asynccontextmanager
    async def cursor(self) -> AsyncIterator[Cursor]:
        """A cursor without a tenant, for one statement that is its own transaction."""
        try:
            async with (
                self._pool.connection(timeout=self._acquire_timeout_s) as conn,
                conn.cursor(row_factory=dict_row) as cursor,
            ):
                yield cursor
        except (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError):
            raise  # about the statement; everything else is about the server: gone, read-only, full
        except (psycopg.Error, PoolTimeout, PoolClosed, TooManyRequests) as exc:
            raise RecordsUnavailableError from exc

    @asynccontextmanager
    async def transaction(self, tenant: str | None) -> AsyncIterator[Cursor]:
        """A transaction that sees the rows of `tenant`, or none without one."""
        async with self.cursor() as cursor, cursor.connection.transaction():
            if tenant is not None:
                await cursor.execute(queries["set_tenant"], {"tenant": tenant})
            yield cursor

    async def read(self, tenant: str | None, work: Callable[[Cursor], Awaitable[T]]) -> T:
        """Reads are tried once more: the first try may have met a connection that had died in the pool."""
        try:
            async with self.transaction(tenant) as cursor:
                return await work(cursor)
        except RecordsUnavailableError as exc:
            if isinstance(exc.__cause__, (PoolTimeout, PoolClosed, TooManyRequests)):
                raise
            async with self.transaction(tenant) as cursor:
                return await work(cursor)

    async def has_schema(self) -> bool:
        """Whether the gateway's migrations have run."""

        async def select(cursor: Cursor) -> bool:
            await cursor.execute(queries["schema_is_there"])
            row = await cursor.fetchone()
            return bool(row and row["there"])

        return await self.read(None, select)

    async def ping(self) -> None:
        """Raises RecordsUnavailableError when the database does not answer."""

        async def select(cursor: Cursor) -> None:
            await cursor.execute(queries["ping"])

        await self.read(None, select)
