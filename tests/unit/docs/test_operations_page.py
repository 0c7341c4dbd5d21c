"""docs/operations.md has a section for every alert that can wake somebody up."""

from __future__ import annotations

import yaml

from tests.unit.docs.pages import ROOT, page

RULES = ROOT / "deploy" / "alerts" / "twinrail.rules.yaml"


def test_every_alert_has_its_section() -> None:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    alerts = [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]
    headings = [line.lstrip("# ") for _, line in page("docs/operations.md").prose if line.startswith("###")]
    assert headings == alerts
