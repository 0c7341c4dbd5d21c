"""`jobs`: what is done in the background, and steering it; in the database, a gateway need not run."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from deploy.commands.context import CommandLine, Context
from deploy.database import database, pool
from deploy.errors import UsageError
from deploy.output import table
from retrieval.errors import UnknownJobError

if TYPE_CHECKING:
    from retrieval.jobs import Job, JobStore

MOVES = {
    "pause": "Stop a job between two batches; it publishes nothing until it is resumed, and others pass it.",
    "resume": "Go on with a job that was paused, or try one again that failed.",
    "cancel": "End a job for good; it publishes nothing, and what was sent with it is dropped.",
}
MOVE_CODES = "0 done, or it was so already; 1 the job has ended or has published; 2 there is no such job"
#: Of one list.
MOST = 1000


def add(commands: CommandLine) -> None:
    """Declare the commands."""
    jobs = commands.group("jobs", "Jobs of the queue: list, show, pause, resume, cancel.")
    listing = jobs.command(
        "list", _list, summary="List the tenant's jobs, newest first.", example="twinrail jobs list --open"
    )
    listing.add_argument(
        "--open", action="store_true", help="only those that have not ended, and failed ones"
    )
    listing.add_argument(
        "--limit", type=_limit, default=50, help=f"at most so many, 1 to {MOST} (default: 50)"
    )
    whose = listing.add_mutually_exclusive_group()
    whose.add_argument("--tenant", help="default: TWINRAIL_TENANT")
    whose.add_argument("--all-tenants", action="store_true", help="of every tenant that ever had a job")

    show = jobs.command(
        "show",
        _show,
        summary="Show how far a job is, what came of it, and why it waits or failed.",
        example="twinrail jobs show 0f8c3c1e-6f0e-4a57-9a4e-2f1d6a1b7c55",
        exit_codes="0 shown, 2 there is no such job",
    )
    _name(show)
    for move, summary in MOVES.items():
        command = jobs.command(
            move,
            partial(_move, move),
            summary=summary,
            example=f"twinrail jobs {move} 0f8c3c1e-6f0e-4a57-9a4e-2f1d6a1b7c55",
            exit_codes=MOVE_CODES,
        )
        _name(command)
        command.add_argument(
            "--dry-run", action="store_true", help="say whether it can be, and change nothing"
        )


def _name(command: argparse.ArgumentParser) -> None:
    command.add_argument("id", help="the job's id, as `twinrail jobs list` shows it")
    command.add_argument("--tenant", help="default: TWINRAIL_TENANT")


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MOST}")
    return int(text)


@asynccontextmanager
async def _store(context: Context) -> AsyncIterator[JobStore]:
    from retrieval.jobs import JobStore  # weighs too much for every other command
    from retrieval.store import KnowledgeStore

    async with database(context.settings, context.home) as url, pool(url, size=1) as connections:
        store = KnowledgeStore(connections)
        await store.check()
        yield JobStore(store)


async def _list(args: argparse.Namespace, context: Context) -> int:
    async with _store(context) as store:
        tenants = await store.tenants() if args.all_tenants else [args.tenant or context.settings.tenant]
        found = [
            job
            for tenant in tenants
            for job in await store.jobs(tenant, limit=args.limit, open_only=args.open)
        ]
    found = sorted(found, key=lambda job: job.created_at, reverse=True)[: args.limit]
    header = (
        "id",
        "tenant",
        "kind",
        "source",
        "state",
        "progress",
        "attempts",
        "created",
        "snapshot",
        "error",
    )
    context.out.result([_described(job) for job in found], table(header, [_row(job) for job in found]))
    return 0


async def _show(args: argparse.Namespace, context: Context) -> int:
    job_id, tenant = _id(args.id), args.tenant or context.settings.tenant
    async with _store(context) as store:
        job = await _known(store, tenant, job_id)
    context.out.result(_described(job), "\n".join(f"{name:<10}  {value}" for name, value in _facts(job)))
    return 0


async def _move(move: str, args: argparse.Namespace, context: Context) -> int:
    from retrieval.jobs import DONE, refusal

    job_id, tenant = _id(args.id), args.tenant or context.settings.tenant
    async with _store(context) as store:
        job = await _known(store, tenant, job_id)
        if args.dry_run:
            if error := refusal(job, move):
                raise error
        else:
            job = await store.move(tenant, job_id, move)
    verb = f"would be {DONE[move]}" if args.dry_run else f"is {job.state}"
    context.out.result({**_described(job), "dry_run": args.dry_run}, f"{job.id} {verb}")
    return 0


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as exc:
        raise UsageError(f"id: {text!r} is not a job's id; `twinrail jobs list` shows them") from exc


async def _known(store: JobStore, tenant: str, job_id: UUID) -> Job:
    try:
        return await store.job(tenant, job_id)
    except UnknownJobError as exc:
        raise UsageError(
            f"id: tenant {tenant!r} has no job {job_id}; `twinrail jobs list --all-tenants` shows whose it is"
        ) from exc


def _described(job: Job) -> dict[str, Any]:
    """A job as JSON, as the API shows it, with whose it is and what it was given."""
    return {key: _time(value) if isinstance(value, datetime) else value for key, value in asdict(job).items()}


def _row(job: Job) -> tuple[str, ...]:
    return (
        str(job.id),
        job.tenant,
        str(job.kind),
        job.source,
        str(job.state),
        _progress(job),
        str(job.attempts),
        _time(job.created_at),
        str(job.snapshot or "-"),
        str(job.error["type"]) if job.error else "-",
    )


def _facts(job: Job) -> list[tuple[str, str]]:
    """The lines of `show`; what there is nothing to say of is left out."""
    facts = [
        ("id", str(job.id)),
        ("tenant", job.tenant),
        ("kind", str(job.kind)),
        ("source", job.source),
        ("state", str(job.state)),
        ("progress", _progress(job)),
        ("attempts", str(job.attempts)),
        ("created", _time(job.created_at)),
        ("started", _time(job.started_at)),
        ("finished", _time(job.finished_at)),
        ("snapshot", str(job.snapshot or "-")),
    ]
    facts += [("given", f"{name} = {value}") for name, value in job.details.items()]
    if job.error:
        field, fix = job.error.get("field"), job.error.get("fix")
        place = f"{field}: " if field else ""
        facts.append(
            ("error", f"{job.error['type']}: {place}{job.error['problem']}{f'; {fix}' if fix else ''}")
        )
    for name, value in (job.report or {}).items():
        if name != "failures":
            facts.append(("report", f"{name} = {value}"))
    for failure in (job.report or {}).get("failures", ()):
        facts.append(
            ("left out", f"{failure['document']}: {failure['field']}: {failure['problem']}; {failure['fix']}")
        )
    return [(name, value) for name, value in facts if value != "-"]


def _progress(job: Job) -> str:
    if not job.stage:
        return "-"
    return f"{job.stage} {job.done}/{job.total}" if job.total else job.stage


def _time(at: datetime | None) -> str:
    return at.isoformat(timespec="seconds") if at else "-"
