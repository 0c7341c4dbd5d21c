"""`keys`: API keys, made and revoked in the database; a gateway need not run."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from deploy.commands.context import CommandLine, Context
from deploy.database import Pool, database, pool
from deploy.errors import UsageError
from deploy.migrate import migrate
from deploy.output import table
from deploy.tenants import add_new_tenant, require_tenant
from gateway.access import ApiKey, KeyStore, Scope
from gateway.database import Database
from gateway.guarding import require_guard


def add(commands: CommandLine) -> None:
    """Declare the commands."""
    keys = commands.group("keys", "API keys: create, list, revoke.")
    create = keys.command(
        "create",
        _create,
        summary="Make a key and print it, once. Only its hash is stored.",
        example="twinrail keys create website --scope ask",
    )
    create.add_argument("name", help="who will use it")
    create.add_argument(
        "--scope",
        action="append",
        choices=[str(scope) for scope in Scope],
        help="may be repeated (default: ask)",
    )
    create.add_argument(
        "--principal", action="append", help="whose documents it may see; may be repeated (default: public)"
    )
    create.add_argument("--tenant", help="default: TWINRAIL_TENANT")
    add_new_tenant(create)
    create.add_argument("--dry-run", action="store_true", help="say what would be made, and make nothing")

    listing = keys.command("list", _list, summary="List the tenant's keys.", example="twinrail keys list")
    listing.add_argument("--tenant", help="default: TWINRAIL_TENANT")

    revoke = keys.command(
        "revoke",
        _revoke,
        summary="Revoke a key; it stops working within 5 seconds.",
        example="twinrail keys revoke 0f8c3c1e-6f0e-4a57-9a4e-2f1d6a1b7c55",
    )
    revoke.add_argument("id", help="the key's id, as `twinrail keys list` shows it")
    revoke.add_argument("--tenant", help="default: TWINRAIL_TENANT")
    revoke.add_argument(
        "--dry-run", action="store_true", help="say what would be revoked, and revoke nothing"
    )


@asynccontextmanager
async def _connections(context: Context) -> AsyncIterator[Pool]:
    async with database(context.settings, context.home) as url:
        await migrate(url)
        async with pool(url) as connections:
            await require_guard(Database(connections))
            yield connections


async def _create(args: argparse.Namespace, context: Context) -> int:
    wanted: dict[str, Any] = {
        "name": args.name,
        "tenant": args.tenant or context.settings.tenant,
        "principals": args.principal or ["public"],
        "scopes": args.scope or [str(Scope.ASK)],
    }
    if args.dry_run:
        context.out.result({**wanted, "dry_run": True}, f"would make a key: {wanted}")
        return 0
    async with _connections(context) as connections:
        await require_tenant(connections, wanted["tenant"], new=args.new_tenant)
        made = await KeyStore(Database(connections)).create(**wanted)
    context.out.result({**_row(made.key), "key": made.secret}, made.secret)
    context.out.note("keep it now: only its hash is stored, it cannot be shown again")
    return 0


async def _list(args: argparse.Namespace, context: Context) -> int:
    tenant = args.tenant or context.settings.tenant
    async with _connections(context) as connections:
        rows = [_row(key) for key in await KeyStore(Database(connections)).list(tenant)]
        if not rows:
            await require_tenant(connections, tenant)
    header = ("id", "name", "scopes", "principals", "created_at", "revoked_at")
    context.out.result(rows, table(header, [[_cell(row[column]) for column in header] for row in rows]))
    return 0


async def _revoke(args: argparse.Namespace, context: Context) -> int:
    try:
        key_id = UUID(args.id)
    except ValueError as exc:
        raise UsageError(f"id: {args.id!r} is not a key's id; `twinrail keys list` shows them") from exc
    tenant = args.tenant or context.settings.tenant
    async with _connections(context) as connections:
        store = KeyStore(Database(connections))
        if args.dry_run:
            known = {key.id: key for key in await store.list(tenant)}
            if key_id not in known:
                raise UsageError(f"id: there is no key {key_id}; `twinrail keys list` shows them")
            key = known[key_id]
        else:
            key = await store.revoke(tenant, key_id)
    verb = "would revoke" if args.dry_run else "revoked"
    context.out.result({**_row(key), "dry_run": args.dry_run}, f"{verb} {key.name} ({key.id})")
    return 0


def _row(key: ApiKey) -> dict[str, Any]:
    return {
        "id": str(key.id),
        "name": key.name,
        "tenant": key.tenant,
        "principals": list(key.principals),
        "scopes": sorted(key.scopes),
        "created_at": key.created_at.isoformat(timespec="seconds"),
        "revoked_at": key.revoked_at.isoformat(timespec="seconds") if key.revoked_at else None,
    }


def _cell(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value or "-")
