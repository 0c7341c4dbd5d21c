"""The partition of an index version: its indexes, made while publishes go on, and its end.

Neither makes a search wait: indexes are made, and partitions detached, by the concurrent form of the
statement, which runs in no transaction and may leave something half done. The next call finds and does it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import LiteralString, cast

import psycopg
from psycopg import sql

from retrieval.connections import Connection, row_of
from retrieval.sql import named_queries

logger = logging.getLogger(__name__)

QUERIES = named_queries("retrieval.sql", "partitions.sql")
SESSION = named_queries("retrieval.sql", "queries.sql")
PUBLISHING = named_queries("retrieval.sql", "publishing.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexResources:
    """What making an index may take of the database server."""

    #: A vector index that fits is made many times faster than one that does not: 2 KiB a chunk of 384 dims.
    memory_mb: int = 256
    #: Processes beside the one that asks; the server has limits of its own.
    workers: int = 2


DEFAULT_RESOURCES = IndexResources()


async def index_partition(conn: Connection, version_id: str, resources: IndexResources) -> None:
    """Make the indexes that a version's partition lacks, on a connection in autocommit; publishes go on."""
    missing = await (await conn.execute(QUERIES["missing_indexes"], {"version": version_id})).fetchall()
    if not missing:
        return
    try:
        for name, broken, statement in missing:
            if broken:
                await _drop_index(conn, name)
            await _create_index(conn, name, cast("LiteralString", statement), resources)
    finally:
        if not conn.closed:
            await conn.execute(QUERIES["reset_resources"])
    (partition,) = await row_of(conn, QUERIES["partition_of"], {"version": version_id})
    await _run(conn, "analyze", partition)


async def _create_index(
    conn: Connection, name: str, statement: LiteralString, resources: IndexResources
) -> None:
    params = {"memory": f"{resources.memory_mb}MB", "workers": str(resources.workers)}
    await conn.execute(QUERIES["resources"], params)
    try:
        await conn.execute(statement)
    except (psycopg.errors.DiskFull, psycopg.errors.OutOfMemory):
        # Helpers share that memory through /dev/shm, which containers keep small; alone it is not needed.
        if not resources.workers:
            raise
        logger.warning(
            "%s: not enough shared memory for %d helpers; making it without any",
            name,
            resources.workers,
            extra={"action": "index_partition"},
        )
        await _drop_index(conn, name)
        await conn.execute(QUERIES["resources"], {**params, "workers": "0"})
        await conn.execute(statement)


async def sweep(conn: Connection) -> None:
    """Free what belongs to no version that is in use, on a connection in autocommit; may be broken off."""
    await conn.execute(QUERIES["begin_sweep"])
    try:
        for partition, attached, pending in await (await conn.execute(QUERIES["orphans"])).fetchall():
            if attached:
                await _run(conn, "finish_detaching" if pending else "detach", partition)
            await _run(conn, "drop_partition", partition)
        for (tenant,) in await (await conn.execute(QUERIES["tenants"])).fetchall():
            await _forget(conn, tenant)
    finally:
        if not conn.closed:
            await conn.execute(QUERIES["end_sweep"])


async def _forget(conn: Connection, tenant: str) -> None:
    async with conn.transaction():
        # As a publish does: none may count on a vector that goes here.
        await conn.execute(PUBLISHING["lock"], {"tenant": tenant})
        await conn.execute(SESSION["enter"], {"tenant": tenant})
        (numbers,) = await row_of(conn, QUERIES["unused_numbers"], {})
        params = {"tenant": tenant, "numbers": numbers}
        if numbers:
            for step in ("forget_terms", "forget_calibration", "forget_coverage", "forget_chunks"):
                await conn.execute(QUERIES[step], params)
        await conn.execute(QUERIES["forget_vectors"], params)


async def _drop_index(conn: Connection, name: str) -> None:
    await conn.execute(sql.SQL(QUERIES["drop_index"]).format(index=sql.Identifier(name)))


async def _run(conn: Connection, statement: str, partition: str) -> None:
    await conn.execute(sql.SQL(QUERIES[statement]).format(partition=sql.Identifier(partition)))
