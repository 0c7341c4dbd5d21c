"""Admission and rate limits refuse early and give everything back."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import OverloadedError, RateLimitedError
from gateway.limits import Admission, RateLimit


async def test_places_queue_and_refusal() -> None:
    admission = Admission(running=1, queued=1, queue_timeout_s=30)
    release = asyncio.Event()

    async def work() -> None:
        async with admission.place():
            await release.wait()

    first, second = asyncio.create_task(work()), asyncio.create_task(work())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (admission.running, admission.waiting) == (1, 1)
    with pytest.raises(OverloadedError) as refused:
        async with admission.place():
            pass
    assert refused.value.retry_after_s >= 1
    second.cancel()
    await asyncio.wait({second})
    assert admission.waiting == 0
    release.set()
    await first
    assert admission.running == 0
    async with admission.place():
        assert admission.running == 1


async def test_a_wait_has_an_end() -> None:
    admission = Admission(running=1, queued=1, queue_timeout_s=0.01)
    async with admission.place():
        with pytest.raises(OverloadedError, match=r"within 0\.01 s"):
            async with admission.place():
                pass


def test_a_bucket_refills_and_refusals_cost_nothing() -> None:
    now = [0.0]
    limit = RateLimit(per_minute=60, burst=2, clock=lambda: now[0])
    limit.take("a")
    limit.take("a")
    for _ in range(5):
        with pytest.raises(RateLimitedError) as refused:
            limit.take("a")
        assert refused.value.retry_after_s == pytest.approx(1.0)
    limit.take("b")
    now[0] = 1.0
    limit.take("a")
    with pytest.raises(RateLimitedError):
        limit.take("a")
