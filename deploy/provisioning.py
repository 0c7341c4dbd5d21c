"""Make a database that Twinrail may use: a role without special rights, pgvector, one planner permission.

Needs a superuser once; everything afterwards runs as the plain role, so that row-level security binds it.
"""

from __future__ import annotations

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from deploy.errors import DeployError
from retrieval.sql import named_queries

QUERIES = named_queries("deploy.sql", "provisioning.sql")
ROLE = "twinrail"


def url(*, host: str, port: int | str, user: str, password: str, database: str) -> str:
    """A `postgresql://` address; the passwords made here need no quoting."""
    return f"postgresql://{user}:{password}@{host}:{port}/{database}"


def provision(admin_url: str, *, database: str, password: str, role: str = ROLE) -> str:
    """Create or repair role, database and extension; return the role's database URL. Safe to repeat."""
    try:
        with psycopg.connect(admin_url, autocommit=True) as conn:
            names = {
                "role": sql.Identifier(role),
                "database": sql.Identifier(database),
                "password": sql.Literal(password),
            }
            known = conn.execute(QUERIES["role_exists"], {"role": role}).fetchone()
            statement = "alter_role" if known and known[0] else "create_role"
            conn.execute(sql.SQL(QUERIES[statement]).format(**names))
            exists = conn.execute(QUERIES["database_exists"], {"database": database}).fetchone()
            if not (exists and exists[0]):
                conn.execute(sql.SQL(QUERIES["create_database"]).format(**names))
        with psycopg.connect(admin_url, dbname=database, autocommit=True) as conn:
            conn.execute(QUERIES["create_vector"])
            conn.execute(QUERIES["leakproof_match"])
    except psycopg.Error as exc:
        raise DeployError(f"database {database!r} could not be provisioned: {str(exc).strip()}") from exc
    place = conninfo_to_dict(admin_url)
    return url(
        host=str(place.get("host", "127.0.0.1")),
        port=str(place.get("port", 5432)),
        user=role,
        password=password,
        database=database,
    )
