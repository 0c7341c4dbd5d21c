"""The workflow and the rules file of docs/gates.md: read as they stand, and run against a gateway."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from eval.cli import main
from eval.gating.rules import GateRules
from eval.settings import EvalSettings
from tests.fakes.gateway_server import BASE, CUSTOMER_KEY, CannedAnswer, FakeGateway
from tests.fakes.gateway_thread import Served
from tests.unit.docs.commands import fault, written
from tests.unit.docs.pages import page

PAGE = page("docs/gates.md")
CANDIDATE = "m-support-00000002"
STABLE = "m-support-00000001"


def workflow() -> dict[Any, Any]:
    (block,) = [block for block in PAGE.blocks if block.language == "yaml" and "jobs:" in block.text]
    found: dict[Any, Any] = yaml.safe_load(block.text)
    return found


def rules_text() -> str:
    (text,) = [block.text for block in PAGE.blocks if block.text.startswith('name = "promotion"')]
    return text


def steps() -> list[dict[str, Any]]:
    (job,) = workflow()["jobs"].values()
    return list(job["steps"])


def commands() -> list[list[str]]:
    """The words after `twinrail` of every step."""
    return [words for step in steps() if "run" in step for words in written(step["run"])]


def test_the_workflow_is_one() -> None:
    found = workflow()
    # `on` is a word for true in YAML 1.1; GitHub reads it as a name.
    assert "version" in found[True]["workflow_dispatch"]["inputs"]
    assert all(("run" in step) != ("uses" in step) for step in steps())
    (job,) = found["jobs"].values()
    assert job["env"]["VERSION"] == "${{ inputs.version }}", "an input is never part of a command's text"
    assert not any("${{" in step.get("run", "") for step in steps())


def test_its_commands_exist() -> None:
    assert [words[:2] for words in commands()] == [["eval", "run"], ["eval", "label"], ["eval", "gate"]]
    assert [told for words in commands() if (told := fault(words))] == []


def test_the_rules_file_holds_every_rule_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "gate.toml"
    file.write_text(rules_text())
    rules = GateRules.load(file)
    assert set(tomllib.loads(rules_text())) == set(GateRules.model_fields)
    assert rules.regression == tmp_path / "must-pass.txt"
    defaults = GateRules()
    for field in ("name", "goal", "gain", "primary_margin", "zero_tolerance", "max_flips", "max_missing"):
        assert getattr(rules, field) == getattr(defaults, field), (
            f"{field} is not the default that it is said to be"
        )
    assert (rules.min_topics, rules.limits) == (defaults.min_topics, defaults.limits)


@pytest.fixture
def served() -> Iterator[Served]:
    def wrong_at_first(question: str) -> CannedAnswer:
        return CannedAnswer(answer=f"Sync Plus is ${9 if int(question.split()[-1]) > 30 else 7} a month.")

    def right(question: str) -> CannedAnswer:
        return CannedAnswer(answer="Sync Plus is $9 a month.")

    server = Served(FakeGateway(answers={BASE: right, STABLE: wrong_at_first, CANDIDATE: right}))
    yield server
    server.close()


def test_the_job_passes_a_better_version(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    questions = tmp_path / "questions"
    questions.mkdir()
    rows = [_row(number) for number in range(80)]
    (questions / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # The fake's times mean nothing.
    (tmp_path / "gate.toml").write_text(rules_text().replace("wall_ms = 1.25", "wall_ms = 1000"))
    (tmp_path / "must-pass.txt").write_text("q040\n")
    settings = EvalSettings.model_validate(
        {
            "gateway_url": served.url,
            "api_key": CUSTOMER_KEY,
            "runs": tmp_path / "runs",
            "resamples": 500,
            "concurrency": 8,
        }
    )
    for words in commands():
        argv = [word.replace("$VERSION", CANDIDATE) for word in words[1:]]
        code = main(argv, settings=settings)
        assert code == 0, f"{shlex.join(argv)}: {capsys.readouterr()}"
    assert served.gateway.verdicts["model", CANDIDATE][0]["verdict"] == "pass"
    assert "## Gate promotion" in (tmp_path / "runs/gate/report.md").read_text()


def _row(number: int) -> dict[str, Any]:
    return {
        "id": f"q{number:03d}",
        "cluster": f"t{number % 20:02d}",
        "split": "gate",
        "status": "answerable",
        "text": f"question {number}",
        "gold": ["plus"],
        "facts": [{"match": "number", "values": ["$9"]}],
        "intent": "billing",
    }
