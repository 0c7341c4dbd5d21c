"""The page's example of a fit, with the demo's questions as the labelled ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.home import Home
from tests.e2e.conftest import Stack, environment
from tests.e2e.reader import Reader
from tests.prepared import ROOT
from tests.unit.docs.pages import runnable

pytestmark = pytest.mark.e2e
HERE = f"tests/e2e/{Path(__file__).name}"


def test_a_fit_is_looked_at_kept_and_dropped(stack: Stack, tmp_path: Path) -> None:
    lines = [
        line
        for file in sorted((ROOT / "deploy/demo/questions").glob("*.jsonl"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    rows = [
        row for row in map(json.loads, lines) if (row["asker"], row["kind"]) == ("customer", "answerable")
    ]
    labelled = [{"text": row["text"], "gold": row["gold"], "group": row["topic"]} for row in rows[:120]]
    files = {name: tmp_path / name for name in ("labelled.jsonl", "fit.json")}
    files["labelled.jsonl"].write_text("\n".join(map(json.dumps, labelled)), encoding="utf-8")
    (block,) = (each for each in runnable() if each.run_by == HERE)
    for name, file in files.items():
        assert name in block.text
        block = replace(block, text=block.text.replace(name, str(file)))
    reader = Reader(
        url=stack.url, environment=environment(stack.home, stack.port), keys=Home(stack.home).keys()
    )
    complaint = reader.complaint(block)
    assert complaint is None, complaint
    assert json.loads(files["fit.json"].read_text(encoding="utf-8"))
