"""Every PromQL expression that we ship: of the board's panels and choices, and of the alert rules."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
BOARD = DEPLOY / "dashboards" / "twinrail.json"
RULES = DEPLOY / "alerts" / "twinrail.rules.yaml"
RULE_TESTS = DEPLOY / "alerts" / "twinrail.tests.yaml"
COLLECTOR = DEPLOY / "collector" / "collector.yaml"
PROMETHEUS = DEPLOY / "collector" / "prometheus.yml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """One expression with where it stands, for messages."""

    where: str
    text: str

    def filled(self, window: str) -> str:
        """As Prometheus takes it: Grafana's variables replaced, everything chosen."""
        text = self.text.replace("$__rate_interval", window)
        return text.replace("$knowledge", ".*").replace("$model", ".*")


def board() -> dict[str, Any]:
    """The checked-in board."""
    value: dict[str, Any] = json.loads(BOARD.read_text(encoding="utf-8"))
    return value


def panel_expressions() -> list[Expression]:
    """One for each query of each panel."""
    return [
        Expression(where=f"panel {panel['title']!r} {target['refId']}", text=target["expr"])
        for panel in board()["panels"]
        for target in panel.get("targets", ())
    ]


def choice_expressions() -> list[Expression]:
    """The queries behind the choices at the top of the board."""
    return [
        Expression(where=f"choice {variable['name']!r}", text=variable["definition"])
        for variable in board()["templating"]["list"]
        if variable["type"] == "query"
    ]


def rules() -> list[dict[str, Any]]:
    """Every recording and alerting rule."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def rule_expressions() -> list[Expression]:
    """One for each rule."""
    return [Expression(where=f"rule {r.get('alert') or r['record']}", text=r["expr"]) for r in rules()]


def recorded_names() -> set[str]:
    """Metrics that the rules themselves make."""
    return {rule["record"] for rule in rules() if "record" in rule}
