"""Fixtures of the whole suite: one PostgreSQL a session, one migrated template, one clone of it a test."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from deploy.migrate import migrate
from deploy.postgres import EmbeddedPostgres
from deploy.provisioning import provision, url

#: A file system in memory, where Linux has one: a clone is 550 files, made and removed for each test.
MEMORY = Path("/dev/shm")
MEMORY_BYTES_NEEDED = 2 << 30
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
    folder = Path(tempfile.mkdtemp(prefix="twinrail-postgres-", dir=_place()))
    embedded = EmbeddedPostgres(folder, settings=FAST)
    try:
        embedded.start()
        yield TestServer(admin_url=embedded.admin_url, role="twinrail_test", password=password)
    finally:
        embedded.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _place() -> Path | None:
    """Memory with room enough, else None: the usual folder for what is temporary."""
    is_roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES_NEEDED
    return MEMORY if is_roomy and os.access(MEMORY, os.W_OK) else None


@pytest.fixture(scope="session")
def administrator(postgres: TestServer) -> Iterator[psycopg.Connection]:
    """A connection for what every test needs twice: to open one takes a third as long as a clone."""
    with psycopg.connect(postgres.admin_url, autocommit=True) as conn:
        yield conn


@pytest.fixture(scope="session")
def template_database(postgres: TestServer) -> Iterator[str]:
    """A provisioned and migrated database that nobody connects to: the mould of the clones."""
    name = f"template_{secrets.token_hex(6)}"
    asyncio.run(
        migrate(provision(postgres.admin_url, database=name, password=postgres.password, role=postgres.role))
    )
    yield name
    postgres.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def help_centre(
    postgres: TestServer,
    administrator: psycopg.Connection,
    template_database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The gateway's tests begin with the same documents, versions and keys: brought in once, then cloned."""
    from tests.fakes.help_centre import fill

    with cloned(administrator, template_database, owner=postgres.role) as name:
        asyncio.run(fill(postgres.database_url(name), tmp_path_factory.mktemp("corpus")))
        yield name


@pytest.fixture
def database_url(
    postgres: TestServer,
    administrator: psycopg.Connection,
    template_database: str,
    request: pytest.FixtureRequest,
) -> Iterator[str]:
    """A migrated database of this test's own, as the role without special rights; dropped afterwards.

    A test that asks for `help_centre`, itself or through a fixture, has one with that in it.
    """
    is_filled = "help_centre" in request.fixturenames
    mould = request.getfixturevalue("help_centre") if is_filled else template_database
    with cloned(administrator, mould, owner=postgres.role) as name:
        yield postgres.database_url(name)


@contextmanager
def cloned(administrator: psycopg.Connection, mould: str, *, owner: str) -> Iterator[str]:
    """A copy of a database that nobody is connected to."""
    name = f"test_{secrets.token_hex(6)}"
    names = {"new": sql.Identifier(name), "old": sql.Identifier(mould), "role": sql.Identifier(owner)}
    administrator.execute(
        sql.SQL("CREATE DATABASE {new} OWNER {role} TEMPLATE {old} STRATEGY FILE_COPY").format(**names)
    )
    try:
        yield name
    finally:
        administrator.execute(sql.SQL("DROP DATABASE {new} WITH (FORCE)").format(**names))
