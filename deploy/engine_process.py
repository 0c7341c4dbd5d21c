"""One vLLM process of this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import aiohttp

from deploy.child import Child
from deploy.guard import Guard
from deploy.placement import Placement
from serving.adapters import running_requests
from serving.engines import engine_command, engine_environment, traces_endpoint
from serving.errors import EngineError
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
        served_names=placed.served or (placed.weights.name,),
        port=port,
        max_model_len=settings.max_model_len,
        max_num_seqs=settings.max_num_seqs,
        runtime_adapters=bool(placed.adapters),
        compiled=settings.compile,
        traces=traces_endpoint(os.environ),
    )
    environment = engine_environment(
        os.environ, kv_cache_gib=settings.kv_cache_gib, runtime_adapters=bool(placed.adapters)
    )
    child = Child(
        f"engine on port {port}",
        command,
        environment=environment,
        log=logs / f"engine-{placed.weights.name}{'-adapters' if placed.adapters else ''}.log",
        guard=guard,
        say=say,
    )
    return EngineChild(child, f"http://127.0.0.1:{port}", session, timeout_s=settings.start_timeout_s)


class EngineChild:
    """A child process that is ready when it answers. Its adapters are the reconciler's business, after each
    start anew."""

    def __init__(self, child: Child, url: str, session: aiohttp.ClientSession, *, timeout_s: float) -> None:
        self._child = child
        self._url = url
        self._session = session
        self._timeout_s = timeout_s

    async def start(self) -> None:
        """Return when it is ready."""
        await self._child.start(self._answers, timeout_s=self._timeout_s)

    async def is_idle(self) -> bool:
        """Whether nothing runs on it; true also when it does not answer."""
        try:
            return await running_requests(self._session, self._url) == 0
        except EngineError:
            return True

    async def stop(self) -> None:
        """End it."""
        await self._child.stop()

    async def _answers(self) -> bool:
        try:
            async with self._session.get(f"{self._url}/health") as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False
