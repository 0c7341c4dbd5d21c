"""The OpenAPI document of the gateway, made without anything that the gateway stands on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import httpx

from gateway.app import create_app
from gateway.state import GatewayState

_PATH = re.compile(r"(?<![\w/.-])(/v1/[\w{}./:<>-]*|/livez|/readyz|/metrics|/openapi\.json|/console)")
#: Served, and not part of the API.
_BESIDE = ("/openapi.json", "/console")


async def openapi() -> dict[str, Any]:
    """What `GET /openapi.json` answers."""
    # The document depends on the routes only; no handler runs, so none of the state's parts is needed.
    state = cast(GatewayState, SimpleNamespace(hotpath=SimpleNamespace(routes={})))
    transport = httpx.ASGITransport(app=cast(Any, create_app(state)))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        answer = await client.get("/openapi.json")
    document: dict[str, Any] = answer.raise_for_status().json()
    return document


def paths_in(text: str) -> Iterator[str]:
    """Paths of the API that a text names, without what only ends a sentence."""
    for found in _PATH.findall(text):
        yield found.rstrip(".:,;")


def exists(path: str, document: dict[str, Any]) -> bool:
    """Whether the document has the path; `/v1/turns/{id}` stands for `/v1/turns/{turn_id}`."""
    return path in _BESIDE or any(_pattern(template).fullmatch(path) for template in document["paths"])


@cache
def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{\w+\}", template)
    return re.compile(r"[^/:]+".join(re.escape(part) for part in parts))
