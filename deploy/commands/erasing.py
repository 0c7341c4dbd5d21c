"""`knowledge purge` and `freshness`: straight to the database, like `ingest`; a gateway need not run."""

from __future__ import annotations

import argparse
import getpass
import re
from dataclasses import asdict
from datetime import UTC, datetime

from deploy.commands.context import CommandLine, Context
from deploy.database import database, pool
from deploy.errors import UsageError
from deploy.output import table
from deploy.tenants import require_tenant
from gateway.database import Database
from gateway.erasing import purge_document
from gateway.turns import TurnStore
from retrieval.freshness import SourceFreshness, expect_syncs, freshness
from retrieval.store import KnowledgeStore

OVERDUE = 1
_HEADER = ("source", "last sync", "every", "left out", "published", "newest change", "lag")
_SECONDS = {"m": 60, "h": 3600, "d": 86400}


def add(group: CommandLine) -> None:
    """Declare the commands."""
    purge = group.command(
        "purge",
        _purge,
        summary="Erase a document for good: every version, at every snapshot, and from recorded turns.",
        example="twinrail knowledge purge refunds --dry-run",
    )
    purge.add_argument("document", help="id of the document")
    purge.add_argument("--tenant", help="default: TWINRAIL_TENANT")
    purge.add_argument("--by", help="who decided it, kept beside the date (default: this user)")
    purge.add_argument("--dry-run", action="store_true", help="say what would go, and erase nothing")

    fresh = group.command(
        "freshness",
        _freshness,
        summary="List the sources: last look, last publish, how long a change took to be found.",
        example="twinrail knowledge freshness --source help-centre --expect 6h",
        exit_codes="0 all in time, 1 a source is overdue",
    )
    fresh.add_argument("--tenant", help="default: TWINRAIL_TENANT")
    fresh.add_argument("--source", help="with --expect: which source")
    fresh.add_argument(
        "--expect", type=_interval, help="how often it is meant to be synced, such as 30m, 6h, 1d; `off`"
    )
    fresh.add_argument("--dry-run", action="store_true", help="with --expect: list as it is, expect nothing")


async def _purge(args: argparse.Namespace, context: Context) -> int:
    async with database(context.settings, context.home) as url, pool(url) as connections:
        store = KnowledgeStore(connections)
        await store.check()
        await require_tenant(connections, args.tenant or context.settings.tenant)
        purged = await purge_document(
            store,
            TurnStore(Database(connections)),
            args.tenant or context.settings.tenant,
            args.document,
            by=args.by or getpass.getuser(),
            dry_run=args.dry_run,
        )
    verb = "would erase" if args.dry_run else "erased"
    told = (
        f"{verb} {args.document}: {purged.texts} texts, {purged.chunks} chunks, {purged.vectors} vectors; "
        f"{purged.turns} turns held it"
    )
    if purged.erased_at is not None:
        told += f"; tombstone {purged.tombstone[:12]} of {purged.erased_at:%Y-%m-%d}"
    context.out.result({"dry_run": args.dry_run, **purged.model_dump(mode="json")}, told)
    return 0


async def _freshness(args: argparse.Namespace, context: Context) -> int:
    if (args.source is None) != (args.expect is None):
        raise UsageError("--expect: needs --source, and --source needs --expect; neither lists all")
    tenant = args.tenant or context.settings.tenant
    async with database(context.settings, context.home) as url, pool(url) as connections:
        store = KnowledgeStore(connections)
        await require_tenant(connections, tenant)
        if args.source is not None:
            await expect_syncs(store, tenant, args.source, args.expect or None, dry_run=args.dry_run)
        sources = await freshness(store, tenant)
    now = datetime.now(UTC)
    overdue = [each.source for each in sources if each.is_overdue(now)]
    text = table(_HEADER, [_row(each, now) for each in sources]) if sources else "nothing was ingested yet"
    context.out.result({"sources": [asdict(each) for each in sources], "overdue": overdue}, text)
    return OVERDUE if overdue else 0


def _row(source: SourceFreshness, now: datetime) -> list[str]:
    return [
        source.source,
        _when(source.checked_at) + (" OVERDUE" if source.is_overdue(now) else ""),
        f"{source.sync_every_s} s" if source.sync_every_s else "-",
        str(source.left_out),
        _when(source.published_at),
        _when(source.changed_at),
        "-" if source.lag_s is None else f"{source.lag_s:.1f} s",
    ]


def _when(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def _interval(text: str) -> int:
    """Seconds; 0 for `off`."""
    if text == "off":
        return 0
    found = re.fullmatch(r"([1-9]\d{0,5})([mhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not an interval; write 30m, 6h, 1d or off")
    return int(found[1]) * _SECONDS[found[2]]
