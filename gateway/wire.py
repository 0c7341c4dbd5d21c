"""HTTP as ASGI has it: reading a bounded JSON body, sending bodies and streams, noticing that a client left.

No framework: a response class that owns `receive` cannot race work against the disconnect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, MutableMapping
from typing import Any, Final

import orjson

from gateway.errors import BodyTooLargeError, ContentTypeError, MalformedBodyError

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

#: A body over the limit is read on to this size, so that the client can read our refusal instead of a reset.
_DRAIN_BYTES: Final = 8 * 1024 * 1024
_DRAIN_S: Final = 2.0
_JSON: Final = (b"application/json", b"text/json")


class ClientLeftError(Exception):
    """The client closed the connection."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that (lower-case) name."""
    return next((value for key, value in scope["headers"] if key == name), None)


async def read_json(scope: Scope, receive: Receive, *, limit: int) -> Any:
    """The body as JSON. Type and size are looked at before anything is parsed."""
    kind = (header(scope, b"content-type") or b"").split(b";")[0].strip().lower()
    if kind not in _JSON and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
        shown = kind.decode("latin-1") or "none"
        raise ContentTypeError(f"The content type is {shown}.")
    if header(scope, b"content-encoding") not in (None, b"identity"):
        raise ContentTypeError(
            "The body is compressed.", field="header content-encoding", fix="Send the body uncompressed."
        )
    body = await _read_body(scope, receive, limit=limit)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise MalformedBodyError(
            f"The body is not JSON: {exc.msg} at line {exc.lineno}, column {exc.colno} (character {exc.pos})."
        ) from exc


async def _read_body(scope: Scope, receive: Receive, *, limit: int) -> bytes:
    announced = header(scope, b"content-length") or b"0"
    if announced.isdigit() and int(announced) > limit:
        if int(announced) <= _DRAIN_BYTES:
            await _drain(receive)
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientLeftError
        part = event.get("body", b"")
        size += len(part)
        if size > limit:
            await _drain(receive, more=event.get("more_body", False), read=size)
            raise _too_large(limit)
        parts.append(part)
        if not event.get("more_body", False):
            return b"".join(parts)


async def _drain(receive: Receive, *, more: bool = True, read: int = 0) -> None:
    try:
        async with asyncio.timeout(_DRAIN_S):
            while more and read <= _DRAIN_BYTES:
                event = await receive()
                if event["type"] == "http.disconnect":
                    raise ClientLeftError
                read += len(event.get("body", b""))
                more = event.get("more_body", False)
    except TimeoutError:
        return


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(
        f"The body is larger than {limit // 1024} KB.",
        fix=f"Send at most {limit} bytes; shorten the question.",
    )


async def race(receive: Receive, work: Coroutine[Any, Any, None]) -> bool:
    """Run the work against the client's disconnect; True if the work ended, False if the client left first.

    When the client leaves, the work is cancelled and waited for, so that whatever it held is free on return.
    When we are cancelled ourselves (shutdown), so is the work.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return True
        return False
    finally:
        for other in (task, watcher):
            if not other.done():
                other.cancel()
        await asyncio.wait((task, watcher))


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_body(
    send: Send, *, status: int, body: bytes, headers: Headers = (), close: bool = False
) -> None:
    """A whole response."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                *headers,
                (b"content-length", str(len(body)).encode()),
                *([(b"connection", b"close")] if close else []),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


class EventStream:
    """A response of server-sent events. Starts with its first event, so that an early error can still be a
    status."""

    def __init__(self, send: Send, headers: Callable[[], Headers], *, keepalive_s: float) -> None:
        self._send = send
        self._headers = headers
        self._keepalive_s = keepalive_s
        self._last_sent = asyncio.get_running_loop().time()
        self.started = False

    async def event(self, data: bytes, *, name: str | None = None) -> None:
        """Send one event."""
        await self._write((b"event: " + name.encode() + b"\n" if name else b"") + b"data: " + data + b"\n\n")

    async def end(self) -> None:
        """End the response."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def keep_alive(self) -> None:
        """Send a comment whenever nothing was sent for a while, for proxies that cut silent connections.
        Endless."""
        loop = asyncio.get_running_loop()
        while True:
            silent = loop.time() - self._last_sent
            if silent >= self._keepalive_s:
                await self._write(b": keep-alive\n\n")
                silent = 0.0
            await asyncio.sleep(self._keepalive_s - silent)

    async def _write(self, data: bytes) -> None:
        self._last_sent = asyncio.get_running_loop().time()
        if not self.started:
            self.started = True
            await self._send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [
                        *self._headers(),
                        (b"content-type", b"text/event-stream; charset=utf-8"),
                        (b"cache-control", b"no-store"),
                        (b"x-accel-buffering", b"no"),
                    ],
                }
            )
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
