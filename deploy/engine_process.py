"""One vLLM process of this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import aiohttp

from deploy.child import Child
from deploy.errors import DeployError
from deploy.guard import Guard
from deploy.placement import Placement
from serving.adapters import AdapterLoader
from serving.engines import engine_command, engine_environment, traces_endpoint
from serving.errors import AdapterError, AdapterExistsError, EngineUnavailableError
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
        log=logs / f"engine-{placed.weights.name}.log",
        guard=guard,
        say=say,
    )
    url = f"http://127.0.0.1:{port}"
    return EngineChild(
        child,
        url,
        session,
        adapters=placed.adapters,
        needed=placed.needed,
        loader=AdapterLoader(url, session),
        say=say,
        timeout_s=settings.start_timeout_s,
    )


class EngineChild:
    """A child process that is ready when it answers and was given every adapter of its placement.

    Adapters are loaded at run time, so a process that was started again has none until they are given back.
    Only the needed one has to be taken: a damaged one is no reason to take the others' engine away.
    """

    def __init__(
        self,
        child: Child,
        url: str,
        session: aiohttp.ClientSession,
        *,
        adapters: Mapping[str, Path],
        needed: str,
        loader: AdapterLoader,
        say: Callable[[str], None],
        timeout_s: float,
    ) -> None:
        self._child = child
        self._url = url
        self._session = session
        self._adapters = adapters
        self._needed = needed
        self._loader = loader
        self._say = say
        self._said: set[str] = set()
        self._timeout_s = timeout_s

    async def start(self) -> None:
        """Return when it is ready."""
        await self._child.start(self._ready, timeout_s=self._timeout_s)

    async def stop(self) -> None:
        """End it."""
        await self._child.stop()

    async def _ready(self) -> bool:
        """Whether it answers, and has its adapters: one that has just begun to answer is given them."""
        if not await self._answers():
            return False
        missing: AdapterError | None = None
        for version_id, folder in self._adapters.items():
            try:
                await self._loader.load(version_id, folder)
            except AdapterExistsError:
                continue
            except EngineUnavailableError:
                return False
            except AdapterError as exc:
                if version_id == self._needed:
                    missing = exc
                else:
                    self._say_once(f"adapter {folder}: not loaded ({exc}); the others are served")
        if missing:
            raise DeployError(f"adapter {self._adapters[self._needed]}: not loaded ({missing})") from missing
        return True

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._say(text)

    async def _answers(self) -> bool:
        try:
            async with self._session.get(f"{self._url}/health") as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False
