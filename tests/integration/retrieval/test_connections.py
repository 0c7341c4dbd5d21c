"""Borrowed connections: whatever state they are left in, a cancelled caller ends as cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
import pytest

from retrieval.connections import Connection, Pool, borrowed
from retrieval.errors import StoreUnavailableError


async def busy(conn: Connection) -> None:
    """As after a cancel that the server did not answer: no rollback is taken."""
    conn.pgconn.send_query(b"SELECT pg_sleep(60)")
    await asyncio.Event().wait()


async def ended_by_the_server(conn: Connection) -> None:
    """As of a worker that was suspended: it hears of it when it next asks."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise psycopg.errors.AdminShutdown("terminating connection") from None


@pytest.mark.parametrize("breaks", [busy, ended_by_the_server])
async def test_a_task_that_is_cancelled_ends_so_though_its_connection_breaks(
    pool: Pool, breaks: Callable[[Connection], Awaitable[None]]
) -> None:
    """A loop that goes on after errors of the database would else never see that it was to stop."""
    works = asyncio.Event()

    async def work() -> None:
        async with borrowed(pool, timeout_s=5) as conn:
            works.set()
            await breaks(conn)

    task = asyncio.create_task(work())
    await works.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with borrowed(pool, timeout_s=5) as conn:
        assert await (await conn.execute("SELECT 1")).fetchone() == (1,)


async def test_what_a_cancelled_task_still_writes_meets_errors_of_the_database_as_such(pool: Pool) -> None:
    async def write() -> None:
        async with borrowed(pool, timeout_s=5) as conn:
            await conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            with pytest.raises(StoreUnavailableError):
                await write()
            raise

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
