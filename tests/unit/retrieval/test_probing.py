"""The recall probe: sampled, one at a time, a small share of the time, and gone when it is closed."""

from __future__ import annotations

import asyncio

import pytest

from retrieval.errors import StoreUnavailableError
from retrieval.probing import RecallProbe


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Measured:
    """Counts the measurements; one lasts as long as the test says."""

    def __init__(self, clock: Clock, seconds: float = 0.0, error: Exception | None = None) -> None:
        self.count = 0
        self._clock = clock
        self._seconds = seconds
        self._error = error

    async def __call__(self) -> float | None:
        self.count += 1
        self._clock.now += self._seconds
        if self._error:
            raise self._error
        return None


async def test_only_a_share_is_measured() -> None:
    clock, draws = Clock(), iter([0.2, 0.05, 0.5, 0.09])
    probe = RecallProbe(0.1, draw=lambda: next(draws), clock=clock)
    measured = Measured(clock)
    for _ in range(4):
        probe.offer(measured, {})
        await probe.settled()
    assert measured.count == 2


async def test_a_share_of_zero_measures_nothing() -> None:
    probe = RecallProbe(0.0, draw=lambda: 0.0)
    measured = Measured(Clock())
    probe.offer(measured, {})
    await probe.settled()
    assert measured.count == 0


@pytest.mark.parametrize("error", [None, StoreUnavailableError()])
async def test_a_pause_follows_that_is_longer_after_a_long_one(error: Exception | None) -> None:
    clock = Clock()
    probe = RecallProbe(1.0, clock=clock)
    measured = Measured(clock, seconds=2.0, error=error)
    for after, count in ((0.0, 1), (37.0, 1), (1.5, 2)):
        clock.now += after
        probe.offer(measured, {})
        await probe.settled()
        assert measured.count == count


async def test_one_at_a_time_and_closing_ends_it() -> None:
    probe = RecallProbe(1.0)
    started: list[int] = []
    ended: list[str] = []

    async def endless() -> float | None:
        started.append(1)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")
        return None

    probe.offer(endless, {})
    await asyncio.sleep(0)
    probe.offer(endless, {})
    await asyncio.sleep(0)
    assert started == [1]
    await probe.close()
    assert ended == ["cancelled"]
    await probe.close()
