"""`model versions`, `show`, `diff`, `probe`, `retire`: versions of the model rail, through the gateway."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deploy.commands.context import CommandLine, Context
from deploy.errors import GateRefusedError
from deploy.gateway_api import GatewayApi
from deploy.models import ModelFolders
from deploy.output import table
from serving.differences import Difference, differences
from serving.errors import ManifestError
from serving.manifests import Manifest, check_manifest_file
from serving.versions import VersionState

#: Exit code of a probe that does not pass.
REFUSED = 1
VERSIONS = "/v1/rails/model/versions"


def add(commands: CommandLine) -> None:
    """Declare the commands."""
    versions = commands.command(
        "versions",
        _versions,
        summary="List the model versions: what they may do, what part they play, what they are made of.",
        example="twinrail model versions",
    )
    versions.add_argument("--all", action="store_true", help="retired ones too")

    show = commands.command(
        "show",
        _show,
        summary="Show one version: manifest, arms, verdicts, probes, what was done with it.",
        example="twinrail model show m-support-1a2b3c4d",
    )
    show.add_argument("version", help="a version id, as `twinrail model versions` lists them")

    diff = commands.command(
        "diff",
        _diff,
        summary="Show what differs between two versions, part by part.",
        example="twinrail model diff m-support-1a2b3c4d m-support-5e6f7a8b",
        exit_codes="0 whether or not they differ",
    )
    diff.add_argument("before", help="a version id")
    diff.add_argument("after", help="another one")

    probe = commands.command(
        "probe",
        _probe,
        summary="Have every engine that lists a version show that its adapter changes what the base writes.",
        example="twinrail model probe m-support-1a2b3c4d",
        exit_codes="0 all of them passed, 1 one failed, or no engine lists it",
    )
    probe.add_argument("version", help="a version id")

    retire = commands.command(
        "retire",
        _retire,
        summary="Give up a version that no traffic can reach; engines let go of it, and its turns stay.",
        example="twinrail model retire m-support-1a2b3c4d --reason 'replaced in May'",
        exit_codes="0 retired, 1 traffic can reach it, now or by an undo",
    )
    retire.add_argument("version", help="a version id")
    retire.add_argument("--reason", default="", metavar="TEXT", help="kept with who gave it up")
    retire.add_argument(
        "--delete-weights",
        action="store_true",
        help="remove its adapter from TWINRAIL_MODELS too, if no other version uses it",
    )
    retire.add_argument("--dry-run", action="store_true", help="say what would happen, and change nothing")


# ---- versions ----------------------------------------------------------------------------------------


async def _versions(args: argparse.Namespace, context: Context) -> int:
    async with context.gateway("admin") as gateway:
        found = (await gateway.get(VERSIONS))["versions"]
    shown = [each for each in found if args.all or each["state"] != "retired"]
    header = ("version", "state", "part", "task", "prompt", "base", "adapter", "author", "created")
    context.out.result({"versions": shown}, table(header, map(_row, shown)))
    for each in shown:
        if each["state"] == VersionState.UNREADABLE:
            context.out.note(f"warning: {each['details']['reason']}")
    if hidden := len(found) - len(shown):
        context.out.note(f"{hidden} retired: --all lists them too")
    return 0


def _row(version: Mapping[str, Any]) -> tuple[str, ...]:
    details = version["details"]
    if "task" not in details:  # its row was damaged
        parts = "+".join(details["roles"]) or "-"
        made = (details["author"] or "-", str(details["created_at"])[:16])
        return (version["id"], version["state"], parts, "-", "-", "-", "-", *made)
    return (
        version["id"],
        version["state"],
        "+".join(details["roles"]) or "-",
        details["task"],
        details["prompt"],
        _short(details["base_digest"]),
        _short(details["adapter_digest"]),
        details["author"] or "-",
        str(details["created_at"])[:16],
    )


# ---- show --------------------------------------------------------------------------------------------


async def _show(args: argparse.Namespace, context: Context) -> int:
    async with context.gateway("admin") as gateway:
        found = await _version(gateway, args.version)
        query = f"/v1/rails/model/replicas?version={quote(args.version, safe='')}"
        (engines,) = (await gateway.get(query))["versions"]
    try:
        here = check_manifest_file(context.models.root, Manifest.from_json(found["details"]["manifest"]))
        fault = ""
    except ManifestError as exc:
        here, fault = True, str(exc)
        context.out.note(f"warning: {fault}")
    value = {**found, "engines": engines, "manifest_file": {"is_here": here, "fault": fault}}
    context.out.result(value, "\n".join(_told(found, engines)))
    return 0


def _told(found: Mapping[str, Any], engines: Mapping[str, Any]) -> Iterator[str]:
    """The sections of `show`; one that has nothing to say is left out."""
    details, manifest = found["details"], found["details"]["manifest"]
    yield f"{found['id']}  {found['state']}" + (
        f", {' and '.join(details['roles'])}" if details["roles"] else ""
    )
    yield ""
    rows = [(name, _shown(value)) for name, value in manifest.items() if value not in (None, {}, [], "")]
    rows += [("served_name", details["served_name"])]
    yield table(("manifest", ""), rows)
    sections: tuple[tuple[str, tuple[str, ...], list[tuple[str, ...]]], ...] = (
        (
            "verdicts",
            ("gate", "verdict", "report", "by", "at"),
            [
                (each["gate"], each["verdict"], each["report"], each["given_by"], each["created_at"][:16])
                for each in found["verdicts"]
            ],
        ),
        (
            f"engines: {'routable' if engines['routable'] else 'not routable'}",
            ("engine", "state", "because", "since"),
            [
                (each["url"], each["state"], each["reason"] or "-", each["since"][:16])
                for each in engines["holdings"]
            ],
        ),
        (
            "events",
            ("at", "what", "by", "reason"),
            [
                (each["at"][:16], each["action"], each["by"], each["reason"] or "-")
                for each in found["events"]
            ],
        ),
        (
            "moves",
            ("at", "move", "stable", "canary", "previous", "fallback"),
            [
                (
                    *(each["moved_at"][:16], each["action"], each["stable"] or "-", _canary(each)),
                    *(each["previous"] or "-", each["fallback"] or "-"),
                )
                for each in found["moves"]
            ],
        ),
    )
    for title, header, lines in sections:
        if lines:
            yield f"\n{title}\n{table(header, lines)}"


def _canary(move: Mapping[str, Any]) -> str:
    return f"{move['canary']} ({move['canary_weight_bp'] / 100:g} %)" if move["canary"] else "-"


# ---- diff --------------------------------------------------------------------------------------------


async def _diff(args: argparse.Namespace, context: Context) -> int:
    async with context.gateway("admin") as gateway:
        before, after = await _version(gateway, args.before), await _version(gateway, args.after)
    found = differences(
        before["definition"],
        after["definition"],
        manifests=(before["details"]["manifest"], after["details"]["manifest"]),
    )
    value = {"before": before["id"], "after": after["id"], "differences": [each.as_json() for each in found]}
    context.out.result(value, _compared(before["id"], after["id"], found))
    return 0


def _compared(before: str, after: str, found: Sequence[Difference]) -> str:
    if not found:
        return f"{before} and {after} do not differ"
    rows = [(each.part, _shown(each.before), _shown(each.after)) for each in found if not each.lines]
    texts = ["\n".join((f"{each.part}:", *each.lines)) for each in found if each.lines]
    return "\n\n".join([*([table(("part", before, after), rows)] if rows else []), *texts])


# ---- probe -------------------------------------------------------------------------------------------


async def _probe(args: argparse.Namespace, context: Context) -> int:
    async with context.gateway("admin") as gateway:
        report = await gateway.post("/v1/rails/model:probe", {"version": args.version})
    rows = [
        (each["url"], "passed" if each["passed"] else "failed", each["reason"] or "-")
        for each in report["engines"]
    ]
    text = table(("engine", "probe", "because"), rows) if rows else f"no engine lists {args.version}"
    context.out.result(report, text)
    return 0 if report["passed"] else REFUSED


# ---- retire ------------------------------------------------------------------------------------------


async def _retire(args: argparse.Namespace, context: Context) -> int:
    async with context.gateway("admin") as gateway:
        listed = (await gateway.get(VERSIONS))["versions"]
        others = [each for each in listed if each["id"] != args.version]
        # One whose row was damaged is listed, and cannot be asked for.
        version = next((each for each in listed if each["id"] == args.version), None)
        version = version or await _version(gateway, args.version)
        folders = weights_of(version, others, context.models) if args.delete_weights else []
        if args.dry_run and version["details"]["roles"]:
            parts = " and ".join(version["details"]["roles"])
            raise GateRefusedError(f"version: {args.version} would not be retired: it is {parts}")
        if not args.dry_run:
            await gateway.post("/v1/rails/model:retire", {"version": args.version, "reason": args.reason})
    if not args.dry_run:
        for folder in folders:
            shutil.rmtree(folder)
    verb = "would be retired" if args.dry_run else "is retired"
    removed = [folder.name for folder in folders]
    if args.delete_weights:
        verb += f", and {' and '.join(removed)} removed" if removed else "; no weights are its alone"
    value = {"version": args.version, "dry_run": args.dry_run, "removed": removed}
    context.out.result(value, f"{args.version} {verb}")
    return 0


def weights_of(
    version: Mapping[str, Any], others: Sequence[Mapping[str, Any]], models: ModelFolders
) -> list[Path]:
    """Folders of this machine that only this version's adapter needs. A base belongs to all."""
    needed = [version, *(each for each in others if each["state"] != VersionState.RETIRED)]
    if damaged := [each["id"] for each in needed if "adapter_digest" not in each["details"]]:
        raise GateRefusedError(
            f"--delete-weights: {damaged[0]} cannot be read, so nobody knows which weights it needs; "
            "restore its row first, or leave --delete-weights out"
        )
    digest = version["details"]["adapter_digest"]
    used = {each["details"]["adapter_digest"] for each in needed[1:]}
    if digest is None or digest in used:
        return []
    folders = (models.adapter(digest), models.merged(version["details"]["base_digest"], digest))
    return [folder for folder in folders if folder.is_dir()]


async def _version(gateway: GatewayApi, version_id: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = await gateway.get(f"{VERSIONS}/{quote(version_id, safe='')}")
    return found


def _short(digest: str | None) -> str:
    return digest[:8] if digest else "-"


def _shown(value: Any) -> str:
    """On one line, and cut: `--json` has it whole."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:97]}..."
