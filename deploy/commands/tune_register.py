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
from deploy.registrations import Wish, is_migrated, known_of, state_after
from deploy.settings import load
from deploy.version_weights import take_in
from eval.tuning.verdict_file import read_verdict_file
from gateway.database import Database
from gateway.reports import ReportStore
from serving.adapter_checks import AdapterFacts, check_adapter
from serving.errors import VerdictError
from serving.manifests import Manifest, read_run_record, write_manifest
from serving.registry import ModelRegistry
from serving.settings import ServingSettings
from serving.tuning.recipe import NAME
from serving.tuning.registering import PASS, REFUSED, Verdict, version_of_run, with_version
from serving.versions import ModelVersion, RegisteredVersion, VersionState

CANDIDATE = 4


def add(group: CommandLine) -> None:
    """Declare the command."""
    command = group.command(
        "register",
        _register,
        summary="Make a version of a training run. It takes traffic once a gate has passed exactly it.",
        example="twinrail tune register run --name support",
        exit_codes="0 releasable; 1 a gate refused it, or it was retired; 2 run, name or verdict cannot be "
        f"used; {CANDIDATE} no verdict yet: a candidate, which takes no traffic",
    )
    command.add_argument("run", type=Path, help="folder that `twinrail tune train` wrote")
    command.add_argument("--name", help="the middle of the id m-NAME-<digest> (default: the recipe's)")
    why = command.add_mutually_exclusive_group()
    why.add_argument(
        "--verdict",
        type=Path,
        metavar="FILE",
        help="report.json of its evaluation, where none is recorded (default: what is recorded of it)",
    )
    why.add_argument(
        "--force",
        action="store_true",
        help="let it take traffic although no gate has passed it; needs --reason, is kept, marks the version",
    )
    command.add_argument(
        "--revive", action="store_true", help="bring the version back if it was retired; needs --reason"
    )
    command.add_argument("--reason", default="", metavar="TEXT", help="kept with who forced or revived it")
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
    given = _given(args.verdict, run) if args.verdict else None
    if args.dry_run and not await is_migrated(context.settings, context.home):
        # Nothing is registered or recorded there, and a dry run makes nothing.
        passed = _passed([], given, args, context, run.version.id)
        state = state_after(run.version.id, None, _wish(args, passed))
        return _would(context, run.version, state)

    async with database(context.settings, context.home) as url:
        await migrate(url, on_step=lambda name: context.out.note(f"migrated {name}"))
        async with pool(url, size=1) as connections:
            # ---- 2. what gates say, and what is registered -------------------------------------------
            recorded = await _recorded(connections, run.version.id)
            passed = _passed(recorded, given, args, context, run.version.id)
            registry = ModelRegistry(connections)
            before = await known_of(registry, run.version.id)
            state = state_after(run.version.id, before, _wish(args, passed))
            await registry.require_same_use(run.version, run.record)
            if args.dry_run:
                return _would(context, run.version, state)

            # ---- 3. weights, registry, manifests -----------------------------------------------------
            models = context.models
            form, on_step = settings.tuned_as, context.out.note
            await asyncio.to_thread(take_in, run.folder, run.facts, models, form=form, on_step=on_step)
            registered = await _write(registry, run, passed, before, args)
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
    return _say(context, run.version, registered.state, dry_run=False)


def _check(args: argparse.Namespace, settings: ServingSettings) -> None:
    if (args.force or args.revive) != bool(args.reason.strip()):
        raise UsageError(
            "--reason: is for --force and --revive; leave it out"
            if args.reason.strip()
            else f"--reason: say why it is {'forced' if args.force else 'brought back'}"
        )
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


def _given(file: Path, run: _Run) -> Verdict:
    """The verdict of a file, of exactly this run."""
    sha256 = run.record.get("dataset_sha256")
    verdict = read_verdict_file(file, dataset_sha256=sha256 if isinstance(sha256, str) else None)
    verdict.require_about(run.version.id)
    return verdict


def _passed(
    recorded: Sequence[Verdict],
    given: Verdict | None,
    args: argparse.Namespace,
    context: Context,
    version_id: str,
) -> Verdict | None:
    """The verdict that lets it take traffic; raises GateRefusedError for one that forbids it.

    What is recorded counts, and a file only where its gate has said nothing yet.
    """
    if args.force:
        return None
    same = next((verdict for verdict in recorded if given and verdict.gate == given.gate), None)
    if given is not None and same is not None and same.sha256 != given.sha256:
        raise GateRefusedError(
            f"--verdict: {given.report}: the gate {same.gate} has said {same.verdict} of {version_id} in the "
            f"recorded report {same.report}, and a file does not outweigh that; leave it out, or evaluate "
            "again and have it recorded (`twinrail tune evaluate` without --no-record)"
        )
    verdicts = [*recorded, *([given] if given is not None and same is None else [])]
    for verdict in verdicts:
        if verdict.verdict == REFUSED:
            _require(verdict, version_id)
    # Not enough evidence at any gate is no refusal, and leaves it a candidate.
    thin = [verdict for verdict in verdicts if verdict.verdict != PASS]
    for verdict in thin:
        context.out.note(
            f"{verdict.report}: the gate {verdict.gate} has not enough evidence; see what the report lacks, "
            "and evaluate again"
        )
    return verdicts[-1] if verdicts and not thin else None


def _wish(args: argparse.Namespace, passed: Verdict | None) -> Wish:
    return Wish(passed=passed is not None, force=args.force, revive=args.revive)


def _would(context: Context, version: ModelVersion, state: VersionState) -> int:
    context.out.note(f"would register {version.id}: {state.value}")
    return _say(context, version, state, dry_run=True)


def _require(verdict: Verdict, version_id: str) -> None:
    try:
        verdict.require_passing(version_id)
    except VerdictError as exc:
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
    registry: ModelRegistry,
    run: _Run,
    passed: Verdict | None,
    before: RegisteredVersion | None,
    args: argparse.Namespace,
) -> RegisteredVersion:
    """The version as it is afterwards.

    A candidate first: that a gate or a person lets it take traffic is an event of its own, with who and why.
    """
    by, reason = person(), args.reason.strip()
    registered = before or await registry.register(
        run.version, manifest=run.record, releasable=False, author=by
    )
    if registered.retired_at is not None:
        registered = await registry.revive(run.version.id, by=by, reason=reason)
    if args.force:
        registered = await registry.make_releasable(run.version.id, by=by, reason=reason, forced=True)
    elif passed:
        metrics = {"gate": passed.gate, "report": passed.report, "report_sha256": passed.sha256}
        registered = await registry.make_releasable(
            run.version.id, by=by, reason=passed.reason(), metrics=metrics
        )
    return registered


def _say(context: Context, version: ModelVersion, state: VersionState, *, dry_run: bool) -> int:
    context.out.result({"id": version.id, "state": state.value, "dry_run": dry_run}, version.id)
    return CANDIDATE if state is VersionState.CANDIDATE else 0
