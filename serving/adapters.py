"""Load adapters into a running engine and take them out: the second file that knows vLLM's wire.

A name is a version id and is never used twice: vLLM keys its prefix cache by name, so another adapter under
a name that was served before would answer from the old one's cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from serving.errors import AdapterError, AdapterExistsError, AdapterNotFoundError, EngineUnavailableError


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
