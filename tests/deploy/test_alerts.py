"""The alert rules, judged by promtool: their syntax, and what fires for which history."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.expressions import RULE_TESTS, RULES, panel_expressions, rules

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian package prometheus) is absent"
)


def promtool(*arguments: str) -> None:
    """Run promtool; its words are the assertion's."""
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_names_its_rail_its_urgency_and_what_to_do() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
            assert rule["labels"]["rail"] in ("knowledge", "model", "none"), rule["alert"]
            assert rule["annotations"]["summary"], rule["alert"]
            assert rule["annotations"]["action"], rule["alert"]


def test_every_alert_has_a_history_that_fires_it_and_one_that_does_not() -> None:
    cases = yaml.safe_load(RULE_TESTS.read_text(encoding="utf-8"))["tests"]
    checks = [check for case in cases for check in case.get("alert_rule_test", ())]
    for rule in rules():
        if "alert" in rule:
            mine = [bool(check.get("exp_alerts")) for check in checks if check["alertname"] == rule["alert"]]
            assert any(mine), f"{rule['alert']}: no test in which it fires"
            assert not all(mine), f"{rule['alert']}: no test in which it stays silent"


@needs_promtool
def test_the_rules_are_valid() -> None:
    promtool("check", "rules", str(RULES))


@needs_promtool
def test_the_rules_fire_when_they_should() -> None:
    promtool("test", "rules", str(RULE_TESTS))


@needs_promtool
def test_the_boards_queries_are_valid(tmp_path: Path) -> None:
    records = [
        {"record": f"panel:{i}", "expr": expression.filled("5m")}
        for i, expression in enumerate(panel_expressions())
    ]
    queries = tmp_path / "board.yaml"
    queries.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": records}]}), encoding="utf-8")
    promtool("check", "rules", str(queries))
