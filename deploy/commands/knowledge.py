"""`ingest` and `migrate`: straight to the database; a gateway need not run."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.commands.context import CommandLine, Context
from deploy.database import database, place, pool
from deploy.errors import UsageError
from deploy.migrate import migrate, pending
from deploy.settings import load
from deploy.tenants import add_new_tenant, require_tenant
from retrieval.minilm import prepare_minilm
from retrieval.settings import RetrievalSettings

if TYPE_CHECKING:
    from retrieval.ingest_report import IngestReport

    Sync = Callable[[], Awaitable[IngestReport]]

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
    ingest.add_argument(
        "--allow-purged",
        action="store_true",
        help="take in documents again that were purged, as new ones (default: they are left out and listed)",
    )
    ingest.add_argument(
        "--watch", action="store_true", help="go on: publish again whenever the source changes"
    )
    ingest.add_argument(
        "--interval",
        type=_seconds,
        metavar="SECONDS",
        help="with --watch: look this often, where the file system announces no changes",
    )
    ingest.add_argument(
        "--queue",
        action="store_true",
        help="leave it to a `twinrail worker` that reads the same path, and print the job's id",
    )
    ingest.add_argument("--tenant", help="default: TWINRAIL_TENANT")
    add_new_tenant(ingest)
    ingest.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")

    migration = commands.command(
        "migrate",
        _migrate,
        summary="Bring the database to this release.",
        example="twinrail migrate --dry-run",
    )
    migration.add_argument("--dry-run", action="store_true", help="list what would run, and run nothing")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 86400")
    return seconds


async def _ingest(args: argparse.Namespace, context: Context) -> int:
    if not args.source.exists():
        raise UsageError(f"source: {args.source} does not exist; give a folder of articles or a .jsonl file")
    if args.interval is not None and not args.watch:
        raise UsageError("--interval: means nothing without --watch; give both, or neither")
    if args.watch and (args.dry_run or args.queue):
        raise UsageError("--watch: publishes for ever; leave out --dry-run and --queue")
    if args.queue:
        return await _queue(args, context)
    settings, tenant = load(RetrievalSettings), args.tenant or context.settings.tenant
    if not settings.embeddings_url and not context.models.embedder.exists():
        context.out.note("preparing the embedding model, once")
        await asyncio.to_thread(prepare_minilm, context.models.embedder)

    @asynccontextmanager
    async def open_sync() -> AsyncIterator[Sync]:
        async with database(context.settings, context.home) as url:
            if args.dry_run and await pending(url):
                raise UsageError(
                    f"DATABASE_URL: {place(url)} is not at this release; run `twinrail migrate` first"
                )
            await migrate(url, on_step=lambda name: context.out.note(f"migrated {name}"))
            from deploy.knowledge import HELP_CENTRE, source_sync  # weighs too much for other commands

            async with pool(url, size=1) as connections:
                await require_tenant(connections, tenant, new=args.new_tenant)
            async with source_sync(
                url,
                args.source.absolute(),
                settings=settings,
                embedder_folder=context.models.embedder,
                tenant=tenant,
                name=args.name or HELP_CENTRE,
                say=context.out.note,
                dry_run=args.dry_run,
                replace=args.replace,
                allow_purged=args.allow_purged,
            ) as sync:
                yield sync

    if args.watch:
        return await _watch(args, context, open_sync)
    try:
        async with open_sync() as sync:
            report = await sync()
    except asyncio.CancelledError:
        context.out.note("interrupted; nothing is half published, and the same command goes on from here")
        raise
    for failure in report.failures:
        context.out.note(f"left out {failure}")
    _tell(context, report)
    return LEFT_OUT if report.failures else 0


async def _watch(
    args: argparse.Namespace,
    context: Context,
    open_sync: Callable[[], AbstractAsyncContextManager[Sync]],
) -> int:
    from deploy.watching import Watch

    watch = Watch(
        args.source.absolute(),
        open_sync,
        interval_s=args.interval,
        on_report=partial(_tell, context),
        say=context.out.note,
    )
    watching = asyncio.create_task(watch.run(), name="watch")
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, watching.cancel)
    context.out.note(f"watching {args.source}; Ctrl-C stops")
    await asyncio.wait([watching])
    if not watching.cancelled():
        watching.result()
    context.out.note("stopped; nothing is half published, and the same command goes on from here")
    return 0


async def _queue(args: argparse.Namespace, context: Context) -> int:
    """Leave it to the workers."""
    from deploy.knowledge import HELP_CENTRE
    from retrieval.jobs import JobKind, JobStore
    from retrieval.store import KnowledgeStore

    details = {"path": str(args.source.absolute()), "replace": args.replace}
    if args.dry_run:
        raise UsageError("--dry-run: a job that changes nothing is not worth queueing; leave out --queue")
    tenant = args.tenant or context.settings.tenant
    async with database(context.settings, context.home) as url, pool(url, size=1) as connections:
        await require_tenant(connections, tenant, new=args.new_tenant)
        job = await JobStore(KnowledgeStore(connections)).submit(
            tenant,
            JobKind.SOURCE,
            source=args.name or HELP_CENTRE,
            details=details,
        )
    context.out.result(
        {"job": str(job.id), "state": job.state},
        f"{job.id}: queued; a worker that can read {details['path']} does it",
    )
    return 0


def _tell(context: Context, report: IngestReport) -> None:
    from deploy.knowledge import summary

    context.out.result(
        {**asdict(report), "failures": [str(failure) for failure in report.failures]}, summary(report)
    )


async def _migrate(args: argparse.Namespace, context: Context) -> int:
    async with database(context.settings, context.home) as url:
        names = await (pending(url) if args.dry_run else migrate(url, on_step=context.out.note))
    verb = "would run" if args.dry_run else "ran"
    text = "\n".join(f"{verb} {name}" for name in names) or "nothing to do: the database is at this release"
    context.out.result({"dry_run": args.dry_run, "migrations": names}, text)
    return 0
