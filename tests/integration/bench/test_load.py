"""The load generator against the fast upstream, over sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from bench.load import Client, Request, at_most, at_rate
from bench.overhead.leaving import MOMENTS, leave
from bench.overhead.stand import Upstream
from bench.upstream import FastUpstream

TEXT = '{"answer":"A refund is possible."}'


@asynccontextmanager
async def upstream() -> AsyncIterator[str]:
    """The fake engine on a free port."""
    fake = FastUpstream(models=["m"], text=TEXT, chunks=4)
    server = await asyncio.get_running_loop().create_server(fake.connection, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def chat(url: str, *, stream: bool = False, model: str = "m") -> Request:
    """A chat request."""
    body = {"model": model, "messages": [{"role": "user", "content": "?"}], "stream": stream}
    proof = b"[DONE]" if stream else b"A refund"
    return Request.post(f"{url}/v1/chat/completions", json.dumps(body).encode(), proof=(proof,))


@pytest.mark.parametrize("stream", [False, True])
async def test_fixed_rate_gives_a_sample_of_every_request(stream: bool) -> None:
    async with upstream() as url:
        sample = await at_rate(chat(url, stream=stream), per_second=100, seconds=0.2)

    assert len(sample.total_s) == 20
    assert len(sample.first_text_s) == 20
    assert not sample.failures


async def test_closed_loop_counts_good_replies() -> None:
    async with upstream() as url:
        sample = await at_most(chat(url), clients=4, seconds=0.2)

    assert len(sample.total_s) > 4
    assert not sample.failures


async def test_replies_that_are_not_wanted_are_failures() -> None:
    async with upstream() as url:
        refused = await at_rate(chat(url, model="other"), per_second=100, seconds=0.02)
        other = Request.post(f"{url}/v1/models", b"{}", proof=(b"not in there",))
        cut = await at_rate(other, per_second=100, seconds=0.01)

    assert refused.failures == {"status 404": 2}
    assert cut.failures == {"incomplete": 1}


async def test_stream_is_read_by_a_client_library() -> None:
    async with upstream() as url, aiohttp.ClientSession() as session:
        body = {"model": "m", "messages": [], "stream": True, "stream_options": {"include_usage": True}}
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            lines = [line async for line in response.content if line.strip()]

    chunks = [json.loads(line.removeprefix(b"data: ")) for line in lines[:-1]]
    assert lines[-1].strip() == b"data: [DONE]"
    assert "".join(c["choices"][0]["delta"]["content"] for c in chunks if c["choices"]) == TEXT
    assert chunks[-1]["usage"]["total_tokens"] == 520


async def test_client_that_leaves_frees_the_upstream_at_each_moment() -> None:
    async with upstream() as url, aiohttp.ClientSession() as session:
        found = await leave(
            Upstream(url=url, session=session),
            whole=chat(url),
            stream=chat(url, stream=True),
            tries=2,
            limit_s=2.0,
        )

    assert list(found) == list(MOMENTS)
    assert all(departures.worst_ms is not None for departures in found.values())


async def test_server_that_hangs_up_is_a_failure() -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        request = Request.post(f"http://127.0.0.1:{port}/", b"{}", proof=())
        client = await Client.connect(request)
        reply = await client.send(request)

    assert reply.failure == "ConnectionResetError"
    assert not client.usable
