"""Start-up refuses a login or a schema that would not keep tenants apart."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

from retrieval.errors import StoreGuardError, StoreRoleError
from retrieval.store import KnowledgeStore
from tests.conftest import TestServer
from tests.integration.retrieval.conftest import Publish


@asynccontextmanager
async def store_at(url: str) -> AsyncIterator[KnowledgeStore]:
    async with AsyncConnectionPool(url, min_size=1, max_size=1, open=False) as pool:
        yield KnowledgeStore(pool)


async def test_a_role_that_can_become_one_that_bypasses_is_refused(
    postgres: TestServer, database_url: str
) -> None:
    """Directly or through another role, and also where the rights are not inherited."""
    mighty, between = (sql.Identifier(f"{name}_{secrets.token_hex(4)}") for name in ("mighty", "between"))
    role = sql.Identifier(postgres.role)
    postgres.execute(sql.SQL("CREATE ROLE {} BYPASSRLS NOLOGIN").format(mighty))
    try:
        postgres.execute(sql.SQL("CREATE ROLE {} NOINHERIT NOLOGIN").format(between))
        postgres.execute(sql.SQL("GRANT {} TO {}").format(mighty, between))
        postgres.execute(sql.SQL("GRANT {} TO {}").format(between, role))
        async with store_at(database_url) as store:
            with pytest.raises(StoreRoleError, match=r"can become 'mighty_.*REVOKE"):
                await store.check()
            postgres.execute(sql.SQL("REVOKE {} FROM {}").format(between, role))
            await store.check()
    finally:
        postgres.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(between))
        postgres.execute(sql.SQL("DROP ROLE {}").format(mighty))


async def test_a_superuser_that_stepped_down_is_refused(postgres: TestServer, database_url: str) -> None:
    """It can step up again within any statement."""
    database = database_url.rsplit("/", 1)[-1]
    url = make_conninfo(postgres.admin_url, dbname=database, options=f"-c role={postgres.role}")
    async with store_at(url) as store:
        with pytest.raises(StoreRoleError, match="can become"):
            await store.check()


async def test_row_security_switched_off_is_refused(database_url: str) -> None:
    async with store_at(make_conninfo(database_url, options="-c row_security=off")) as store:
        with pytest.raises(StoreRoleError, match="row_security is off"):
            await store.check()


OPEN = "tenant IS NOT NULL OR tenant = NULLIF(current_setting('retrieval.tenant', true), '')"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("ALTER TABLE retrieval.chunk NO FORCE ROW LEVEL SECURITY", "retrieval.chunk: .*not forced"),
        ("ALTER TABLE retrieval.chunk_1 NO FORCE ROW LEVEL SECURITY", "retrieval.chunk_1: .*not forced"),
        ("ALTER TABLE retrieval.document DISABLE ROW LEVEL SECURITY", "retrieval.document: .*not forced"),
        ("DROP POLICY readable ON retrieval.document_version", "document_version: no policy"),
        ("DROP POLICY own_tenant ON retrieval.tombstone", "tombstone: no policy"),
        ("CREATE POLICY all_of_it ON retrieval.chunk FOR SELECT USING (true)", "policy all_of_it"),
        ("CREATE POLICY direct ON retrieval.chunk_1 USING (true)", "chunk_1: policy direct"),
        (f"ALTER POLICY own_tenant ON retrieval.snapshot USING ({OPEN})", "policy own_tenant"),
        ("ALTER POLICY own_insert ON retrieval.chunk WITH CHECK (true)", "policy own_insert"),
        # Tenant, but no readers any more.
        (
            "ALTER POLICY readable ON retrieval.chunk USING (tenant = current_setting('retrieval.tenant'))",
            "retrieval.chunk: policy readable",
        ),
    ],
)
async def test_a_table_that_lost_its_guard_is_refused(
    store: KnowledgeStore, publish: Publish, database_url: str, damage: str, told: str
) -> None:
    await publish({"a": "red"})
    await store.check()
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as conn:
        await conn.execute(damage)  # type: ignore[arg-type]  # from the list above
    with pytest.raises(StoreGuardError, match=told):
        await store.check()
