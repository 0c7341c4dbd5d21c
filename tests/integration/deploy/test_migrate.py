"""Migrations: once, in order, unchanged."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from deploy.errors import DatabaseUnavailableError, MigrationChangedError
from deploy.migrate import migrate, migrations
from deploy.provisioning import provision
from tests.conftest import TestServer


async def test_every_shipped_file_runs_once(postgres: TestServer) -> None:
    url = provision(postgres.admin_url, database="migrating", password=postgres.password, role=postgres.role)
    try:
        steps: list[str] = []
        both = await asyncio.gather(migrate(url, on_step=steps.append), migrate(url, on_step=steps.append))
        names = [migration.name for migration in migrations()]
        assert sorted(map(len, both)) == [0, len(names)]
        assert steps == names
        assert await migrate(url) == []
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(
                "UPDATE twinrail_migration SET sha256 = 'x' WHERE name = 'retrieval/0001_knowledge.sql'"
            )
        with pytest.raises(MigrationChangedError, match="0001_knowledge"):
            await migrate(url)
    finally:
        with psycopg.connect(postgres.admin_url, autocommit=True) as conn:
            conn.execute("DROP DATABASE migrating WITH (FORCE)")


async def test_every_file_is_numbered_without_gaps() -> None:
    for package in {migration.name.split("/")[0] for migration in migrations()}:
        names = [
            migration.name.split("/")[1] for migration in migrations() if migration.name.startswith(package)
        ]
        assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


async def test_database_that_is_gone() -> None:
    with pytest.raises(DatabaseUnavailableError):
        await migrate("postgresql://nobody@127.0.0.1:1/nothing")
