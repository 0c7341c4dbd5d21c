"""Which engine serves which model name, whether it is well, and which of several is least busy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import aiohttp
import orjson

from serving.errors import EngineUnavailableError, ModelNotServedError


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHealth:
    """What one engine last said of itself."""

    url: str
    ready: bool
    served: tuple[str, ...]
    #: Why it is not ready, or "".
    reason: str = ""


@dataclass(slots=True)
class _Engine:
    url: str
    served: frozenset[str] = frozenset()
    order: tuple[str, ...] = ()
    reason: str = "not asked yet"
    asked_at: float = float("-inf")
    busy: int = 0


class EnginePool:
    """Engines behind base URLs. Each engine's list of models is asked for at most once in `ttl_s`."""

    def __init__(
        self,
        urls: Sequence[str],
        session: aiohttp.ClientSession,
        *,
        api_key: str | None = None,
        ttl_s: float = 5.0,
        timeout_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not urls:
            raise ValueError("engines: give at least one base URL")
        self._engines = [_Engine(_base(url)) for url in urls]
        self._session = session
        self._ttl_s = ttl_s
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._clock = clock
        self._asking: asyncio.Task[None] | None = None
        self.headers: Mapping[str, str] = {"authorization": f"Bearer {api_key}"} if api_key else {}

    async def choose(self, served_name: str, *, avoid: frozenset[str] = frozenset()) -> str:
        """URL of the least busy engine that lists the name, leaving out those in `avoid`."""
        fresh = self._clock() - self._ttl_s
        chosen = self._least_busy(served_name, fresh, avoid)
        if chosen is None:
            # A miss may be news (an adapter just loaded, an engine back): ask, but never twice at a time.
            await self._refresh(older_than_s=min(0.25, self._ttl_s))
            chosen = self._least_busy(served_name, float("-inf"), avoid)
        if chosen is not None:
            return chosen.url
        down = [engine for engine in self._engines if engine.reason]
        if down and all(served_name not in engine.served for engine in self._engines):
            reasons = "; ".join(f"{engine.url}: {engine.reason}" for engine in down)
            raise EngineUnavailableError(f"no engine that answers serves {served_name!r} ({reasons})")
        if any(served_name in engine.served for engine in self._engines):
            raise EngineUnavailableError(f"no engine that serves {served_name!r} takes requests now")
        raise ModelNotServedError(
            f"no engine serves {served_name!r}; served: {', '.join(sorted(self.served())) or 'nothing'}"
        )

    @contextmanager
    def lease(self, url: str) -> Iterator[None]:
        """Count a request as running on the engine."""
        engine = self._engine(url)
        engine.busy += 1
        try:
            yield
        finally:
            engine.busy -= 1

    def mark_down(self, url: str, reason: str) -> None:
        """Do not choose the engine again until it has answered."""
        engine = self._engine(url)
        engine.served, engine.order, engine.reason = frozenset(), (), reason
        engine.asked_at = self._clock()

    def forget(self, url: str) -> None:
        """Ask the engine for its models again before the next choice."""
        self._engine(url).asked_at = float("-inf")

    def served(self) -> frozenset[str]:
        """Names served by at least one engine, as last heard."""
        return frozenset().union(*(engine.served for engine in self._engines))

    def everywhere(self, served_name: str) -> bool:
        """Whether every engine lists the name, as last heard."""
        return all(served_name in engine.served for engine in self._engines)

    async def health(self) -> tuple[EngineHealth, ...]:
        """Ask every engine now."""
        await self._refresh(older_than_s=0.0)
        return tuple(
            EngineHealth(url=e.url, ready=not e.reason, served=e.order, reason=e.reason)
            for e in self._engines
        )

    async def ready(self, served_name: str | None = None) -> bool:
        """Whether some engine answers, and serves the name if one is given."""
        return any(
            health.ready and (served_name is None or served_name in health.served)
            for health in await self.health()
        )

    def _engine(self, url: str) -> _Engine:
        return next(engine for engine in self._engines if engine.url == url)

    def _least_busy(self, served_name: str, asked_since: float, avoid: frozenset[str]) -> _Engine | None:
        serving = [
            engine
            for engine in self._engines
            if served_name in engine.served and engine.asked_at >= asked_since and engine.url not in avoid
        ]
        return min(serving, key=lambda engine: engine.busy, default=None)

    async def _refresh(self, *, older_than_s: float) -> None:
        if self._asking is None or self._asking.done():
            stale = [e for e in self._engines if self._clock() - e.asked_at >= older_than_s]
            self._asking = asyncio.ensure_future(self._ask_all(stale))
        # Shielded: a caller that leaves must not take the answer from the others.
        await asyncio.shield(self._asking)

    async def _ask_all(self, engines: Sequence[_Engine]) -> None:
        await asyncio.gather(*(self._ask(engine) for engine in engines))

    async def _ask(self, engine: _Engine) -> None:
        try:
            async with self._session.get(
                f"{engine.url}/models", headers=self.headers, timeout=self._timeout
            ) as response:
                status, body = response.status, await response.read()
            models = orjson.loads(body)["data"] if status == 200 else []
            order = tuple(str(model["id"]) for model in models)
            reason = "" if status == 200 else f"GET /v1/models answered {status}"
        except (aiohttp.ClientError, TimeoutError) as exc:
            order, reason = (), str(exc) or type(exc).__name__
        except (orjson.JSONDecodeError, KeyError, TypeError):
            order, reason = (), "GET /v1/models did not answer with a list of models"
        engine.served, engine.order, engine.reason = frozenset(order), order, reason
        engine.asked_at = self._clock()


def _base(url: str) -> str:
    trimmed = url.rstrip("/")
    return trimmed if trimmed.endswith("/v1") else f"{trimmed}/v1"
