"""Pointers are remembered for a moment, and forgotten when they have moved."""

from __future__ import annotations

import asyncio

from gateway.rollouts.live import Remembered


class Reads:
    """Reads that end when they are told to, with the value that was true when they began."""

    def __init__(self) -> None:
        self.value = "old"
        self.held = asyncio.Event()
        self.began = 0
        self._next = asyncio.Event()

    async def begun(self, count: int) -> None:
        """Wait until so many reads have begun."""
        while self.began < count:
            self._next.clear()
            await self._next.wait()

    async def __call__(self) -> str:
        value = self.value
        self.began += 1
        self._next.set()
        await self.held.wait()
        return value


async def test_a_read_in_flight_does_not_undo_forgetting() -> None:
    reads = Reads()
    remembered = Remembered(reads, max_age_s=60.0)
    reads.held.set()
    assert await remembered.get() == "old"

    remembered.forget()
    reads.held.clear()
    before = asyncio.create_task(remembered.get())
    await reads.begun(2)
    reads.value = "new"
    remembered.forget()
    after = asyncio.create_task(remembered.get())
    await reads.begun(3)
    reads.held.set()
    assert await before == "old"
    assert await after == "new"
    assert await remembered.get() == "new"
    assert reads.began == 3


async def test_a_first_read_that_was_forgotten_is_not_kept() -> None:
    reads = Reads()
    remembered = Remembered(reads, max_age_s=60.0)
    first = asyncio.create_task(remembered.get())
    await reads.begun(1)
    reads.value = "new"
    remembered.forget()
    reads.held.set()
    assert await first == "old"
    assert await remembered.get() == "new"
