"""Checks that ask a model run beside the loop, the others on it."""

from __future__ import annotations

import threading

import pytest

from gateway.checking import checked


@pytest.mark.parametrize("slow", [False, True])
async def test_only_slow_checks_leave_the_loop(slow: bool) -> None:
    assert (await checked(threading.get_ident, slow=slow) != threading.get_ident()) is slow
