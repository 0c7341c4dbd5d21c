"""Whether row-level security binds this login on the gateway's own tables: keys, turns, feedback, tickets.

Asked at start-up and by commands that read them, as the knowledge rail asks for its tables. Most statements
here name no tenant and rely on it: a login that it does not bind would list everybody's keys and turns.
"""

from __future__ import annotations

from gateway.database import Database
from gateway.errors import RecordsGuardError
from gateway.sql import load_queries
from retrieval.guarding import require_bound_role

QUERIES = load_queries("guarding.sql")


async def require_guard(database: Database) -> None:
    """Raise unless tenants are kept apart for connections of this database."""
    async with database.cursor() as cursor:
        await require_bound_role(cursor.connection)
        await cursor.execute(QUERIES["unguarded"])
        unguarded = await cursor.fetchall()
    if unguarded:
        told = "; ".join(f"gateway.{row['table']}: {row['problem']}" for row in unguarded)
        raise RecordsGuardError(f"{told}: tenants would not be kept apart")
