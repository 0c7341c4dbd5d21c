"""One vLLM process of this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import aiohttp

from deploy.child import Child
from deploy.guard import Guard
from deploy.placement import Placement
from serving.engines import engine_command, engine_environment, traces_endpoint
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
    command = engine_command(
        model=placed.weights,
        served_names=placed.served,
        port=port,
        max_model_len=settings.max_model_len,
        max_num_seqs=settings.max_num_seqs,
        compiled=settings.compile,
        traces=traces_endpoint(os.environ),
    )
    environment = engine_environment(os.environ, kv_cache_gib=settings.kv_cache_gib)
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
