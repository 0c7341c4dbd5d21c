"""`ingest` and `migrate`: straight to the database; a gateway need not run."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import asdict
from pathlib import Path

from deploy.commands.context import CommandLine, Context
from deploy.database import database, place
from deploy.errors import UsageError
from deploy.migrate import migrate, pending
from deploy.settings import load
from retrieval.minilm import prepare_minilm
from retrieval.settings import RetrievalSettings

LEFT_OUT = 1


def add(commands: CommandLine) -> None:
    """Declare the commands."""
    ingest = commands.command(
        "ingest",
        _ingest,
        summary="Publish a help centre as one new snapshot; unchanged documents cost nothing.",
        example="twinrail ingest ./articles",
        exit_codes="0 published or unchanged, "
        "1 published without the files listed as unreadable, or refused: --replace is missing",
    )
    ingest.add_argument(
        "source",
        type=Path,
        help="folder of .md, .html, .pdf, .docx, .csv, .txt, .jsonl files, or one such file",
    )
    ingest.add_argument(
        "--name", help="name of the source; those of other names stay (default: the one help centre)"
    )
    ingest.add_argument(
        "--replace",
        action="store_true",
        help="go on although more than half of the source's documents would be removed",
    )
    ingest.add_argument("--tenant", help="default: TWINRAIL_TENANT")
    ingest.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")

    migration = commands.command(
        "migrate",
        _migrate,
        summary="Bring the database to this release.",
        example="twinrail migrate --dry-run",
    )
    migration.add_argument("--dry-run", action="store_true", help="list what would run, and run nothing")


async def _ingest(args: argparse.Namespace, context: Context) -> int:
    from deploy.knowledge import (  # weighs too much for every other command
        HELP_CENTRE,
        ingest_source,
        summary,
    )

    if not args.source.exists():
        raise UsageError(f"source: {args.source} does not exist; give a folder of articles or a .jsonl file")
    settings = load(RetrievalSettings)
    if not settings.embeddings_url and not context.models.embedder.exists():
        context.out.note("preparing the embedding model, once")
        await asyncio.to_thread(prepare_minilm, context.models.embedder)
    async with database(context.settings, context.home) as url:
        if args.dry_run and await pending(url):
            raise UsageError(
                f"DATABASE_URL: {place(url)} is not at this release; run `twinrail migrate` first"
            )
        await migrate(url, on_step=lambda name: context.out.note(f"migrated {name}"))
        report = await ingest_source(
            url,
            args.source.absolute(),
            settings=settings,
            embedder_folder=context.models.embedder,
            tenant=args.tenant or context.settings.tenant,
            name=args.name or HELP_CENTRE,
            say=context.out.note,
            dry_run=args.dry_run,
            replace=args.replace,
        )
    for failure in report.failures:
        context.out.note(f"left out {failure}")
    context.out.result(
        {**asdict(report), "failures": [str(failure) for failure in report.failures]}, summary(report)
    )
    return LEFT_OUT if report.failures else 0


async def _migrate(args: argparse.Namespace, context: Context) -> int:
    async with database(context.settings, context.home) as url:
        names = await (pending(url) if args.dry_run else migrate(url, on_step=context.out.note))
    verb = "would run" if args.dry_run else "ran"
    text = "\n".join(f"{verb} {name}" for name in names) or "nothing to do: the database is at this release"
    context.out.result({"dry_run": args.dry_run, "migrations": names}, text)
    return 0
