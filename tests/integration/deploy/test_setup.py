"""`make setup` on a machine without the one system library that vLLM needs."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def set_up(tmp_path: Path, *, uid: int) -> subprocess.CompletedProcess[str]:
    """Run the script in a folder of its own; its Python finds no libnuma, its apt-get only takes notes."""
    checkout, programs = tmp_path / "checkout", tmp_path / "programs"
    (checkout / "deploy").mkdir(parents=True)
    programs.mkdir()
    for name in ("deploy/setup.sh", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, checkout / name)
    program(
        programs / "python",
        f'case "$*" in *libnuma*) exit 1;; esac; exec {shlex.quote(sys.executable)} "$@"',
    )
    program(programs / "id", f"echo {uid}")
    program(programs / "nvidia-smi", "exit 1")
    program(programs / "apt-get", f'echo "$*" >>{shlex.quote(str(tmp_path / "asked"))}')
    return subprocess.run(
        ["bash", "deploy/setup.sh"],
        cwd=checkout,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHON": str(programs / "python")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_others_than_root_are_told_the_package_before_anything_is_downloaded(tmp_path: Path) -> None:
    done = set_up(tmp_path, uid=1000)
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.startswith("setup: libnuma.so.1: not found, and vLLM needs it; install it (Debian: ")
    assert not (tmp_path / "asked").exists()
    assert not (tmp_path / "checkout" / ".venv").exists()


def test_root_gets_it_installed_and_hears_so(tmp_path: Path) -> None:
    done = set_up(tmp_path, uid=0)
    assert done.stdout == "setup: installing libnuma1, which vLLM needs\n"
    assert "install libnuma1" in (tmp_path / "asked").read_text(encoding="utf-8")
    assert done.returncode == 3  # this apt-get installs nothing
