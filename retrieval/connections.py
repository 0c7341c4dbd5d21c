"""Borrow a connection, and turn what PostgreSQL and the pool raise into this package's errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool

from retrieval.errors import (
    EmbedderMismatchError,
    FilterError,
    RetrievalError,
    RetrievalTimeoutError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    UnknownSnapshotError,
    UnknownVersionError,
)

Pool = AsyncConnectionPool[Any]
Connection = psycopg.AsyncConnection[Any]

#: SQLSTATE values that our own functions raise.
_RAISED: dict[str, type[RetrievalError]] = {
    "TWR01": UnknownVersionError,
    "TWR02": UnknownSnapshotError,
    "TWR03": FilterError,
    "TWR04": EmbedderMismatchError,
}


@asynccontextmanager
async def borrowed(pool: Pool, *, timeout_s: float) -> AsyncIterator[Connection]:
    """A connection in autocommit, whatever the pool's habit, so that one statement is one round trip."""
    try:
        async with pool.connection(timeout=timeout_s) as conn:
            habit = conn.autocommit
            if not habit:
                await conn.set_autocommit(True)
            try:
                yield conn
            finally:
                if not habit and not conn.closed:
                    if conn.info.transaction_status != TransactionStatus.IDLE:
                        await conn.rollback()
                    await conn.set_autocommit(False)
    except psycopg.Error as exc:
        raise translated(exc) from exc


async def row_of(conn: Connection, statement: LiteralString, params: Mapping[str, object]) -> tuple[Any, ...]:
    """The row of a statement that always has one."""
    row = await (await conn.execute(statement, params)).fetchone()
    if row is None:
        raise StoreError("database: a statement returned no row; run `twinrail migrate`")
    return tuple(row)


def translated(exc: psycopg.Error) -> RetrievalError:
    """The error of ours that a caller can act on."""
    detail = (exc.diag.message_primary or str(exc)).strip().splitlines()
    line = detail[0] if detail else type(exc).__name__
    if exc.sqlstate in _RAISED:
        return _RAISED[exc.sqlstate](line)
    if isinstance(exc, psycopg.errors.QueryCanceled):
        return RetrievalTimeoutError()
    if isinstance(exc, psycopg.errors.DiskFull):
        return StoreFullError()
    if isinstance(exc, (psycopg.OperationalError, psycopg.InterfaceError)):
        return StoreUnavailableError(f"database: {line}")
    return StoreError(f"database: {line}")
