"""The commands of docs/telemetry.md that need nothing running are run as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.contract import DOCUMENT

MARK = f"<!-- run by tests/deploy/{Path(__file__).name} -->"


def commands() -> list[str]:
    """Lines of the marked blocks."""
    blocks = re.findall(
        re.escape(MARK) + r"\n```sh\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL
    )
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_there_are_such_commands() -> None:
    assert commands()


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_page_works(command: str) -> None:
    program = command.split()[0]
    if program != "python" and shutil.which(program) is None:
        pytest.skip(f"{program} is absent (Debian package prometheus)")
    # `python` on the page is the project's; a reader has its environment active.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", command],
        cwd=DOCUMENT.parents[1],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
