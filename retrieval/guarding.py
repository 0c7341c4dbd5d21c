"""Whether row-level security binds this login: the role, what it could become, and every table of tenants.

Asked at start-up. A database that was restored, repaired by hand or given another role looks as before and
keeps nobody apart; better not to start.
"""

from __future__ import annotations

from retrieval.connections import Connection, row_of
from retrieval.errors import StoreGuardError, StoreRoleError
from retrieval.sql import named_queries

QUERIES = named_queries("retrieval.sql", "guarding.sql")


async def require_bound_role(conn: Connection) -> None:
    """Raise unless row-level security binds this connection's login, on whatever tables."""
    role, bypassing = await row_of(conn, QUERIES["bypassing_roles"], {})
    if role in bypassing:
        raise StoreRoleError(
            f"role {role!r} is a superuser or has BYPASSRLS, so tenants would not be kept apart: "
            "connect as a plain role that owns the database"
        )
    if bypassing:
        raise StoreRoleError(
            f"role {role!r} can become {', '.join(map(repr, bypassing))}, "
            "whom row-level security does not bind: "
            f"REVOKE {bypassing[0]} FROM {role}, or connect as a role without that membership"
        )
    (on,) = await row_of(conn, QUERIES["row_security"], {})
    if not on:
        raise StoreRoleError(
            f"row_security is off for role {role!r}, so every search would fail: "
            f"ALTER ROLE {role} RESET row_security, and take it out of the connection's options"
        )


async def require_guard(conn: Connection) -> None:
    """Raise unless tenants are kept apart for this connection."""
    await require_bound_role(conn)
    unguarded = await (await conn.execute(QUERIES["unguarded"])).fetchall()
    if unguarded:
        told = "; ".join(f"retrieval.{table}: {problem}" for table, problem in unguarded)
        raise StoreGuardError(
            f"{told}: tenants would not be kept apart; force row-level security and restore the "
            "policies as retrieval/sql/migrations makes them"
        )
