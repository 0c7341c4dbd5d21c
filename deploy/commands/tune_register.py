"""`tune register`: a training run becomes a version: a candidate first, releasable with a passing verdict."""

from __future__ import annotations

import argparse
import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.commands.context import CommandLine, Context, person
from deploy.database import Pool, database, pool
from deploy.errors import GateRefusedError, UsageError
from deploy.migrate import migrate
from deploy.settings import load
from deploy.version_weights import take_in
from gateway.database import Database
from gateway.reports import ReportStore
from serving.adapter_checks import AdapterFacts, check_adapter
from serving.errors import UnknownModelVersionError, VerdictError
from serving.manifests import Manifest, read_run_record, write_manifest
from serving.registry import ModelRegistry
from serving.settings import ServingSettings
from serving.tuning.recipe import NAME
from serving.tuning.registering import NOT_ENOUGH, PASS, REFUSED, Verdict, version_of_run, with_version
from serving.versions import ModelVersion, RegisteredVersion

CANDIDATE = 4


def add(group: CommandLine) -> None:
    """Declare the command."""
    command = group.command(
        "register",
        _register,
        summary="Make a version of a training run. It takes traffic once a gate has passed exactly it.",
        example="twinrail tune register run --name support",
        exit_codes=f"0 releasable; 1 a gate refused it; 2 run, name or verdict cannot be used; {CANDIDATE} "
        "no verdict yet: a candidate, which takes no traffic",
    )
    command.add_argument("run", type=Path, help="folder that `twinrail tune train` wrote")
    command.add_argument("--name", help="the middle of the id m-NAME-<digest> (default: the recipe's)")
    why = command.add_mutually_exclusive_group()
    why.add_argument(
        "--verdict",
        type=Path,
        metavar="FILE",
        help="report of the gate that passed it (default: what is recorded of the version)",
    )
    why.add_argument(
        "--force",
        action="store_true",
        help="let it take traffic although no gate has passed it; needs --reason, is kept, marks the version",
    )
    command.add_argument("--reason", default="", metavar="TEXT", help="kept with who forced it")
    command.add_argument("--dry-run", action="store_true", help="check everything and print the id")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What was found out of a run folder."""

    folder: Path
    facts: AdapterFacts
    version: ModelVersion
    record: dict[str, object]


async def _register(args: argparse.Namespace, context: Context) -> int:
    # ---- 1. the run, and what is given for it --------------------------------------------------------
    settings = load(ServingSettings)
    _check(args, settings)
    run = _read(args.run, args.name, context, settings)
    given = Verdict.read(args.verdict) if args.verdict else None
    if given and not _is_settled(given, run.version.id, context):
        given = None

    async with database(context.settings, context.home) as url:
        await migrate(url, on_step=lambda name: context.out.note(f"migrated {name}"))
        async with pool(url, size=1) as connections:
            # ---- 2. what gates say -------------------------------------------------------------------
            recorded = await _recorded(connections, run.version.id)
            if not args.force:
                for verdict in recorded:
                    if verdict.verdict == REFUSED:
                        _require(verdict, run.version.id)
            # Not enough evidence at any gate leaves it a candidate.
            all_pass = recorded and all(verdict.verdict == PASS for verdict in recorded)
            passed = None if args.force else given or (recorded[0] if all_pass else None)
            state = "forced" if args.force else "releasable" if passed else "candidate"
            if args.dry_run:
                context.out.note(f"would register {run.version.id}: {state}")
                return _say(context, run.version, state, dry_run=True)

            # ---- 3. weights, registry, manifests -----------------------------------------------------
            models = context.models
            form, on_step = settings.tuned_as, context.out.note
            await asyncio.to_thread(take_in, run.folder, run.facts, models, form=form, on_step=on_step)
            registry = ModelRegistry(connections)
            before, registered = await _write(registry, run, passed, forced_because=args.reason)
    write_manifest(
        context.models.root,
        Manifest.from_json(registered.manifest),
        replaces=Manifest.from_json(before.manifest) if before else None,
    )
    with_version(run.folder, registered.id)

    # ---- 4. what now ---------------------------------------------------------------------------------
    context.out.note(f"{registered.id}: {registered.state.value}")
    if not registered.releasable:
        context.out.note(
            "it lacks a passing verdict, so it takes no traffic. Have it served: `twinrail model stage "
            f"{registered.id}`; measure it on what it was not trained on: `twinrail tune evaluate "
            f"{run.folder} --dataset DIR` with the folder of its dataset{_dataset_of(run.record)}; then run "
            "this again"
        )
    else:
        context.out.note(f"it may take traffic: `twinrail model promote {registered.id}`")
    return _say(context, run.version, registered.state.value, dry_run=False)


def _check(args: argparse.Namespace, settings: ServingSettings) -> None:
    if args.force != bool(args.reason.strip()):
        lacks = "--reason: say why it is forced" if args.force else "--reason: is for --force; leave it out"
        raise UsageError(lacks)
    if args.name is not None and not re.fullmatch(NAME, args.name):
        raise UsageError(
            f"--name: {args.name!r} cannot be part of an id; "
            "use 1 to 40 lower-case letters, digits and hyphens"
        )
    if settings.engine_urls:
        raise UsageError(
            "SERVING_ENGINES: names engines of somebody else, which this command gives no weights to; have "
            "those serve the adapter and use `twinrail model register --served-name`, or unset it"
        )


def _read(folder: Path, name: str | None, context: Context, settings: ServingSettings) -> _Run:
    if not folder.is_dir():
        raise UsageError(f"run: no folder {folder}; give what `twinrail tune train` wrote")
    facts, found = check_adapter(folder, base=context.models.base), read_run_record(folder)
    version = version_of_run(found, facts, folder=folder, name=name)
    # The version holds them; a second copy would only be able to differ.
    record = {key: value for key, value in found.items() if key not in ("definition", "version")}
    record |= {**facts.record(), "source": "twinrail tune train", "served_as": settings.tuned_as.value}
    return _Run(folder=folder, facts=facts, version=version, record=record)


def _dataset_of(record: Mapping[str, object]) -> str:
    """The dataset's own name, as far as the run tells it."""
    dataset = record.get("dataset")
    name = dataset.get("name") if isinstance(dataset, Mapping) else None
    return f" {name!r}" if name else ""


def _is_settled(verdict: Verdict, version_id: str, context: Context) -> bool:
    """Whether a given verdict lets it pass. Not enough evidence is no refusal: it stays a candidate."""
    if (verdict.version, verdict.verdict) != (version_id, NOT_ENOUGH):
        _require(verdict, version_id)
        return True
    context.out.note(
        f"{verdict.report}: the gate {verdict.gate} has not enough evidence; see what the report lacks, and "
        "evaluate again"
    )
    return False


def _require(verdict: Verdict, version_id: str) -> None:
    try:
        verdict.require_passing(version_id)
    except VerdictError as exc:
        if verdict.version != version_id:
            raise
        raise GateRefusedError(f"verdict: {exc}") from exc


async def _recorded(connections: Pool, version_id: str) -> Sequence[Verdict]:
    """The newest verdict of each gate on the version."""
    rows = await ReportStore(Database(connections)).verdicts("model", version_id)
    return [
        Verdict(
            gate=row["gate"],
            version=row["version"],
            verdict=row["verdict"],
            report=row["report"],
            sha256=row["sha256"],
        )
        for row in rows
    ]


async def _write(
    registry: ModelRegistry, run: _Run, passed: Verdict | None, *, forced_because: str
) -> tuple[RegisteredVersion | None, RegisteredVersion]:
    """The version as it was, if it was there, and as it is.

    A candidate first: that a gate or a person lets it take traffic is an event of its own, with who and why.
    """
    by = person()
    try:
        before: RegisteredVersion | None = await registry.version(run.version.id)
    except UnknownModelVersionError:
        before = None
    registered = before or await registry.register(
        run.version, manifest=run.record, releasable=False, author=by
    )
    if registered.retired_at is not None:
        registered = await registry.revive(run.version.id, by=by, reason="twinrail tune register")
    if forced_because:
        registered = await registry.make_releasable(run.version.id, by=by, reason=forced_because, forced=True)
    elif passed:
        metrics = {"gate": passed.gate, "report": passed.report, "report_sha256": passed.sha256}
        registered = await registry.make_releasable(
            run.version.id, by=by, reason=passed.reason(), metrics=metrics
        )
    return before, registered


def _say(context: Context, version: ModelVersion, state: str, *, dry_run: bool) -> int:
    context.out.result({"id": version.id, "state": state, "dry_run": dry_run}, version.id)
    return CANDIDATE if state == "candidate" else 0
