"""How long a change in a source takes to be found, and when each source was last looked through.

A source that is only sent documents (over HTTP) has no looks; its lag counts from the times sent along.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from psycopg import Rollback
from psycopg.rows import class_row

from retrieval import instruments as telemetry
from retrieval.connections import Connection, Pool, borrowed, row_of
from retrieval.errors import UnknownSourceError
from retrieval.sql import named_queries

QUERIES = named_queries("retrieval.sql", "freshness.sql")
ENTER = named_queries("retrieval.sql", "queries.sql")["enter"]
#: Sources that the metrics tell apart, those due first; a label must stay bounded.
MAX_SOURCES = 100


class Lender(Protocol):
    """Whose connections are used: a KnowledgeStore."""

    pool: Pool
    acquire_timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFreshness:
    """What is known of a tenant's source."""

    source: str
    #: Begin of the last look at the whole source that ended well; None: documents are only ever sent.
    checked_at: datetime | None
    #: Documents that it could not take in.
    left_out: int
    published_at: datetime | None
    #: Newest change in the source that was seen.
    changed_at: datetime | None
    #: Seconds from change to searchable, of the slowest document of the last publish; None: not known.
    lag_s: float | None
    #: How often it is meant to be looked through; None: nobody is alarmed.
    sync_every_s: int | None

    def is_overdue(self, now: datetime) -> bool:
        """Whether a look that was due has not been."""
        if self.sync_every_s is None or self.checked_at is None:
            return False
        return now > self.checked_at + timedelta(seconds=self.sync_every_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """The oldest look at the sources of one name, over all tenants."""

    source: str
    checked_at: datetime
    due_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What an ingest saw of a source."""

    #: When it began to look through the whole source; None: it was sent single documents.
    began_at: datetime | None
    #: Newest change among everything that it read.
    changed_at: datetime | None
    left_out: int
    #: When each of the documents that it published had been changed, where that is known.
    published: Sequence[datetime | None]


def lags(
    changed: Sequence[datetime | None], *, looked_before: datetime | None, whole: bool, found_at: datetime
) -> list[float]:
    """Seconds from change to searchable.

    A look that ended well misses nothing, so what it did not see came later, whatever a file's time says: a
    copied file keeps an old one. The first look at a whole source tells nothing about lag.
    """
    if whole and looked_before is None:
        return []
    since = [max(each, looked_before) if looked_before else each for each in changed if each is not None]
    return [max(0.0, (found_at - each).total_seconds()) for each in since]


async def note(store: Lender, tenant: str, source: str, look: Look) -> None:
    """Record a look or a publish that ended well, and how long its changes took; neither writes nothing."""
    if look.began_at is None and not look.published:
        return
    found_at = datetime.now(UTC)
    async with _entered(store, tenant) as conn:
        (looked_before,) = await row_of(
            conn,
            QUERIES["note"],
            {
                "tenant": tenant,
                "source": source,
                "checked_at": look.began_at,
                "left_out": look.left_out,
                "published_at": found_at if look.published else None,
                "changed_at": look.changed_at,
            },
        )
        took = lags(
            look.published,
            looked_before=looked_before,
            whole=look.began_at is not None,
            found_at=found_at,
        )
        if took:
            await conn.execute(QUERIES["note_lag"], {"tenant": tenant, "source": source, "lag_s": max(took)})
    for seconds in took:
        telemetry.freshness_lag.record(seconds)


async def freshness(store: Lender, tenant: str) -> list[SourceFreshness]:
    """Every source of the tenant, by name."""
    async with _entered(store, tenant) as conn, conn.cursor(row_factory=class_row(SourceFreshness)) as cursor:
        return await (await cursor.execute(QUERIES["sources"], {"tenant": tenant})).fetchall()


async def expect_syncs(
    store: Lender, tenant: str, source: str, every_s: int | None, *, dry_run: bool = False
) -> None:
    """Say how often a source is meant to be looked through; None: nobody is alarmed any more."""
    params = {"tenant": tenant, "source": source, "every_s": every_s}
    async with _entered(store, tenant) as conn:
        if await (await conn.execute(QUERIES["expect"], params)).fetchone() is None:
            known = ", ".join(each.source for each in await freshness(store, tenant)) or "none"
            raise UnknownSourceError(f"source: tenant {tenant!r} has no source {source!r}; known: {known}")
        if dry_run:
            raise Rollback  # leaves the transaction without an error


async def oldest_syncs(store: Lender) -> list[Sync]:
    """Of each source that is looked through, the oldest look over all tenants; those due first."""
    async with (
        borrowed(store.pool, timeout_s=store.acquire_timeout_s) as conn,
        conn.transaction(),
        conn.cursor(row_factory=class_row(Sync)) as cursor,
    ):
        return await (await cursor.execute(QUERIES["oldest_syncs"], {"sources": MAX_SOURCES})).fetchall()


@asynccontextmanager
async def _entered(store: Lender, tenant: str) -> AsyncIterator[Connection]:
    async with borrowed(store.pool, timeout_s=store.acquire_timeout_s) as conn, conn.transaction():
        await conn.execute(ENTER, {"tenant": tenant})
        yield conn
