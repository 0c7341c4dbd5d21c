"""How vLLM is started, and where its traces go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from serving.engines import engine_command, engine_environment, traces_endpoint
from serving.settings import ServingSettings


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_merged_weights_are_served_without_lora_on_loopback_and_compact_json() -> None:
    command = engine_command(model=Path("base"), served_names=("m-a", "m-b"), port=8001)
    assert option(command, "--host") == "127.0.0.1"
    assert command[command.index("--served-model-name") + 1 :][:2] == ["m-a", "m-b"]
    assert json.loads(option(command, "--structured-outputs-config"))["disable_any_whitespace"] is True
    assert "--enforce-eager" in command
    assert "--enable-lora" not in command
    assert "--otlp-traces-endpoint" not in command


def test_an_engine_that_takes_adapters_has_room_for_every_arm() -> None:
    command = engine_command(
        model=Path("base"),
        served_names=("m-base",),
        port=8001,
        compiled=True,
        runtime_adapters=True,
        traces="http://127.0.0.1:4318/v1/traces",
    )
    assert "--enable-lora" in command
    assert option(command, "--max-loras") == "4"
    assert option(command, "--otlp-traces-endpoint") == "http://127.0.0.1:4318/v1/traces"
    assert "--enforce-eager" not in command


@pytest.mark.parametrize(
    ("environment", "endpoint", "protocol"),
    [
        ({}, None, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/traces", "http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/x"}, "http://c/x", "http/protobuf"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "http://c:4317",
            None,
        ),
    ],
)
def test_traces_go_where_the_standard_variables_say(
    environment: dict[str, str], endpoint: str | None, protocol: str | None
) -> None:
    assert traces_endpoint(environment) == endpoint
    started = engine_environment(environment)
    assert started.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") == protocol


def test_the_environment_is_offline_and_bounded() -> None:
    started = engine_environment({"HOME": "h"}, kv_cache_gib=2)
    assert started["HOME"] == "h"
    assert started["HF_HUB_OFFLINE"] == "1"
    assert started["VLLM_CPU_KVCACHE_SPACE"] == "2"
    assert started["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "0"
    assert engine_environment({}, runtime_adapters=True)["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"


def test_engine_urls_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING_ENGINES", "http://a:1/v1, http://b:2")
    assert ServingSettings().engine_urls == ("http://a:1/v1", "http://b:2")
    monkeypatch.setenv("SERVING_ENGINES", "a:1")
    with pytest.raises(ValidationError, match=r"not an http\(s\) URL"):
        ServingSettings()
