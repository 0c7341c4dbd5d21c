"""One vLLM process of this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp

from deploy.child import Child
from deploy.guard import Guard
from deploy.placement import Placement
from serving.settings import ServingSettings


def vllm_process(
    placed: Placement,
    port: int,
    *,
    settings: ServingSettings,
    session: aiohttp.ClientSession,
    logs: Path,
    guard: Guard,
    say: Callable[[str], None],
) -> EngineChild:
    """The process that serves a placement on a port."""
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server",
        "--model", str(placed.weights), "--served-model-name", *placed.served,
        "--host", "127.0.0.1", "--port", str(port), "--max-model-len", str(settings.max_model_len),
        "--max-num-seqs", str(settings.max_num_seqs), "--enable-prefix-caching", "--dtype", "bfloat16",
        "--enforce-eager",
    ]  # fmt: skip
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": str(settings.kv_cache_gib),
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        "VLLM_NO_USAGE_STATS": "1",
    }
    child = Child(
        f"engine on port {port}",
        command,
        environment=environment,
        log=logs / f"engine-{placed.weights.name}.log",
        guard=guard,
        say=say,
    )
    return EngineChild(child, f"http://127.0.0.1:{port}/health", session, settings.start_timeout_s)


class EngineChild:
    """A child process that is ready when /health says so."""

    def __init__(self, child: Child, health: str, session: aiohttp.ClientSession, timeout_s: float) -> None:
        self._child = child
        self._health = health
        self._session = session
        self._timeout_s = timeout_s

    async def start(self) -> None:
        """Return when it answers."""
        await self._child.start(self._answers, timeout_s=self._timeout_s)

    async def stop(self) -> None:
        """End it."""
        await self._child.stop()

    async def _answers(self) -> bool:
        try:
            async with self._session.get(self._health) as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False
