"""`up`, `down`, `status`: the stack of this machine."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deploy.commands.context import CommandLine, Context
from deploy.errors import (
    AlreadyRunningError,
    DeployError,
    GatewayUnreachableError,
    ProcessDiedError,
    UsageError,
)
from deploy.home import StackState
from deploy.logfile import open_log
from deploy.welcome import ANY_QUESTION, DEMO_QUESTION, welcome

DEMO = Path(__file__).resolve().parents[1] / "demo" / "articles"
NOT_RUNNING = 3


def add(commands: CommandLine) -> None:
    """Declare the commands."""
    up = commands.command(
        "up",
        _up,
        summary="Start everything on this machine; Ctrl-C stops it. What is done already is skipped.",
        example="twinrail up --port 8090",
        exit_codes="0 stopped in order (or runs already), 2 bad setting or port taken, 3 a part failed",
    )
    up.add_argument("--port", type=int, help="port of the gateway (default: GATEWAY_PORT, else 8080)")
    up.add_argument(
        "--demo",
        type=Path,
        metavar="PATH",
        default=DEMO,
        help="help centre to serve: a folder of articles or a .jsonl file (default: the packaged demo)",
    )
    up.add_argument("--no-demo", action="store_true", help="ingest nothing")
    up.add_argument(
        "--no-fallback",
        action="store_true",
        help="run the stable engine only (saves 1 GB for each other one)",
    )
    up.add_argument("--detach", action="store_true", help="return once it is ready and leave it running")

    down = commands.command(
        "down",
        _down,
        summary="Stop the stack of this machine.",
        example="twinrail down",
        exit_codes="0 it is stopped",
    )
    down.add_argument("--dry-run", action="store_true", help="say what would be stopped, and stop nothing")

    commands.command(
        "status",
        _status,
        summary="What is running, whether it is ready, and what is live on each rail.",
        example="twinrail status --json",
        exit_codes="0 ready, 3 not running or not ready",
    )


async def _up(args: argparse.Namespace, context: Context) -> int:
    from deploy.local import UpOptions, run_stack  # engines and models weigh too much for every other command

    if args.port is not None and not 1 <= args.port <= 65535:
        raise UsageError(f"--port: {args.port} is not a port; give a number from 1 to 65535")
    if not args.no_demo and not args.demo.exists():
        raise UsageError(f"--demo: {args.demo} does not exist; give a folder of articles or a .jsonl file")
    try:
        if args.detach:
            return await _detach(args, context)
        options = UpOptions(
            port=args.port,
            source=None if args.no_demo else args.demo.absolute(),
            question=_question(args),
            fallback=not args.no_fallback,
        )
        return await run_stack(context, options)
    except AlreadyRunningError:
        state = await _wait_for_state(context)
        if state is None:
            raise
        text = f"already running: {state.gateway_url} (process {state.pid}); stop it with `twinrail down`"
        context.out.result(asdict(state), text)
        return 0


async def _detach(args: argparse.Namespace, context: Context) -> int:
    """Start ourselves again in a session of our own and wait until that one is ready."""
    home = context.home.prepare()
    if home.is_running():
        raise AlreadyRunningError
    log = home.logs / "up.log"
    command = [sys.executable, "-m", "deploy", "up"]
    for flag, value in (("--port", args.port), ("--demo", args.demo.absolute())):
        command += [flag, str(value)] if value is not None else []
    command += ["--no-demo"] if args.no_demo else []
    command += ["--no-fallback"] if args.no_fallback else []
    question = _question(args)
    process = spawn_detached(command, log)
    shown = 0
    while True:
        text = log.read_text(encoding="utf-8", errors="replace")
        if not context.out.as_json and len(text) > shown:
            context.out.stderr.write(text[shown:])
            context.out.stderr.flush()
            shown = len(text)
        state = home.state()
        if state and state.ready and state.pid == process.pid:
            context.out.result(asdict(state), _farewell(context, state, log, question))
            return 0
        code = process.poll()
        if code is not None:
            last = (text.strip().splitlines() or ["no output"])[-1].removeprefix("twinrail: ")
            raise UsageError(last) if code == 2 else ProcessDiedError(last)
        await asyncio.sleep(0.2)


def _question(args: argparse.Namespace) -> str:
    return DEMO_QUESTION if args.demo == DEMO else ANY_QUESTION


def _farewell(context: Context, state: StackState, log: Path, question: str) -> str:
    """What the one who detached it needs to know; keys are shown on a terminal only."""
    return welcome(
        url=state.gateway_url,
        keys=context.home.keys() if context.out.is_private else None,
        keys_file=context.home.keys_file,
        question=question,
        opening=f"Running in the background (log: {log}). `twinrail down` stops it.",
    )


def spawn_detached(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start `up` without a terminal. Its notes are the log; its data, a welcome for people, is for nobody."""
    with open_log(log, anew=True) as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )


async def _down(args: argparse.Namespace, context: Context) -> int:
    if not context.home.is_running():
        context.out.result({"stopped": False}, f"nothing runs on {context.home.root}")
        return 0
    state = await _wait_for_state(context)
    if state is None:
        raise DeployError(
            f"TWINRAIL_HOME: a stack starts on {context.home.root} without a state file; stop it there"
        )
    if args.dry_run:
        context.out.result(
            {"would_stop": asdict(state)}, f"would stop process {state.pid} ({state.gateway_url})"
        )
        return 0
    os.kill(state.pid, signal.SIGTERM)
    for _ in range(round((context.settings.stop_timeout_s * 2 + 30) / 0.1)):
        if not context.home.is_running():
            context.out.result({"stopped": True, "pid": state.pid}, f"stopped {state.gateway_url}")
            return 0
        await asyncio.sleep(0.1)
    raise DeployError(
        f"process {state.pid} does not stop; `kill -9 {state.pid}` ends it, its watchdog then ends the rest"
    )


async def _wait_for_state(context: Context) -> StackState | None:
    """What the stack says of itself; a moment of patience covers the start of it."""
    for _ in range(50):
        state = context.home.state()
        if state or not context.home.is_running():
            return state
        await asyncio.sleep(0.1)
    return None


async def _status(args: argparse.Namespace, context: Context) -> int:
    state = context.home.state()
    report: dict[str, Any] = {"home": str(context.home.root), "stack": asdict(state) if state else None}
    lines = [f"home      {context.home.root}"]
    if state:
        lines.append(
            f"stack     process {state.pid}, since {state.started_at}{'' if state.ready else ', starting'}"
        )
        lines.append(f"database  {state.database}")
        lines += [f"engine    {url}: {served}" for served, url in state.engines.items()]
    try:
        async with context.gateway(None, timeout_s=10.0) as gateway:
            ready = await gateway.readiness()
        report |= {"gateway": gateway.url, "ready": ready["http_status"] == 200, "readiness": ready}
        lines.append(f"gateway   {gateway.url}: {'ready' if report['ready'] else 'not ready'}{_parts(ready)}")
    except GatewayUnreachableError:
        report |= {"gateway": context.gateway_url(), "ready": False, "readiness": None}
        lines.append(f"gateway   {context.gateway_url()}: not running; start it with `twinrail up`")
    if report["ready"]:
        await _add_rails(report, lines, context)
    context.out.result(report, "\n".join(lines))
    return 0 if report["ready"] else NOT_RUNNING


async def _add_rails(report: dict[str, Any], lines: list[str], context: Context) -> None:
    """What is live; a home without keys can still say whether the gateway is ready."""
    try:
        async with context.gateway("admin", timeout_s=10.0) as gateway:
            report["rails"] = (await gateway.get("/v1/rails"))["rails"]
    except DeployError as exc:
        report["rails"] = None
        lines.append(f"rails     not shown: {exc}")
        return
    for rail in report["rails"]:
        snapshot = f"@{rail['snapshot']}" if rail["rail"] == "knowledge" else ""
        canary = f", canary {rail['canary']} {rail['canary_weight_bp'] / 100:g} %" if rail["canary"] else ""
        shadow = f", shadow {rail['shadow']}" if rail["shadow"] else ""
        lines.append(f"{rail['rail']:<10}{rail['stable']}{snapshot}{canary}{shadow}")


def _parts(ready: Mapping[str, Any]) -> str:
    """What is wrong with which part, as far as the gateway says it."""
    parts = ready.get("parts") or {}
    bad = [f"{name}: {part.get('detail') or 'down'}" for name, part in parts.items() if not part.get("ok")]
    return f" ({'; '.join(bad)})" if bad else ""
