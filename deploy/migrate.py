"""Bring a database to this release: run each package's numbered SQL files once, in order, forward only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import LiteralString

import psycopg

from deploy.errors import DatabaseUnavailableError, MigrationChangedError, MigrationError
from retrieval.sql import named_queries

QUERIES = named_queries("deploy.sql", "migrating.sql")
#: The order in which packages migrate; there are no keys across schemas, so it only shapes the printout.
PACKAGES = ("retrieval", "serving", "gateway", "eval", "deploy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One numbered SQL file; its text is a constant of the installed package."""

    name: str
    text: LiteralString

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations(packages: tuple[str, ...] = PACKAGES) -> Iterator[Migration]:
    """All migrations that ship with the installed packages, in the order in which they run."""
    for package in packages:
        folder = files(package) / "sql" / "migrations"
        if folder.is_dir():
            for path in sorted(folder.iterdir(), key=lambda path: path.name):
                if path.name.endswith(".sql"):
                    yield Migration(name=f"{package}/{path.name}", text=path.read_text("utf-8"))


async def migrate(database_url: str, *, on_step: Callable[[str], None] = lambda _name: None) -> list[str]:
    """Run what is missing and return the names of what ran. A file is one transaction; callers take turns."""
    async with await _connect(database_url) as conn:
        await conn.execute(QUERIES["lock"])
        try:
            return await _run_missing(conn, on_step)
        finally:
            if not conn.closed:
                await conn.execute(QUERIES["unlock"])


async def pending(database_url: str) -> list[str]:
    """The names of what `migrate` would run; changes nothing."""
    async with await _connect(database_url) as conn:
        try:
            cursor = await conn.execute(QUERIES["applied"])
        except psycopg.errors.UndefinedTable:
            return [migration.name for migration in migrations()]
        applied: dict[str, str] = dict(await cursor.fetchall())
    return [migration.name for migration in migrations() if migration.name not in applied]


async def _connect(database_url: str) -> psycopg.AsyncConnection:
    try:
        return await psycopg.AsyncConnection.connect(database_url, autocommit=True, connect_timeout=10)
    except psycopg.OperationalError as exc:
        raise DatabaseUnavailableError(
            f"DATABASE_URL: no answer from the database ({str(exc).strip()}); "
            "start that server or correct the address"
        ) from exc


async def _run_missing(conn: psycopg.AsyncConnection, on_step: Callable[[str], None]) -> list[str]:
    await conn.execute(QUERIES["create_record"])
    cursor = await conn.execute(QUERIES["applied"])
    applied: dict[str, str] = dict(await cursor.fetchall())
    ran = []
    for migration in migrations():
        known = applied.get(migration.name)
        if known == migration.sha256:
            continue
        if known is not None:
            raise MigrationChangedError(
                f"{migration.name} was changed after it ran here: restore it and add a new migration"
            )
        on_step(migration.name)
        try:
            async with conn.transaction():
                await conn.execute(migration.text)
                await conn.execute(QUERIES["record"], {"name": migration.name, "sha256": migration.sha256})
        except psycopg.Error as exc:
            raise MigrationError(f"{migration.name} failed and was rolled back: {str(exc).strip()}") from exc
        ran.append(migration.name)
    return ran
