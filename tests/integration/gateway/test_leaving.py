"""A client that leaves frees the engine, wherever its request was, and leaves one turn that says so."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import GatewaySettings
from tests.integration.gateway.conftest import REFUND_QUESTION, Gateway, reply

#: For what has to happen at some time.
LIMIT_S = 5.0
#: For the engine to be free after a client has left: the gateway promises 0.25 s, a busy machine gets more.
FREED_S = 1.0

#: Long, and no loop: a model that repeats itself would be stopped.
LONG = reply(
    (
        "A full refund is possible within 30 days of a yearly renewal. "
        "Within 30 days of a yearly renewal, a full refund is possible. "
        "After a yearly renewal a full refund is possible within 30 days. "
    )
    * 2
)


async def open_request(
    gateway: Gateway, body: dict[str, Any]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A request on a bare socket, which can be dropped at any moment."""
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    data = json.dumps(body).encode()
    writer.write(
        b"POST /v1/answers HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
        + f"authorization: Bearer {gateway.keys.customer}\r\ncontent-length: {len(data)}\r\n\r\n".encode()
        + data
    )
    await writer.drain()
    return reader, writer


async def leave(writer: asyncio.StreamWriter) -> None:
    """Drop the connection."""
    writer.close()
    await writer.wait_closed()


async def freed(gateway: Gateway) -> None:
    """The engine gets its place back soon after the client has left."""
    async with asyncio.timeout(FREED_S):
        await gateway.vllm.idle()


async def turns_are(gateway: Gateway, statuses: list[str]) -> None:
    """Wait until the stored turns have these statuses."""

    async def there() -> bool:
        status, body = await gateway.get("/v1/turns", key=gateway.keys.staff)
        return status == 200 and [turn["status"] for turn in body["turns"]] == statuses

    await gateway.until(there, limit_s=LIMIT_S)


@pytest.mark.parametrize("stream", [False, True])
async def test_before_the_first_token(gateway: Gateway, stream: bool) -> None:
    gateway.vllm.program(gateway.stable, hang=True)
    _, writer = await open_request(gateway, {"question": REFUND_QUESTION, "stream": stream})
    async with asyncio.timeout(LIMIT_S):
        await gateway.vllm.busy()
        await leave(writer)
        await freed(gateway)
    assert gateway.vllm.aborted == 1
    await turns_are(gateway, ["client_cancelled"])


async def test_in_mid_stream(gateway: Gateway) -> None:
    gateway.vllm.program(gateway.stable, answer=LONG, between_tokens_s=0.02)
    reader, writer = await open_request(gateway, {"question": REFUND_QUESTION, "stream": True})
    async with asyncio.timeout(LIMIT_S):
        await reader.readuntil(b"event: answer.delta")
        await leave(writer)
        await freed(gateway)
    assert gateway.vllm.aborted == 1
    await turns_are(gateway, ["client_cancelled"])


async def test_while_a_whole_body_is_written(gateway: Gateway) -> None:
    gateway.vllm.program(gateway.stable, answer=LONG, between_tokens_s=0.02)
    _, writer = await open_request(gateway, {"question": REFUND_QUESTION})
    async with asyncio.timeout(LIMIT_S):
        await gateway.vllm.busy()
        await asyncio.sleep(0.1)
        await leave(writer)
        await freed(gateway)
    assert gateway.vllm.aborted == 1
    await turns_are(gateway, ["client_cancelled"])


async def test_half_a_body(gateway: Gateway) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /v1/answers HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
        + f"authorization: Bearer {gateway.keys.customer}\r\ncontent-length: 500\r\n\r\n".encode()
        + b'{"question": '
    )
    await writer.drain()
    await asyncio.sleep(0.1)
    await leave(writer)
    await turns_are(gateway, ["client_cancelled"])


class TestOnePlace:
    """With one place and a short queue."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> GatewaySettings:
        return GatewaySettings(
            port=0,
            spool_dir=tmp_path / "spool",
            max_running=1,
            max_queued=1,
            queue_timeout_s=30,
            deadline_s=60,
        )

    async def test_in_the_queue(self, gateway: Gateway) -> None:
        gateway.vllm.program(gateway.stable, hang=True)
        _, running = await open_request(gateway, {"question": REFUND_QUESTION})
        await asyncio.wait_for(gateway.vllm.busy(), LIMIT_S)
        _, queued = await open_request(gateway, {"question": REFUND_QUESTION})
        admission = gateway.state.hotpath.admission
        await gateway.until(lambda: admission.waiting == 1)

        status, problem, headers = await gateway.post("/v1/answers", {"question": REFUND_QUESTION})
        assert (status, problem["type"]) == (429, "urn:twinrail:problem:overloaded")
        assert int(headers["retry-after"]) >= 1

        await leave(queued)
        await gateway.until(lambda: admission.waiting == 0)
        assert len(gateway.vllm.requests) == 1
        await leave(running)
        await freed(gateway)
        await turns_are(gateway, ["rejected", "client_cancelled", "client_cancelled"])
