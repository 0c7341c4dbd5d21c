"""Borrow a connection, and turn what PostgreSQL and the pool raise into this package's errors."""

from __future__ import annotations

import asyncio
import select
import time
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
    VersionNotReadyError,
    VersionRetiredError,
)

Pool = AsyncConnectionPool[Any]
Connection = psycopg.AsyncConnection[Any]

#: SQLSTATE values that our own functions raise.
_RAISED: dict[str, type[RetrievalError]] = {
    "TWR01": UnknownVersionError,
    "TWR02": UnknownSnapshotError,
    "TWR03": FilterError,
    "TWR04": EmbedderMismatchError,
    "TWR05": VersionRetiredError,
    "TWR06": VersionNotReadyError,
}
#: Tables, functions or columns are not there: the schema is older than this code, or there is none.
_NOT_MIGRATED = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedObject,
    psycopg.errors.InvalidSchemaName,
)

_TOO_LARGE = (
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
    psycopg.errors.TooManyColumns,
    psycopg.errors.TooManyArguments,
)


@asynccontextmanager
async def borrowed(pool: Pool, *, timeout_s: float) -> AsyncIterator[Connection]:
    """A connection in autocommit, whatever the pool's habit, so that one statement is one round trip."""
    cancels = _cancels()
    try:
        conn = await _living_connection(pool, timeout_s)
        habit = conn.autocommit
        try:
            async with conn:
                await conn.set_autocommit(True)
                yield conn
        finally:
            try:
                if not conn.closed:
                    if conn.info.transaction_status != TransactionStatus.IDLE:
                        await conn.rollback()
                    await conn.set_autocommit(habit)
            finally:
                await pool.putconn(conn)
    except psycopg.Error as exc:
        # A connection that breaks while its task is cancelled raises its own error instead; a loop that waits
        # for the database would go on after that.
        if _cancels() > cancels:
            raise asyncio.CancelledError from exc
        raise translated(exc) from exc


def _cancels() -> int:
    """How often this task was told to end."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


async def _living_connection(pool: Pool, timeout_s: float) -> Connection:
    """One that the server has not closed meanwhile: after a restart, all those of the pool have been."""
    deadline = time.monotonic() + timeout_s
    while True:
        conn: Connection = await pool.getconn(timeout=max(0.0, deadline - time.monotonic()))
        # An idle connection has nothing to read, unless it is the server's farewell. Looking is free.
        poll = select.poll()
        poll.register(conn.fileno(), select.POLLIN)
        if not poll.poll(0):
            return conn
        await conn.close()
        await pool.putconn(conn)


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
    # psycopg counts a row that is too large among the troubles of operation. Nobody can wait for it to pass.
    if isinstance(exc, _TOO_LARGE):
        return StoreError(f"database: {line}")
    # We stood still for longer than the server lets us: another connection may go on.
    if isinstance(exc, psycopg.errors.IdleInTransactionSessionTimeout):
        return StoreUnavailableError(f"database: {line}")
    if isinstance(exc, (psycopg.OperationalError, psycopg.InterfaceError)):
        return StoreUnavailableError(f"database: {line}")
    if isinstance(exc, _NOT_MIGRATED):
        return StoreError(f"database: {line}: it is not at this release; run `twinrail migrate`")
    return StoreError(f"database: {line}")
