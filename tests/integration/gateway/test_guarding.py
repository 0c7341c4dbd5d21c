"""The gateway refuses a login, or tables of its own, that would not keep tenants apart."""

from __future__ import annotations

import asyncio
import io
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

from deploy.cli import main
from deploy.output import Output
from gateway.database import Database
from gateway.errors import RecordsGuardError
from gateway.guarding import require_guard
from retrieval.errors import StoreRoleError
from tests.conftest import TestServer
from tests.integration.gateway.test_process import run

HOLDER = "digest = NULLIF(current_setting('gateway.key_digest', true), '')"
ENGINES = {"SERVING_ENGINES": "http://127.0.0.1:1/v1"}


@asynccontextmanager
async def records_at(url: str) -> AsyncIterator[Database]:
    async with AsyncConnectionPool(url, min_size=1, max_size=1, open=False) as pool:
        yield Database(pool)


def as_admin(postgres: TestServer, database_url: str) -> str:
    return make_conninfo(postgres.admin_url, dbname=database_url.rsplit("/", 1)[-1])


async def test_a_role_that_can_become_one_that_bypasses_is_refused(
    postgres: TestServer, database_url: str
) -> None:
    mighty, role = sql.Identifier(f"mighty_{secrets.token_hex(4)}"), sql.Identifier(postgres.role)
    postgres.execute(sql.SQL("CREATE ROLE {} BYPASSRLS NOLOGIN").format(mighty))
    try:
        postgres.execute(sql.SQL("GRANT {} TO {}").format(mighty, role))
        async with records_at(database_url) as records:
            with pytest.raises(StoreRoleError, match="can become 'mighty_"):
                await require_guard(records)
            postgres.execute(sql.SQL("REVOKE {} FROM {}").format(mighty, role))
            await require_guard(records)
    finally:
        postgres.execute(sql.SQL("DROP ROLE {}").format(mighty))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("ALTER TABLE gateway.turn NO FORCE ROW LEVEL SECURITY", "gateway.turn: .*not forced"),
        ("ALTER TABLE gateway.feedback DISABLE ROW LEVEL SECURITY", "gateway.feedback: .*not forced"),
        ("DROP POLICY tenant_only ON gateway.erasure", "gateway.erasure: no policy"),
        ("CREATE POLICY all_of_it ON gateway.turn FOR SELECT USING (true)", "turn: policy all_of_it"),
        ("ALTER POLICY tenant_only ON gateway.review WITH CHECK (true)", "policy tenant_only"),
        # Names its setting, and lets everything through.
        (
            f"ALTER POLICY digest_holder ON gateway.api_key USING (digest IS NOT NULL OR {HOLDER})",
            "api_key: policy digest_holder",
        ),
        (
            f"CREATE POLICY holder ON gateway.api_key FOR UPDATE USING ({HOLDER})",
            "api_key: policy holder",
        ),
    ],
)
async def test_a_table_that_lost_its_guard_is_refused(database_url: str, damage: str, told: str) -> None:
    async with records_at(database_url) as records:
        await require_guard(records)
        with psycopg.connect(database_url, autocommit=True) as conn:
            conn.execute(damage)  # type: ignore[arg-type]  # from the list above
        with pytest.raises(RecordsGuardError, match=told):
            await require_guard(records)


async def test_the_process_does_not_start(postgres: TestServer, database_url: str) -> None:
    code, out, err = await run({"DATABASE_URL": as_admin(postgres, database_url), **ENGINES})
    assert (code, out) == (2, "")
    assert "is a superuser or has BYPASSRLS" in err
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("ALTER TABLE gateway.turn NO FORCE ROW LEVEL SECURITY")
    code, out, err = await run({"DATABASE_URL": database_url, **ENGINES})
    assert (code, out) == (2, "")
    assert "DATABASE_URL: gateway.turn: row-level security is not forced" in err
    assert "restore the policies" in err


async def test_keys_are_not_listed_over_such_a_login(
    postgres: TestServer, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", as_admin(postgres, database_url))
    monkeypatch.setenv("TWINRAIL_HOME", str(tmp_path / "home"))
    out = Output(stdout=io.StringIO(), stderr=io.StringIO())
    assert await asyncio.to_thread(main, ["keys", "list"], out) == 2
    assert isinstance(out.stderr, io.StringIO)
    assert "BYPASSRLS" in out.stderr.getvalue()
