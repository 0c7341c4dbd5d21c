"""How to start vLLM for a model version. Who starts and watches the process is the deployment's business.

Also gives `EnginePool`: the engines that answer, whoever started them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from serving.pool import EngineHealth, EnginePool

__all__ = ["EngineHealth", "EnginePool", "engine_command", "engine_environment", "traces_endpoint"]

#: Stable, canary, previous and shadow in one batch; with fewer, one of them waits for the others.
ADAPTER_SLOTS = 4

#: Compact JSON: white space between fields costs tokens, and a model may loop on it until max_tokens.
_STRUCTURED_OUTPUTS = {"backend": "xgrammar", "disable_any_whitespace": True}


def engine_command(
    *,
    model: Path,
    served_names: Sequence[str],
    port: int,
    host: str = "127.0.0.1",
    dtype: str = "bfloat16",
    max_model_len: int = 2048,
    max_num_seqs: int = 8,
    compiled: bool = False,
    runtime_adapters: bool = False,
    max_lora_rank: int = 16,
    traces: str | None = None,
    python: str = sys.executable,
) -> list[str]:
    """Arguments of one vLLM process that serves the model under each of the names.

    With `runtime_adapters` it also serves the LoRA adapters that an `AdapterLoader` gives it; that alone
    slows decoding on CPU, so leave it away for merged weights. `host` stays loopback: vLLM has routes
    without authentication.
    """
    command = [
        python, "-m", "vllm.entrypoints.openai.api_server",
        "--model", str(model),
        "--served-model-name", *served_names,
        "--host", host,
        "--port", str(port),
        "--dtype", dtype,
        "--max-model-len", str(max_model_len),
        "--max-num-seqs", str(max_num_seqs),
        "--enable-prefix-caching",
        "--enable-prompt-tokens-details",
        "--structured-outputs-config", json.dumps(_STRUCTURED_OUTPUTS),
    ]  # fmt: skip
    if not compiled:
        command.append("--enforce-eager")
    if runtime_adapters:
        command += ["--enable-lora", "--max-loras", str(ADAPTER_SLOTS), "--max-lora-rank", str(max_lora_rank)]
    if traces:
        command += ["--otlp-traces-endpoint", traces]
    return command


def engine_environment(
    inherited: Mapping[str, str], *, kv_cache_gib: int = 1, runtime_adapters: bool = False
) -> dict[str, str]:
    """Environment of one vLLM process: no model hub, no usage reports, every core, a bounded KV cache."""
    environment = {
        **inherited,
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": str(kv_cache_gib),
        "VLLM_CPU_NUM_OF_RESERVED_CPU": inherited.get("VLLM_CPU_NUM_OF_RESERVED_CPU", "0"),
        "OTEL_SERVICE_NAME": "vllm",
    }
    environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1" if runtime_adapters else "0"
    if traces_endpoint(inherited) and not _speaks_grpc(inherited):
        # vLLM's own default is gRPC, that of the OpenTelemetry SDKs of the other processes is HTTP.
        environment["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] = "http/protobuf"
    return environment


def traces_endpoint(environment: Mapping[str, str]) -> str | None:
    """Where the standard OpenTelemetry variables send traces, as vLLM wants to be told; None if nowhere."""
    if endpoint := environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        return endpoint
    endpoint = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not endpoint:
        return None
    return endpoint if _speaks_grpc(environment) else f"{endpoint.rstrip('/')}/v1/traces"


def _speaks_grpc(environment: Mapping[str, str]) -> bool:
    general = environment.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    return environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", general) == "grpc"
