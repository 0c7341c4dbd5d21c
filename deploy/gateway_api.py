"""The gateway as a command line sees it: the only place of this package with its HTTP wire."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from deploy.errors import (
    DeployError,
    GateRefusedError,
    GatewayFailedError,
    GatewayUnreachableError,
    UsageError,
)


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One server-sent event."""

    name: str
    data: Mapping[str, Any]


class GatewayApi:
    """Calls to one gateway with one key. The session belongs to the caller."""

    def __init__(
        self, session: aiohttp.ClientSession, *, url: str, key: str | None, timeout_s: float = 60.0
    ) -> None:
        self.url = url
        self._session = session
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def get(self, path: str) -> Any:
        """The JSON at `path`."""
        async with self._call("GET", path, None) as response:
            return await response.json()

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON that `path` answers to `body`."""
        async with self._call("POST", path, body) as response:
            return await response.json()

    async def readiness(self) -> Mapping[str, Any]:
        """What `/readyz` says, also when it says that the gateway is not ready."""
        async with self._call("GET", "/readyz", None, accept_status=(503,)) as response:
            report: dict[str, Any] = await response.json()
            return {**report, "http_status": response.status}

    async def is_alive(self) -> bool:
        """Whether the process listens."""
        try:
            async with self._call("GET", "/livez", None) as response:
                return response.status == 200
        except DeployError:
            return False

    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[StreamEvent]:
        """Events as they come. An `error` event is raised as the error that it reports."""
        name = ""
        async with self._call("POST", path, body) as response:
            async for line in response.content:
                text = line.decode("utf-8").rstrip("\r\n")
                if text.startswith("event:"):
                    name = text.removeprefix("event:").strip()
                elif text.startswith("data:"):
                    data = json.loads(text.removeprefix("data:"))
                    if name == "error":
                        raise refused(int(data.get("status", 500)), data)
                    yield StreamEvent(name, data)

    @asynccontextmanager
    async def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None, *, accept_status: tuple[int, ...] = ()
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self._session.request(
                method, f"{self.url}{path}", json=body, headers=self._headers, timeout=self._timeout
            ) as response:
                if response.status >= 400 and response.status not in accept_status:
                    raise refused(response.status, await _problem(response))
                yield response
        except TimeoutError as exc:
            raise GatewayFailedError(
                f"gateway: no answer from {self.url} in {self._timeout.total:.0f} s; ask `twinrail status`"
            ) from exc
        except aiohttp.ClientConnectorError as exc:
            raise GatewayUnreachableError(
                f"TWINRAIL_URL: no gateway answers at {self.url}; start one with `twinrail up`, "
                "or set TWINRAIL_URL"
            ) from exc
        except aiohttp.ClientError as exc:
            raise GatewayFailedError(f"gateway: {self.url}{path} broke off ({exc}); try again") from exc


async def _problem(response: aiohttp.ClientResponse) -> Mapping[str, Any]:
    """The RFC 9457 body, or what else came instead of one (a proxy's page, say)."""
    try:
        problem = await response.json(content_type=None)
    except ValueError:
        problem = None
    return problem if isinstance(problem, dict) else {"title": response.reason or "error"}


def refused(status: int, problem: Mapping[str, Any]) -> DeployError:
    """An error in the words of the problem, of the kind that gives the right exit code."""
    field = problem.get("field") or "gateway"
    what = (
        str(problem.get("detail") or problem.get("title") or "refused").removeprefix(f"{field}: ").rstrip(".")
    )
    message = f"{field}: {what}"
    if problem.get("fix"):
        message += f"; {str(problem['fix']).rstrip('.')}"
    if status in (401, 403):
        message += " (key: TWINRAIL_API_KEY, else keys.json in TWINRAIL_HOME)"
    if problem.get("trace_id"):
        message += f" (trace {problem['trace_id']})"
    if status == 409:
        return GateRefusedError(message)
    if status == 429 or status >= 500:
        return GatewayFailedError(message)
    return UsageError(message)
