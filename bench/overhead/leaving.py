"""How soon the upstream is free again when a client leaves: before the first byte, in mid-stream, or waiting for a body."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bench.load import Client, Request
from bench.overhead.stand import Upstream

BEFORE_FIRST_BYTE: Final = "before the first byte"
MID_STREAM: Final = "in mid-stream"
WHOLE_BODY: Final = "non-streaming"
MOMENTS: Final = (BEFORE_FIRST_BYTE, MID_STREAM, WHOLE_BODY)
_POLL_S: Final = 0.02
_ARRIVE_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Departures:
    """Milliseconds from leaving to freed, one a try; None where the upstream was not freed within the limit."""

    freed_ms: tuple[float | None, ...]
    limit_s: float

    @property
    def worst_ms(self) -> float | None:
        """The slowest try; None if one was never freed."""
        times = [each for each in self.freed_ms if each is not None]
        return max(times) if times and len(times) == len(self.freed_ms) else None

    def as_json(self) -> dict[str, Any]:
        """For the result file."""
        return {
            "freed_ms": [None if each is None else round(each, 2) for each in self.freed_ms],
            "worst_ms": None if self.worst_ms is None else round(self.worst_ms, 2),
            "limit_s": self.limit_s,
        }


async def leave(
    upstream: Upstream, *, whole: Request, stream: Request, tries: int, limit_s: float
) -> Mapping[str, Departures]:
    """Leave at each moment so many times."""
    found: dict[str, Departures] = {}
    try:
        for moment in MOMENTS:
            request = whole if moment == WHOLE_BODY else stream
            times = [await _leave_once(upstream, request, moment, limit_s) for _ in range(tries)]
            found[moment] = Departures(freed_ms=tuple(times), limit_s=limit_s)
    finally:
        await upstream.pace()
        await upstream.watch(on=False)
    return found


async def _leave_once(upstream: Upstream, request: Request, moment: str, limit_s: float) -> float | None:
    # The upstream would be busy for longer than we look, so that only the client's leaving can free it.
    busy_s = limit_s + 1.0
    if moment == MID_STREAM:
        await upstream.pace(first_token_s=0.05, between_s=busy_s / 20)
    else:
        await upstream.pace(first_token_s=busy_s)
    await upstream.watch(on=True)
    client = await Client.connect(request)
    client.begin(request)
    number = await _arrival(upstream)
    if moment == MID_STREAM:
        async with asyncio.timeout(busy_s):
            await client.first_text()
    left_at = time.monotonic()
    client.close()
    freed_at = await _freed(upstream, number, until=left_at + limit_s)
    return None if freed_at is None else (freed_at - left_at) * 1000


async def _arrival(upstream: Upstream) -> str:
    async with asyncio.timeout(_ARRIVE_S):
        while True:
            if arrived := (await upstream.state())["arrived"]:
                return str(next(iter(arrived)))
            await asyncio.sleep(_POLL_S)


async def _freed(upstream: Upstream, number: str, *, until: float) -> float | None:
    """When that request was freed, on the clock that all processes share."""
    while time.monotonic() < until:
        if (at := (await upstream.state())["freed"].get(number)) is not None:
            return float(at)
        await asyncio.sleep(_POLL_S)
    return None
