"""How much may go on at once: admission for the whole process, a token bucket for each key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager

from gateway.errors import OverloadedError, RateLimitedError


class Admission:
    """At most `running` answers at a time and a bounded queue before them.

    Refusing early keeps the accepted ones fast: an unbounded queue turns overload into timeouts for
    everybody.
    """

    def __init__(self, *, running: int, queued: int, queue_timeout_s: float) -> None:
        self._places = asyncio.Semaphore(running)
        self._queued = queued
        self._queue_timeout_s = queue_timeout_s
        self.running = 0
        self.waiting = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place; raises OverloadedError when the queue is full or the wait too long."""
        if self._places.locked():
            await self._queue()
        else:
            await self._places.acquire()
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._places.release()

    async def _queue(self) -> None:
        if self.waiting >= self._queued:
            raise OverloadedError(retry_after_s=self._queue_timeout_s)
        self.waiting += 1
        try:
            async with asyncio.timeout(self._queue_timeout_s):
                await self._places.acquire()
        except TimeoutError as exc:
            raise OverloadedError(
                f"No place became free within {self._queue_timeout_s:g} s.",
                retry_after_s=self._queue_timeout_s,
            ) from exc
        finally:
            self.waiting -= 1


class RateLimit:
    """A token bucket per key, in this process. Refused requests cost no token."""

    def __init__(self, *, per_minute: int, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_minute / 60
        self._burst = float(burst)
        self._clock = clock
        self._buckets: dict[Hashable, tuple[float, float]] = {}

    def take(self, key: Hashable) -> None:
        """Take one token of the key's bucket; raises RateLimitedError when it is empty."""
        now = self._clock()
        tokens, at = self._buckets.get(key, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        if tokens < 1:
            self._buckets[key] = (tokens, now)
            raise RateLimitedError(
                f"This key may send {self._rate * 60:g} requests a minute.",
                retry_after_s=(1 - tokens) / self._rate,
            )
        self._buckets[key] = (tokens - 1, now)
