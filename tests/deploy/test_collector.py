"""The collector's configuration: pipelines name what is defined, in the order that keeps figures true."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from gateway import instruments as gateway_names
from tests.deploy.expressions import COLLECTOR, PROMETHEUS

CONTENT = {
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.retrieval.query.text",
    "gen_ai.retrieval.documents",
    gateway_names.QUESTION,
    gateway_names.ANSWER,
}


@pytest.fixture(scope="module")
def collector() -> dict[str, Any]:
    """The configuration as parsed."""
    value: dict[str, Any] = yaml.safe_load(COLLECTOR.read_text(encoding="utf-8"))
    return value


def test_pipelines_use_defined_parts_and_every_part_is_used(collector: dict[str, Any]) -> None:
    pipelines = collector["service"]["pipelines"]
    connectors = set(collector["connectors"])
    for role in ("receivers", "processors", "exporters"):
        defined = set(collector[role])
        used = {name for pipeline in pipelines.values() for name in pipeline.get(role, ())}
        assert used - connectors <= defined, f"{role}: not defined"
        assert defined <= used, f"{role}: defined but in no pipeline"
    for connector in connectors:
        assert any(connector in pipeline["exporters"] for pipeline in pipelines.values()), connector
        assert any(connector in pipeline["receivers"] for pipeline in pipelines.values()), connector
    assert set(collector["service"]["extensions"]) == set(collector["extensions"])


def test_memory_is_limited_before_anything_else(collector: dict[str, Any]) -> None:
    for name, pipeline in collector["service"]["pipelines"].items():
        fed_by_us = all(receiver in collector["connectors"] for receiver in pipeline["receivers"])
        assert fed_by_us or pipeline["processors"][0] == "memory_limiter", name


def test_span_metrics_see_all_spans_and_sampling_comes_after(collector: dict[str, Any]) -> None:
    pipelines = collector["service"]["pipelines"]
    before = pipelines["traces/all"]
    after = pipelines["traces/sampled"]
    assert "spanmetrics" in before["exporters"]
    assert "tail_sampling" not in before["processors"]
    assert after["receivers"] == ["forward/to_sampling"]
    assert "tail_sampling" in after["processors"]


def test_errors_slow_ones_and_canaries_are_kept_whole(collector: dict[str, Any]) -> None:
    sampling = collector["processors"]["tail_sampling"]
    policies = {policy["name"]: policy for policy in sampling["policies"]}
    assert policies["errors"]["status_code"]["status_codes"] == ["ERROR"]
    assert policies["slow"]["latency"]["threshold_ms"] <= 10_000
    arms = {
        policy["string_attribute"]["key"]: policy["string_attribute"]["values"]
        for policy in policies.values()
        if policy["type"] == "string_attribute"
    }
    assert set(arms) == {gateway_names.KNOWLEDGE_ARM, gateway_names.MODEL_ARM}
    assert all(values == ["canary", "shadow"] for values in arms.values())
    assert int(sampling["decision_wait"].removesuffix("s")) > 30, "an answer may take 30 s"


def test_content_is_dropped_before_it_leaves(collector: dict[str, Any]) -> None:
    dropped = {
        action["key"]
        for action in collector["processors"]["attributes/redact"]["actions"]
        if action["action"] == "delete" and "key" in action
    }
    assert dropped >= CONTENT
    assert "attributes/redact" in collector["service"]["pipelines"]["traces/all"]["processors"]


def test_addresses_come_from_the_environment_with_loopback_as_default(collector: dict[str, Any]) -> None:
    hosts = re.findall(r"\$\{env:[A-Z_]+:-([^}]*)\}", yaml.safe_dump(collector))
    assert hosts
    assert all("127.0.0.1" in host for host in hosts)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian package prometheus) is absent")
def test_the_plain_prometheus_configuration_is_valid() -> None:
    done = subprocess.run(
        ["promtool", "check", "config", str(PROMETHEUS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
