"""The race between work and the client, without a server."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import BodyTooLargeError, ContentTypeError, MalformedBodyError
from gateway.wire import ClientLeftError, Event, Scope, race, read_json

JSON: Scope = {"headers": [(b"content-type", b"application/json; charset=utf-8")]}


class Client:
    """Sends its events, then is silent until it leaves."""

    def __init__(self, *events: Event) -> None:
        self._events = list(events)
        self.left = asyncio.Event()

    async def receive(self) -> Event:
        if self._events:
            return self._events.pop(0)
        await self.left.wait()
        return {"type": "http.disconnect"}


def part(data: bytes, *, more: bool = False) -> Event:
    return {"type": "http.request", "body": data, "more_body": more}


async def test_work_that_ends_first_wins() -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    assert await race(Client().receive, work()) is True


async def test_a_client_that_leaves_cancels_the_work_and_waits_for_it() -> None:
    client, began, cleaned = Client(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    running = asyncio.create_task(race(client.receive, work()))
    await began.wait()
    client.left.set()
    assert await running is False
    assert cleaned.is_set()


async def test_errors_of_the_work_come_through() -> None:
    async def work() -> None:
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        await race(Client().receive, work())


async def test_a_shutdown_cancels_the_work() -> None:
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    running = asyncio.create_task(race(Client().receive, work()))
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert cancelled.is_set()


async def test_bodies() -> None:
    client = Client(part(b'{"a":', more=True), part(b" 1}"))
    assert await read_json(JSON, client.receive, limit=100) == {"a": 1}
    with pytest.raises(MalformedBodyError, match="line 1, column 7"):
        await read_json(JSON, Client(part(b'{"a": }')).receive, limit=100)
    with pytest.raises(MalformedBodyError):
        await read_json(JSON, Client(part(b"\xff\xfe")).receive, limit=100)
    with pytest.raises(ContentTypeError, match="none"):
        await read_json({"headers": []}, Client(part(b"{}")).receive, limit=100)
    compressed: Scope = {"headers": [*JSON["headers"], (b"content-encoding", b"gzip")]}
    with pytest.raises(ContentTypeError, match="compressed"):
        await read_json(compressed, Client(part(b"{}")).receive, limit=100)
    with pytest.raises(BodyTooLargeError):
        await read_json(JSON, Client(part(b"x" * 60, more=True), part(b"x" * 60)).receive, limit=100)
    announced = {"headers": [*JSON["headers"], (b"content-length", b"99999999999")]}
    with pytest.raises(BodyTooLargeError):
        await read_json(announced, Client().receive, limit=100)
    left = Client(part(b"{", more=True))
    left.left.set()
    with pytest.raises(ClientLeftError):
        await read_json(JSON, left.receive, limit=100)
