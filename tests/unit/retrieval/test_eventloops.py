"""One resource for each event loop, and a private loop for callers that have none."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from retrieval.eventloops import PerLoop
from tests.unit.docs.pages import ROOT


class Opener:
    """Opens numbers, and remembers in which thread."""

    def __init__(self) -> None:
        self.opened: list[int] = []
        self.closed: list[int] = []

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[int]:
        await asyncio.sleep(0)
        self.opened.append(threading.get_ident())
        number = len(self.opened)
        try:
            yield number
        finally:
            self.closed.append(number)


async def test_a_loop_opens_once_whoever_asks() -> None:
    opener = Opener()
    async with PerLoop(opener) as numbers:
        assert await asyncio.gather(numbers.here(), numbers.here()) == [1, 1]
        assert opener.closed == []
    assert opener.closed == [1]


async def test_sync_calls_have_a_resource_of_their_own_below_a_running_loop_too() -> None:
    opener = Opener()
    async with PerLoop(opener) as numbers:
        assert await numbers.here() == 1
        assert numbers.call(numbers.here) == 2
        assert await asyncio.to_thread(numbers.call, numbers.here) == 2
        assert opener.opened[0] == threading.get_ident() != opener.opened[1]
        numbers.close()
        assert opener.closed == [2]
    assert opener.closed == [2, 1]


def test_closing_ends_the_thread_and_a_later_call_begins_anew() -> None:
    opener, before = Opener(), threading.active_count()
    with PerLoop(opener) as numbers:
        assert numbers.call(numbers.here) == 1
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert numbers.call(numbers.here) == 2
    numbers.close()
    numbers.close()
    assert opener.closed == [1, 2]


def test_a_loop_that_ends_closes_its_own() -> None:
    opener = Opener()
    numbers = PerLoop(opener)

    async def use() -> int:
        return await numbers.here()

    assert asyncio.run(use()) == 1
    assert opener.closed == [1]
    assert asyncio.run(use()) == 2
    assert opener.closed == [1, 2]


async def test_who_gives_up_leaves_the_opening_to_the_others() -> None:
    opener = Opener()
    async with PerLoop(opener) as numbers:
        hasty, patient = asyncio.create_task(numbers.here()), asyncio.create_task(numbers.here())
        await asyncio.sleep(0)
        hasty.cancel()
        assert await patient == 1
        assert hasty.cancelled()


def test_a_program_that_never_closes_ends() -> None:
    program = """
from contextlib import asynccontextmanager
from retrieval.eventloops import PerLoop

@asynccontextmanager
async def opened():
    yield 1
    print("closed")

numbers = PerLoop(opened)
print(numbers.call(numbers.here))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\nclosed\n", "")


async def test_what_did_not_open_is_tried_again() -> None:
    attempts: list[int] = []

    @asynccontextmanager
    async def at_the_second() -> AsyncIterator[int]:
        attempts.append(1)
        if len(attempts) == 1:
            raise ConnectionError
        yield len(attempts)

    async with PerLoop(at_the_second) as numbers:
        with pytest.raises(ConnectionError):
            await numbers.here()
        assert await numbers.here() == 2


def test_an_error_of_the_work_reaches_its_caller() -> None:
    async def fail() -> None:
        raise KeyError("this")

    with PerLoop(Opener()) as numbers, pytest.raises(KeyError, match="this"):
        numbers.call(fail)
