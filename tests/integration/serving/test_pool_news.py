"""A version that was shown a moment ago is found at the first question, however new its engine's list."""

from __future__ import annotations

import aiohttp

from serving.pool import Admissions, EnginePool
from tests.fakes.vllm_server import FakeVllm


async def test_what_was_shown_since_the_list_was_read_is_asked_for_again() -> None:
    vllm = FakeVllm()
    async with vllm.serving() as url, aiohttp.ClientSession() as session:
        pool = EnginePool([url], session, ttl_s=60.0, clock=lambda: 1000.0)
        await pool.health()
        vllm.program("m-new")

        async def news() -> None:
            pool.admit(
                Admissions(managed=frozenset({"m-new"}), shown={url: frozenset({"m-new"})}, looks={url: 1})
            )

        pool.on_miss = news
        assert await pool.choose("m-new") == url
