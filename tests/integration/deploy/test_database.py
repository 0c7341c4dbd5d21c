"""Who may stop the embedded PostgreSQL: the last one that uses it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deploy.database import database
from deploy.guard import Guard
from deploy.home import Home
from deploy.local_database import LocalDatabase
from deploy.settings import DeploySettings
from deploy.watchdog import postmaster_pid


@pytest.fixture
def home() -> Iterator[Home]:
    """Outside pytest's own folder, which PostgreSQL's user may not pass."""
    root = Path(tempfile.mkdtemp(prefix="twinrail-shared-"))
    yield Home(root).prepare()
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> DeploySettings:
    for name in ("DATABASE_URL", "TWINRAIL_DATABASE_URL", "TWINRAIL_POSTGRES_PORT"):
        monkeypatch.delenv(name, raising=False)
    return DeploySettings()


def runs(home: Home) -> bool:
    return postmaster_pid(home.postgres / "data" / "postmaster.pid") is not None


def answers(url: str) -> bool:
    with psycopg.connect(url) as conn:
        return conn.execute("SELECT 1").fetchone() == (1,)


async def test_a_database_is_stopped_by_its_last_user_only(home: Home, settings: DeploySettings) -> None:
    first, second = database(settings, home), database(settings, home)
    url = await first.__aenter__()
    assert await second.__aenter__() == url
    await first.__aexit__(None, None, None)
    assert answers(url)
    await second.__aexit__(None, None, None)
    assert not runs(home)

    with Guard() as guard:
        stack = LocalDatabase(settings, home, guard, lambda _: None)
        url = await stack.start()
        async with database(settings, home):
            pass
        assert answers(url)
        async with database(settings, home) as still:
            await stack.stop()
            assert answers(still)
        assert not runs(home)
