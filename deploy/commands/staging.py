"""Bring a model version onto the engines and wait until they have shown it: before it takes traffic."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from deploy.commands.context import CommandLine, Context
from deploy.errors import GateRefusedError
from deploy.gateway_api import GatewayApi
from deploy.output import table

WAIT_S = 600.0
#: A step that failed is tried again by itself; one that goes on failing needs a person.
PATIENCE_S = 15.0
POLL_S = 0.5


def add(commands: CommandLine) -> None:
    """Declare `stage` and `replicas` under `twinrail model`."""
    stage = commands.command(
        "stage",
        _stage,
        summary="Have engines load and show a version before it takes traffic; --off takes that back.",
        example="twinrail model stage m-support-1a2b3c4d",
        exit_codes="0 every engine has shown it, 1 one of them has not",
    )
    stage.add_argument("version", help="a version id, as `twinrail model versions` lists them")
    stage.add_argument("--off", action="store_true", help="engines need not hold it any more")
    add_wait(stage)

    replicas = commands.command(
        "replicas",
        _replicas,
        summary="Show the engines and how far each wanted version has come on them.",
        example="twinrail model replicas",
    )
    replicas.add_argument("version", nargs="?", help="one version, wanted or not")


def add_wait(parser: argparse.ArgumentParser) -> None:
    """`--wait`, for every command that may have to."""
    parser.add_argument(
        "--wait",
        type=float,
        default=WAIT_S,
        metavar="SECONDS",
        help=f"how long to wait for engines that have yet to load and show it (default {WAIT_S:.0f})",
    )


async def brought_onto_engines(
    gateway: GatewayApi, version: str, *, wait_s: float, say: Callable[[str], None]
) -> None:
    """Stage the version and return once it is routable; raises GateRefusedError with what is lacking.

    It stays staged when this is given up: the engines go on, and the command can be given again.
    """
    if (await _readiness(gateway, version))["routable"]:
        return
    await gateway.post("/v1/rails/model:stage", {"version": version})
    loop = asyncio.get_running_loop()
    began = loop.time()
    failing_since: float | None = None
    said = ""
    while True:
        state = await _readiness(gateway, version)
        if state["routable"]:
            return
        now = loop.time()
        told = "; ".join(_line(lack) for lack in state["lacks"])
        if told != said:
            said = told
            say(f"waiting for engines: {told}")
        fails = any(lack["state"] == "failed" for lack in state["lacks"])
        failing_since = (failing_since or now) if fails else None
        if now - began >= wait_s or (failing_since is not None and now - failing_since >= PATIENCE_S):
            raise GateRefusedError(
                f"version: {version} is not served everywhere: {told}; it stays staged: mend that and give "
                f"the command again, or `twinrail model stage {version} --off`"
            )
        await asyncio.sleep(POLL_S)


async def _readiness(gateway: GatewayApi, version: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (await gateway.get(f"/v1/rails/model/replicas?version={version}"))["versions"][
        0
    ]
    return found


def _line(lack: Mapping[str, Any]) -> str:
    return f"{lack['url']}: {lack['state']}" + (f" ({lack['reason']})" if lack["reason"] else "")


async def _stage(args: argparse.Namespace, context: Context) -> int:
    async with context.gateway("admin") as gateway:
        if args.off:
            body = {"version": args.version, "staged": False}
            state = await gateway.post("/v1/rails/model:stage", body)
            context.out.result(state, f"{args.version} is not staged")
            return 0
        await gateway.post("/v1/rails/model:stage", {"version": args.version})
        await brought_onto_engines(gateway, args.version, wait_s=args.wait, say=context.out.note)
        state = await _readiness(gateway, args.version)
    context.out.result(state, f"{args.version} is staged, and every engine that should serve it has shown it")
    return 0


async def _replicas(args: argparse.Namespace, context: Context) -> int:
    query = f"?version={args.version}" if args.version else ""
    async with context.gateway("admin") as gateway:
        found = await gateway.get(f"/v1/rails/model/replicas{query}")
    context.out.result(found, _text(found))
    return 0


def _text(found: Mapping[str, Any]) -> str:
    engines = [
        (
            replica["url"],
            "leaving" if replica["leaving"] else "live" if replica["live"] else "down",
            replica["build"] or "-",
            replica["reason"] or ", ".join(f"unknown adapter {name}" for name in replica["strange"]) or "-",
        )
        for replica in found["replicas"]
    ]
    text = table(("engine", "state", "build", "remark"), engines)
    rows = []
    for version in found["versions"]:
        roles, routable = ", ".join(version["roles"]) or "-", "yes" if version["routable"] else "no"
        lacks = {lack["url"]: lack for lack in version["lacks"]}
        held = {holding["url"]: holding for holding in version["holdings"]}
        for url in dict.fromkeys([*held, *lacks]) or ["-"]:
            one = lacks.get(url) or held.get(url) or {"state": "-", "reason": ""}
            rows.append((version["version"], roles, routable, url, one["state"], one["reason"] or "-"))
    columns = ("version", "wanted as", "routable", "engine", "state", "because")
    return f"{text}\n\n{table(columns, rows)}"
