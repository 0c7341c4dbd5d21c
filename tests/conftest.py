"""Fixtures of the whole suite: one PostgreSQL a session, one migrated template, one clone of it a test."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from deploy.migrate import migrate
from deploy.postgres import EmbeddedPostgres
from deploy.provisioning import provision, url

#: Durability is of no use to a database that is dropped after the test.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "64MB"}


def pytest_configure() -> None:
    """A shell's background job ignores Ctrl-C, and so would the programs that the tests interrupt: what a
    process ignores its children ignore too."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestServer:
    """A PostgreSQL server for tests: `admin_url` may create databases, `role` may not."""

    __test__ = False

    admin_url: str
    role: str
    password: str

    def database_url(self, database: str) -> str:
        """The plain role's address of one database."""
        place = conninfo_to_dict(self.admin_url)
        host, port = str(place.get("host", "127.0.0.1")), str(place.get("port", 5432))
        return url(host=host, port=port, user=self.role, password=self.password, database=database)

    def execute(self, statement: sql.Composed) -> None:
        """Run one statement as the administrator."""
        with psycopg.connect(self.admin_url, autocommit=True) as conn:
            conn.execute(statement)


@pytest.fixture(scope="session")
def postgres() -> Iterator[TestServer]:
    """The server that TEST_DATABASE_URL names (a superuser), else an embedded one in a temporary folder."""
    given = os.environ.get("TEST_DATABASE_URL")
    # A role is global to a server: each session has its own, so that sessions can share one.
    password = secrets.token_hex(16)
    if given:
        role = f"twinrail_test_{secrets.token_hex(4)}"
        server = TestServer(admin_url=given, role=role, password=password)
        yield server
        server.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))
        return
    folder = Path(tempfile.mkdtemp(prefix="twinrail-postgres-"))
    embedded = EmbeddedPostgres(folder, settings=FAST)
    try:
        embedded.start()
        yield TestServer(admin_url=embedded.admin_url, role="twinrail_test", password=password)
    finally:
        embedded.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def template_database(postgres: TestServer) -> Iterator[str]:
    """A provisioned and migrated database that nobody connects to: the mould of the clones."""
    name = f"template_{secrets.token_hex(6)}"
    asyncio.run(
        migrate(provision(postgres.admin_url, database=name, password=postgres.password, role=postgres.role))
    )
    yield name
    postgres.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database_url(postgres: TestServer, template_database: str) -> Iterator[str]:
    """A migrated database of this test's own, as the role without special rights; dropped afterwards."""
    name = f"test_{secrets.token_hex(6)}"
    names = {
        "new": sql.Identifier(name),
        "old": sql.Identifier(template_database),
        "role": sql.Identifier(postgres.role),
    }
    postgres.execute(
        sql.SQL("CREATE DATABASE {new} OWNER {role} TEMPLATE {old} STRATEGY FILE_COPY").format(**names)
    )
    yield postgres.database_url(name)
    postgres.execute(sql.SQL("DROP DATABASE {new} WITH (FORCE)").format(**names))
