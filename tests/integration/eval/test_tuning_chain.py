"""The steps of tuning one after the other: what one leaves is what the next one takes."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

from deploy.cli import main
from deploy.output import Output
from serving.registry import ModelRegistry
from tests.fakes.support_rows import exported, write_rows
from tests.fakes.tiny_dataset import write_tiny_recipe
from tests.fakes.tiny_model import write_tiny_model
from tests.integration.eval.test_tune_evaluate_real_gateway import evaluate
from tests.integration.gateway.conftest import Gateway, gateway, settings

__all__ = ["gateway", "settings"]

LOST = (
    "I can't find that in our help centre, so I won't guess. I've passed your question to a colleague who "
    "will reply by email."
)


async def tune(*arguments: str | Path) -> tuple[int, str]:
    """The command as a program would run it; its exit code and what it says."""
    out = Output(stdout=io.StringIO(), stderr=io.StringIO())
    code = await asyncio.to_thread(main, ["tune", *map(str, arguments)], out)
    assert isinstance(out.stderr, io.StringIO)
    return code, out.stderr.getvalue()


async def test_each_step_takes_what_the_one_before_it_left(
    gateway: Gateway, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SERVING_ENGINES", "TWINRAIL_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("TWINRAIL_HOME", str(tmp_path / "home"))
    base, data, run = tmp_path / "home" / "models" / "base", tmp_path / "data", tmp_path / "run"
    write_tiny_model(base)
    export = tmp_path / "reviewed"
    export.mkdir()
    write_rows(export / "training.jsonl", [exported(number) for number in range(120)])
    recipe = write_tiny_recipe(tmp_path, training={"max_steps": 1, "max_row_tokens": 4000})

    shares = ("--shares", "valid=0.1,test=0.3", "--negatives", "none")
    code, said = await tune("dataset", data, export, "--recipe", recipe, "--for", "wrong_tone", *shares)
    assert code == 0, said
    code, said = await tune("train", recipe, data, "--out", run, "--base", base, "--threads", "1")
    assert code == 0, said
    code, said = await tune("register", run)
    assert code == 4, said
    assert f"twinrail tune evaluate {run} --dataset DIR` with the folder of its dataset 'data'" in said

    candidate = json.loads((run / "manifest.json").read_text())["version"]
    known = {
        row["question"]: row["wanted"]
        for row in map(json.loads, (data / "test.jsonl").read_text().splitlines())
    }

    def right(body: Mapping[str, Any]) -> str:
        asked = next(each["content"] for each in reversed(body["messages"]) if each["role"] == "user")
        return json.dumps(next(wanted for question, wanted in known.items() if question in asked))

    lost = {
        **next(iter(known.values())),
        "answer": LOST,
        "citations": [],
        "escalate": True,
        "escalation_reason": "not_in_help_centre",
    }
    gateway.vllm.program(candidate, answer=right)
    for other in (gateway.stable, gateway.fallback):
        gateway.vllm.program(other, answer=json.dumps(lost))
    rules = tmp_path / "rules.toml"
    rules.write_text('name = "tuning"\nprimaries = ["fields_right"]\nlimits = {}\nguards = {}\n')
    options = ("--questions", str(data / "test.jsonl"), "--rules", str(rules), "--free", "0")
    assert await evaluate(gateway, tmp_path, candidate, *options, "--dataset", str(data)) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["trained_on"]["sha256"] == json.loads((data / "dataset.json").read_text())["sha256"]

    given = ("--verdict", tmp_path / "out" / "report.json", "--dry-run")
    assert (await tune("register", run, *given))[0] == 0, "the file of the report is a verdict too"
    code, said = await tune("register", run)
    assert code == 0, said
    assert f"twinrail model promote {candidate}" in said
    await ModelRegistry(gateway.records).promote(candidate)
