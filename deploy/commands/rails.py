"""`rails`, `undo`, `promote`, `canary`, `shadow`: what is live on each rail, and the moves of its pointer."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from deploy.commands.context import CommandLine, Context
from deploy.commands.staging import add_wait, brought_onto_engines
from deploy.errors import GateRefusedError, UsageError
from deploy.gateway_api import GatewayApi
from deploy.output import table

RAILS = ("knowledge", "model")
UNDO_CODES = (
    "0 done, 1 nothing to undo, or the rail moved meanwhile, or no engine serves the version, or a gate has "
    "refused it, or the gateway lacks its embedder"
)


def add(commands: CommandLine) -> None:
    """Declare the commands."""
    rails = commands.command(
        "rails", _rails, summary="Show what is live on each rail.", example="twinrail rails"
    )
    rails.add_argument("--versions", action="store_true", help="list every version too")

    _undo_arguments(
        commands.command(
            "undo",
            _undo,
            summary="Take back the last move of one rail; the other one is not touched. Twice is redo.",
            example="twinrail undo knowledge",
            exit_codes=UNDO_CODES,
        )
    ).add_argument("rail", choices=RAILS)

    _promote_arguments(
        commands.command(
            "promote",
            _promote,
            summary="Make a version stable on its rail.",
            example="twinrail promote model m-support-1a2b3c4d",
        )
    )

    canary = commands.command(
        "canary",
        _canary,
        summary="Give a version a share of the traffic, or take it away.",
        example="twinrail canary model m-support-1a2b3c4d --percent 5",
    )
    canary.add_argument("rail", choices=RAILS)
    canary.add_argument("version", nargs="?", help="a version id")
    canary.add_argument("--percent", type=float, help="share of the conversations, 0 to 100")
    canary.add_argument("--off", action="store_true", help="end the canary")
    _add_force(canary)
    add_wait(canary)
    _add_dry_run(canary)


def add_knowledge(commands: CommandLine) -> None:
    """Declare the same moves of the same pointer under `twinrail knowledge`."""
    undo = commands.command(
        "undo",
        _undo,
        summary="Take back the last move of the index version, or with --publish the last publish.",
        example="twinrail knowledge undo",
        exit_codes=UNDO_CODES,
    )
    _undo_arguments(undo).set_defaults(rail="knowledge")

    promote = commands.command(
        "promote",
        _promote,
        summary="Make an index version stable; the one before stays where an undo finds it.",
        example="twinrail knowledge promote k-smaller-1a2b3c4d",
    )
    promote.add_argument("version", help="a version id, as `twinrail knowledge versions` lists them")
    promote.set_defaults(rail="knowledge")
    _add_force(promote)
    _add_dry_run(promote)

    shadow = commands.command(
        "shadow",
        _shadow,
        summary="Name the index version that is watched beside the live one, or end that.",
        example="twinrail knowledge shadow k-smaller-1a2b3c4d",
    )
    shadow.add_argument("version", nargs="?", help="a version id")
    shadow.add_argument("--off", action="store_true", help="end the shadow")
    _add_dry_run(shadow)


def add_model(commands: CommandLine) -> None:
    """Declare the same moves of the same pointer under `twinrail model`."""
    undo = commands.command(
        "undo",
        _undo,
        summary="Take back the last move of the model rail. Twice is redo.",
        example="twinrail model undo",
        exit_codes=UNDO_CODES,
    )
    undo.set_defaults(rail="model", publish=False)
    _add_force(undo)
    _add_dry_run(undo)

    promote = commands.command(
        "promote",
        _promote,
        summary="Make a model version stable, once every engine has shown that it serves it.",
        example="twinrail model promote m-support-1a2b3c4d",
    )
    promote.add_argument("version", help="a version id, as `twinrail model versions` lists them")
    promote.set_defaults(rail="model")
    _add_force(promote)
    add_wait(promote)
    _add_dry_run(promote)


def _undo_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument(
        "--publish",
        action="store_true",
        help="knowledge only: the tenant's last publish, and not the last move of the version",
    )
    _add_force(parser)
    _add_dry_run(parser)
    return parser


def _promote_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rail", choices=RAILS)
    parser.add_argument("version", help="a version id, as `twinrail rails --versions` lists them")
    _add_force(parser)
    add_wait(parser)
    _add_dry_run(parser)


def _add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--force",
        action="store_true",
        help="move although no engine serves the model version yet, a gate has refused the version (who "
        "insists is kept), the gateway lacks the embedder, or an undo leaves the tenant without documents",
    )


def _add_dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="say what would move, and move nothing")


async def _rails(args: argparse.Namespace, context: Context) -> int:
    async with context.gateway("admin") as gateway:
        pointers = await _pointers(gateway)
        versions = {
            rail: (await gateway.get(f"/v1/rails/{rail}/versions"))["versions"]
            for rail in (RAILS if args.versions else ())
        }
    value: dict[str, Any] = {"rails": list(pointers.values())}
    text = _pointer_table(pointers)
    if args.versions:
        value["versions"] = versions
        rows = [(rail, version["id"], version["state"]) for rail in RAILS for version in versions[rail]]
        text += "\n\n" + table(("rail", "version", "state"), rows)
    context.out.result(value, text)
    return 0


async def _undo(args: argparse.Namespace, context: Context) -> int:
    if args.publish and args.rail == "model":
        raise UsageError("--publish: the model rail has no publishes; leave --publish out")
    what = None if args.rail == "model" else "publish" if args.publish else "version"
    async with context.gateway("admin") as gateway:
        before = (await _pointers(gateway))[args.rail]
        if args.dry_run:
            return _plan_undo(before, publish=args.publish, context=context)
        await gateway.post(f"/v1/rails/{args.rail}:undo", undo_body(before, what, force=args.force))
        after = (await _pointers(gateway))[args.rail]
    return _report_move(before, after, context)


def undo_body(seen: Mapping[str, Any], what: str | None, *, force: bool) -> dict[str, Any]:
    """The request: it names what was seen, so that one that arrives twice is refused instead of redoing."""
    body: dict[str, Any] = {"expected_revision": seen["revision"], "force": force}
    if what:
        body["what"] = what
    if seen["rail"] == "knowledge":
        body["expected_snapshot"] = seen["snapshot"] or 0
    return body


def _plan_undo(pointer: Mapping[str, Any], *, publish: bool, context: Context) -> int:
    """What an undo has to go back to."""
    goal = pointer["undo_to"]
    if publish and (pointer["snapshot"] or 0) > 0:
        plan = f"would take snapshot {pointer['snapshot']} back"
    elif goal and not publish:
        plan = _planned_version(pointer, goal)
    else:
        moved = "published" if publish else "moved on this rail"
        other = "" if publish or pointer["rail"] == "model" else " (a publish: add --publish)"
        raise GateRefusedError(f"{pointer['rail']}: there is nothing to undo; nothing has {moved} yet{other}")
    context.out.result({"rail": pointer["rail"], "dry_run": True, "plan": plan}, f"{pointer['rail']}: {plan}")
    return 0


def _planned_version(pointer: Mapping[str, Any], goal: Mapping[str, Any]) -> str:
    plans = []
    if goal["stable"] != pointer["stable"]:
        plans.append(f"make {goal['stable']} stable in place of {pointer['stable']}")
    if goal["canary"] and (goal["canary"], goal["canary_weight_bp"]) != (
        pointer["canary"],
        pointer["canary_weight_bp"],
    ):
        plans.append(f"give {goal['canary']} {goal['canary_weight_bp'] / 100:g} % again")
    elif pointer["canary"] and not goal["canary"]:
        plans.append(f"end the canary {pointer['canary']}")
    return "would " + " and ".join(plans)


async def _shadow(args: argparse.Namespace, context: Context) -> int:
    if bool(args.version) == args.off:
        raise UsageError("version: give the version to watch, or --off to end it")
    async with context.gateway("admin") as gateway:
        before = (await _pointers(gateway))["knowledge"]
        if args.version:
            await _require_version(gateway, "knowledge", args.version)
        if args.dry_run:
            plan = f"would watch {args.version}" if args.version else "would end the shadow"
            context.out.result({"rail": "knowledge", "dry_run": True, "plan": plan}, f"knowledge: {plan}")
            return 0
        await gateway.post("/v1/rails/knowledge:shadow", {"version": args.version})
        after = (await _pointers(gateway))["knowledge"]
    return _report_move(before, after, context)


async def _promote(args: argparse.Namespace, context: Context) -> int:
    async with context.gateway("admin") as gateway:
        before = (await _pointers(gateway))[args.rail]
        await _require_version(gateway, args.rail, args.version)
        if args.dry_run:
            plan = f"would make {args.version} stable in place of {before['stable']}"
            context.out.result({"rail": args.rail, "dry_run": True, "plan": plan}, f"{args.rail}: {plan}")
            return 0
        await _prepare(gateway, args, context)
        body = {"version": args.version, "force": args.force, **_seen(before)}
        await gateway.post(f"/v1/rails/{args.rail}:promote", body)
        after = (await _pointers(gateway))[args.rail]
    return _report_move(before, after, context)


async def _canary(args: argparse.Namespace, context: Context) -> int:
    version, weight_bp = _wanted_canary(args)
    async with context.gateway("admin") as gateway:
        before = (await _pointers(gateway))[args.rail]
        if version:
            await _require_version(gateway, args.rail, version)
        if args.dry_run:
            plan = f"would give {version} {weight_bp / 100:g} %" if version else "would end the canary"
            context.out.result({"rail": args.rail, "dry_run": True, "plan": plan}, f"{args.rail}: {plan}")
            return 0
        if version:
            await _prepare(gateway, args, context)
        body = {"version": version, "weight_bp": weight_bp, "force": args.force, **_seen(before)}
        await gateway.post(f"/v1/rails/{args.rail}:canary", body)
        after = (await _pointers(gateway))[args.rail]
    return _report_move(before, after, context)


def _seen(before: Mapping[str, Any]) -> dict[str, Any]:
    """What the move was decided on: of two people who promote at once, the later one is told."""
    return {"expected_revision": before["revision"]} if before["rail"] == "model" else {}


async def _prepare(gateway: GatewayApi, args: argparse.Namespace, context: Context) -> None:
    """Have the engines show a model version before it takes traffic; one that a gate has refused is left to
    the gateway to refuse, without waiting for engines first."""
    if args.rail != "model" or args.force:
        return
    listed = (await gateway.get("/v1/rails/model/versions"))["versions"]
    entry = next((each for each in listed if each["id"] == args.version), None)
    if entry is None or any(verdict["verdict"] == "refused" for verdict in entry["verdicts"]):
        return
    if entry["state"] in ("releasable", "forced"):
        await brought_onto_engines(gateway, args.version, wait_s=args.wait, say=context.out.note)


def _wanted_canary(args: argparse.Namespace) -> tuple[str | None, int]:
    if args.off:
        if args.version or args.percent is not None:
            raise UsageError(
                "--off: ends the canary, so it takes no version and no --percent; leave them out"
            )
        return None, 0
    if not args.version or args.percent is None:
        raise UsageError("--percent: a canary needs a version and its share; give both, or --off")
    if not 0 <= args.percent <= 100:
        raise UsageError(f"--percent: {args.percent:g} is not a share; give a number from 0 to 100")
    return args.version, round(args.percent * 100)


async def _pointers(gateway: GatewayApi) -> dict[str, Any]:
    return {pointer["rail"]: pointer for pointer in (await gateway.get("/v1/rails"))["rails"]}


async def _require_version(gateway: GatewayApi, rail: str, version: str) -> None:
    known = [entry["id"] for entry in (await gateway.get(f"/v1/rails/{rail}/versions"))["versions"]]
    if version not in known:
        raise UsageError(f"version: {rail} has no version {version!r}; it has {', '.join(known) or 'none'}")


def _report_move(before: Mapping[str, Any], after: Mapping[str, Any], context: Context) -> int:
    context.out.result({"before": before, "after": after}, _pointer_table({after["rail"]: after}))
    return 0


def _pointer_table(pointers: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for rail, pointer in pointers.items():
        stable = pointer["stable"] or "-"
        if rail == "knowledge" and pointer["stable"]:
            stable += f"@{pointer['snapshot']}"
        canary = (
            f"{pointer['canary']} ({pointer['canary_weight_bp'] / 100:g} %)" if pointer["canary"] else "-"
        )
        others = (pointer.get(name) or "-" for name in ("previous", "shadow", "fallback"))
        rows.append((rail, stable, canary, *others))
    return table(("rail", "stable", "canary", "previous", "shadow", "fallback"), rows)
