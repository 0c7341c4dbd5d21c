"""Look at a running engine, load adapters into it and take them out: the second file that knows vLLM's wire.

A name is a version id and is never used twice: vLLM keys its prefix cache by name, so another adapter under
a name that was served before would answer from the old one's cache.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from serving.errors import AdapterError, AdapterExistsError, AdapterNotFoundError, EngineUnavailableError

_RUNNING = re.compile(rb"^vllm:num_requests_(?:running|waiting)\{[^}]*\} (\S+)$", re.MULTILINE)
#: What prometheus_client says of every process.
_STARTED = re.compile(rb"^process_start_time_seconds (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """A line of an engine's list of models."""

    name: str
    #: The folder that it was loaded from, as the engine says.
    root: str = ""
    #: The model that an adapter sits on; None: weights of its own.
    parent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLook:
    """What an engine says of itself."""

    models: tuple[ListedModel, ...]
    #: When its process started, as its metrics say; "" where they do not.
    started: str
    #: Its release; "" where it does not say.
    build: str


async def look_at(
    session: aiohttp.ClientSession,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 5.0,
) -> EngineLook:
    """Ask an engine what it serves and since when; raises EngineUnavailableError."""
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    root = url.rstrip("/").removesuffix("/v1")

    async def get(path: str) -> tuple[int, bytes]:
        try:
            async with session.get(root + path, headers=dict(headers or {}), timeout=timeout) as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise EngineUnavailableError(str(exc) or type(exc).__name__) from exc

    status, raw = await get("/v1/models")
    if status != 200:
        raise EngineUnavailableError(f"GET /v1/models answered {status}")
    try:
        models = tuple(
            ListedModel(name=str(row["id"]), root=str(row.get("root") or ""), parent=row.get("parent"))
            for row in orjson.loads(raw)["data"]
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as exc:
        raise EngineUnavailableError("GET /v1/models did not answer with a list of models") from exc
    # Asked after the list: if it was started again in between, the list is of the old life and the next look
    # finds the new one.
    metrics_status, metrics = await get("/metrics")
    version_status, version = await get("/version")
    return EngineLook(
        models=models,
        started=_start_time(metrics) if metrics_status == 200 else "",
        build=_build(version) if version_status == 200 else "",
    )


async def running_requests(session: aiohttp.ClientSession, url: str, *, timeout_s: float = 5.0) -> float:
    """How many generations run on an engine; raises EngineUnavailableError."""
    root = url.rstrip("/").removesuffix("/v1")
    try:
        async with session.get(f"{root}/metrics", timeout=aiohttp.ClientTimeout(total=timeout_s)) as response:
            found = _RUNNING.findall(await response.read())
    except (aiohttp.ClientError, TimeoutError) as exc:
        raise EngineUnavailableError(str(exc) or type(exc).__name__) from exc
    return sum(float(value) for value in found)


class AdapterLoader:
    """Adapters of one engine, which must run with VLLM_ALLOW_RUNTIME_LORA_UPDATING."""

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        self._url = url.rstrip("/").removesuffix("/v1")
        self._session = session
        self._headers = dict(headers or {})
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def load(self, version_id: str, path: Path) -> None:
        """Serve the adapter under its version's id. A name that is there already is an error, never
        replaced."""
        await self._post("load_lora_adapter", {"lora_name": version_id, "lora_path": str(path)})

    async def unload(self, version_id: str) -> None:
        """Stop serving the adapter; generations that run on it end first."""
        await self._post("unload_lora_adapter", {"lora_name": version_id})

    async def _post(self, route: str, body: Mapping[str, Any]) -> None:
        try:
            async with self._session.post(
                f"{self._url}/v1/{route}", json=body, headers=self._headers, timeout=self._timeout
            ) as response:
                status, raw = response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise EngineUnavailableError(f"{self._url}: {exc or type(exc).__name__}") from exc
        if status == 200:
            return
        message = _message(raw)
        name = body["lora_name"]
        if status == 404 and not message:
            raise AdapterError(
                f"{self._url} does not load adapters at run time; start it with runtime_adapters"
            )
        if status == 404:
            raise AdapterNotFoundError(f"{self._url}: {name}: {message}")
        if status == 400 and ("already been loaded" in message or "conflicts with" in message):
            raise AdapterExistsError(f"{self._url}: {name}: {message}")
        raise AdapterError(f"{self._url}: {name}: {message or f'status {status}'}")


def _message(raw: bytes) -> str:
    """vLLM's `error.message`; empty where the route itself is missing."""
    try:
        error = orjson.loads(raw).get("error")
    except (orjson.JSONDecodeError, AttributeError):
        return ""
    return str(error.get("message", "")) if isinstance(error, dict) else ""


def _start_time(metrics: bytes) -> str:
    found = _STARTED.search(metrics)
    return found.group(1).decode("ascii", "replace") if found else ""


def _build(raw: bytes) -> str:
    try:
        return f"vllm {orjson.loads(raw)['version']}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""
