"""Which engine serves which model name, whether it is well, and which of several is least busy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import aiohttp
import orjson

from serving.errors import ModelNotServedError, NoEngineError


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHealth:
    """What one engine last said of itself."""

    url: str
    ready: bool
    served: tuple[str, ...]
    #: Why it is not ready, or "".
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admissions:
    """Which engine may be asked for which name: what has been shown, as read at one moment."""

    #: Names that an engine is asked for only after it was shown to serve them.
    managed: frozenset[str] = frozenset()
    #: URL -> names shown there, in this life of the engine.
    shown: Mapping[str, frozenset[str]] = field(default_factory=dict)
    #: Engines that are about to be stopped.
    leaving: frozenset[str] = frozenset()
    #: URL -> how often it had been looked at.
    looks: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Engine:
    url: str
    served: frozenset[str] = frozenset()
    order: tuple[str, ...] = ()
    reason: str = "not asked yet"
    asked_at: float = float("-inf")
    busy: int = 0
    #: It broke off: what was shown counts again after this many looks at it. One may have begun before.
    doubted_until: int | None = None


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
        self._engines = [_Engine(base_url(url)) for url in urls]
        self._session = session
        self._ttl_s = ttl_s
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._clock = clock
        self._asking: asyncio.Task[None] | None = None
        self._admissions = Admissions()
        self._admissions_are_old = False
        #: Asked when no engine is found for a name: there may be news of engines.
        self.on_miss: Callable[[], Awaitable[None]] | None = None
        self.headers: Mapping[str, str] = {"authorization": f"Bearer {api_key}"} if api_key else {}

    def use(self, urls: Sequence[str]) -> None:
        """From now on these engines; what is known of those that stay is kept, and what runs goes on."""
        known = {engine.url: engine for engine in self._engines}
        self._engines = [known.get(url) or _Engine(url) for url in dict.fromkeys(map(base_url, urls))]

    def admit(self, admissions: Admissions | None) -> None:
        """Ask engines only for what was shown; None: it cannot be read now, so the last of it stays true."""
        self._admissions_are_old = admissions is None
        if admissions is not None:
            self._admissions = admissions

    async def choose(self, served_name: str, *, avoid: frozenset[str] = frozenset()) -> str:
        """URL of the least busy engine that lists the name, leaving out those in `avoid`."""
        fresh = self._clock() - self._ttl_s
        chosen = self._least_busy(served_name, fresh, avoid)
        if chosen is None:
            # A miss may be news (an adapter just loaded, an engine back): ask, but never twice at a time.
            await self._refresh(older_than_s=min(0.25, self._ttl_s))
            chosen = self._least_busy(served_name, float("-inf"), avoid)
        if chosen is None and self.on_miss is not None:
            await self.on_miss()
            await self._refresh(older_than_s=0.0 if self._lags(served_name) else min(0.25, self._ttl_s))
            chosen = self._least_busy(served_name, float("-inf"), avoid)
        if chosen is not None:
            return chosen.url
        listing = [engine for engine in self._engines if served_name in engine.served]
        unshown = ", ".join(engine.url for engine in listing if not self._admits(engine, served_name))
        if unshown:
            raise NoEngineError(f"{served_name!r} is listed, but not shown to work, by {unshown}")
        down = [engine for engine in self._engines if engine.reason]
        if down and all(served_name not in engine.served for engine in self._engines):
            reasons = "; ".join(f"{engine.url}: {engine.reason}" for engine in down)
            raise NoEngineError(f"no engine that answers serves {served_name!r} ({reasons})")
        if any(served_name in engine.served for engine in self._engines):
            raise NoEngineError(f"no engine that serves {served_name!r} takes requests now")
        raise ModelNotServedError(
            f"no engine serves {served_name!r}; served: {', '.join(sorted(self.served())) or 'nothing'}"
        )

    @contextmanager
    def lease(self, url: str) -> Iterator[None]:
        """Count a request as running on the engine."""
        engine = self._engine(url) or _Engine(url)
        engine.busy += 1
        try:
            yield
        finally:
            engine.busy -= 1

    def mark_down(self, url: str, reason: str) -> None:
        """Do not choose the engine again until it has answered."""
        engine = self._engine(url) or _Engine(url)
        engine.served, engine.order, engine.reason = frozenset(), (), reason
        engine.asked_at = self._clock()
        engine.doubted_until = self._admissions.looks.get(url, 0) + 2

    def forget(self, url: str) -> None:
        """Ask the engine for its models again before the next choice."""
        if engine := self._engine(url):
            engine.asked_at = float("-inf")

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
        """Whether some engine answers, and may be asked for the name if one is given."""
        await self._refresh(older_than_s=0.0)
        return any(
            not engine.reason
            and (served_name is None or (served_name in engine.served and self._admits(engine, served_name)))
            for engine in self._engines
        )

    def _engine(self, url: str) -> _Engine | None:
        """None: it was withdrawn while something ran on it."""
        return next((engine for engine in self._engines if engine.url == url), None)

    def _admits(self, engine: _Engine, served_name: str) -> bool:
        known = self._admissions
        if served_name not in known.managed:
            return True
        if served_name not in known.shown.get(engine.url, ()):
            return False
        if engine.doubted_until is None or self._admissions_are_old:
            return True
        if known.looks.get(engine.url, 0) < engine.doubted_until:
            return False
        engine.doubted_until = None
        return True

    def _lags(self, served_name: str) -> bool:
        """Whether an engine that answers was shown to serve the name since it was last asked for its list."""
        return any(
            served_name in self._admissions.shown.get(engine.url, ())
            and served_name not in engine.served
            and not engine.reason
            for engine in self._engines
        )

    def _least_busy(self, served_name: str, asked_since: float, avoid: frozenset[str]) -> _Engine | None:
        serving = [
            engine
            for engine in self._engines
            if served_name in engine.served
            and engine.asked_at >= asked_since
            and engine.url not in avoid
            and self._admits(engine, served_name)
        ]
        leaving = self._admissions.leaving
        return min(serving, key=lambda engine: (engine.url in leaving, engine.busy), default=None)

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


def base_url(url: str) -> str:
    """The URL under which an engine is known everywhere: with `/v1`, without a slash behind it."""
    trimmed = url.rstrip("/")
    return trimmed if trimmed.endswith("/v1") else f"{trimmed}/v1"
