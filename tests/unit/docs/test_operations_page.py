"""docs/operations.md has a section for every alert that can wake somebody up."""

from __future__ import annotations

import yaml

from tests.unit.docs.pages import ROOT, page

RULES = ROOT / "deploy" / "alerts" / "twinrail.rules.yaml"


def test_every_alert_has_its_section_which_names_urgency_and_rail() -> None:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    prose = [line for _, line in page("docs/operations.md").prose]
    told = [
        (line.lstrip("# "), prose[number + 1].partition(". ")[0])
        for number, line in enumerate(prose)
        if line.startswith("###")
    ]
    assert told == [(rule["alert"], _urgency(rule["labels"])) for rule in alerts]


def _urgency(labels: dict[str, str]) -> str:
    rail = "either rail" if labels["rail"] == "none" else labels["rail"]
    return f"{labels['severity'].capitalize()}, {rail}"
