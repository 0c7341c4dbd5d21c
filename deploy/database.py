"""The database that a command works on: the one given, else this machine's own, started while needed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from deploy.errors import DatabaseUnavailableError
from deploy.home import Home
from deploy.postgres import EmbeddedPostgres
from deploy.settings import DeploySettings
from deploy.sharing import SharedPostgres

Pool = AsyncConnectionPool[psycopg.AsyncConnection[Any]]


@asynccontextmanager
async def database(settings: DeploySettings, home: Home) -> AsyncIterator[str]:
    """The database's URL. An embedded server is stopped again unless a stack or another command uses it."""
    given = settings.database_url.get_secret_value()
    if given:
        yield given
        return
    home.prepare()
    server = SharedPostgres(EmbeddedPostgres(home.postgres, port=settings.postgres_port), home.run)
    url = await server.start()
    try:
        yield url
    finally:
        await server.stop()


@asynccontextmanager
async def pool(url: str, *, size: int = 4, timeout_s: float = 10.0) -> AsyncIterator[Pool]:
    """A small pool for one command."""
    connections: Pool = AsyncConnectionPool(
        url, min_size=1, max_size=size, open=False, timeout=timeout_s, reconnect_timeout=timeout_s
    )
    try:
        try:
            await connections.open(wait=True, timeout=timeout_s)
        except (PoolTimeout, psycopg.Error) as exc:
            raise DatabaseUnavailableError(
                f"DATABASE_URL: no answer from {place(url)}; start that server or correct the address"
            ) from exc
        yield connections
    finally:
        await connections.close()


def place(url: str) -> str:
    """Host, port and database of a URL, without its password."""
    parts = urlsplit(url)
    return f"{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"
