"""`knowledge fields`: what filters may name, and what its values are; straight to the database."""

from __future__ import annotations

import argparse

from deploy.commands.context import CommandLine, Context
from deploy.database import database, pool
from deploy.output import table
from deploy.tenants import require_tenant
from retrieval.errors import FilterError
from retrieval.filters import FieldKind, require_field_name
from retrieval.store import KnowledgeStore


def add(group: CommandLine) -> None:
    """Declare the command."""
    command = group.command(
        "fields",
        _fields,
        summary="List the metadata fields that a filter may name, or say what the values of one are.",
        example="twinrail knowledge fields --set code=text",
    )
    command.add_argument(
        "--set",
        dest="kinds",
        type=_declared,
        action="append",
        metavar="NAME=KIND",
        default=[],
        help=f"{', '.join(FieldKind)}; may be repeated. A field is else what its first value was",
    )
    command.add_argument("--tenant", help="default: TWINRAIL_TENANT")
    command.add_argument("--dry-run", action="store_true", help="say what would be, and set nothing")


def _declared(text: str) -> tuple[str, FieldKind]:
    name, _, kind = text.rpartition("=")
    if not name or kind not in set(FieldKind):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=KIND with a kind of {', '.join(FieldKind)}")
    try:
        return require_field_name(name), FieldKind(kind)
    except FilterError as exc:
        raise argparse.ArgumentTypeError(str(exc).removeprefix("filters: ")) from exc


async def _fields(args: argparse.Namespace, context: Context) -> int:
    tenant = args.tenant or context.settings.tenant
    kinds: dict[str, FieldKind] = dict(args.kinds)
    async with database(context.settings, context.home) as url, pool(url) as connections:
        store = KnowledgeStore(connections)
        await store.check()
        await require_tenant(connections, tenant)
        if kinds and not args.dry_run:
            await store.declare_fields(tenant, kinds)
        fields = {**await store.fields(tenant), **kinds}
    context.out.result(
        {"fields": fields, "dry_run": args.dry_run},
        table(("field", "kind"), sorted(fields.items())) if fields else "no document has metadata yet",
    )
    return 0
