"""The LangChain program of the README does what the page says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from retrieval.minilm import prepare_minilm
from tests.prepared import MODELS
from tests.unit.docs.pages import ROOT, runnable

HERE = Path(__file__).resolve().relative_to(ROOT).as_posix()
EXAMPLES = [block for block in runnable() if block.run_by == HERE]


def test_the_example_runs(database_url: str) -> None:
    prepare_minilm(MODELS / "minilm")
    (block,) = EXAMPLES
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block.text],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database_url, "TWINRAIL_HOME": str(MODELS.parent)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    assert first == "b20 {'year': 2026}"
    assert second.startswith("Error B-7: no connection. 0.")
    assert "k-langchain-" in third
