"""PostgreSQL of one machine: start, stop, survive, refuse clearly."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deploy.errors import DiskFullError, PortTakenError, PostgresStartError
from deploy.postgres import EmbeddedPostgres
from deploy.provisioning import provision
from tests.conftest import FAST


@pytest.fixture
def folder() -> Iterator[Path]:
    """Outside pytest's own folder, which other users may not pass."""
    path = Path(tempfile.mkdtemp(prefix="twinrail-postgres-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def answers(url: str) -> str:
    with psycopg.connect(url) as conn:
        row = conn.execute("SELECT current_user").fetchone()
    assert row is not None
    return str(row[0])


def test_life_of_a_server(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "pg", settings=FAST)
    url = server.start()
    try:
        with psycopg.connect(url, autocommit=True) as conn:
            assert conn.execute(
                "SELECT rolname, rolsuper, rolbypassrls, rolcreatedb FROM pg_roles"
                " WHERE rolname = current_user"
            ).fetchone() == ("twinrail", False, False, False)
            assert conn.execute(
                "SELECT extversion >= '0.8.4' FROM pg_extension WHERE extname = 'vector'"
            ).fetchone() == (True,)
            assert conn.execute(
                "SELECT proleakproof FROM pg_proc WHERE proname = 'ts_match_vq'"
            ).fetchone() == (True,)
            assert conn.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
            conn.execute("CREATE TABLE kept (x int)")
        assert stat.S_IMODE((folder / "pg" / "credentials.json").stat().st_mode) == 0o600
        assert server.start() == url
        assert EmbeddedPostgres(folder / "pg").start() == url
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(url.replace("twinrail:", "twinrail:x"))

        server.stop()
        # What the next start reads into memory again.
        assert (folder / "pg" / "data" / "autoprewarm.blocks").stat().st_size > 0
        server.stop()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
        assert EmbeddedPostgres(folder / "pg", settings=FAST).start() == url
        with psycopg.connect(url) as conn:
            assert conn.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    finally:
        server.stop()


def test_killed_server_starts_again(folder: Path) -> None:
    server = EmbeddedPostgres(folder, settings=FAST)
    url = server.start()
    try:
        pid = int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGQUIT)
        server.stop()
        assert answers(server.start()) == "twinrail"
        assert server.start() == url
    finally:
        server.stop()


def test_port_that_is_taken(folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"port {port} on 127.0.0.1 is in use"):
            EmbeddedPostgres(folder, port=port).start()


def test_half_made_folder_is_made_anew(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "base").mkdir()
    server = EmbeddedPostgres(folder, settings=FAST)
    try:
        assert answers(server.start()) == "twinrail"
    finally:
        server.stop()


def test_damaged_data_is_said_so(folder: Path) -> None:
    server = EmbeddedPostgres(folder, settings=FAST)
    server.start()
    server.stop()
    (folder / "data" / "global" / "pg_control").unlink()
    with pytest.raises(PostgresStartError, match=r"did not start: .*pg_control"):
        server.start()


def test_full_disk_is_seen_before_anything_is_made(folder: Path) -> None:
    server = EmbeddedPostgres(folder, free_bytes_needed=1 << 60)
    with pytest.raises(DiskFullError, match="MB needed: free some space"):
        server.start()
    assert not (folder / "data").exists()


def test_provisioning_twice_is_the_same(folder: Path) -> None:
    server = EmbeddedPostgres(folder, settings=FAST)
    server.start()
    try:
        first = provision(server.admin_url, database="extra", password="secret")
        assert provision(server.admin_url, database="extra", password="secret") == first
        assert answers(first) == "twinrail"
    finally:
        server.stop()
