"""A light HTTP/1.1 load generator: requests at a fixed rate, requests as fast as they are answered, clients that leave.

Bare asyncio protocols, because a client library would cost more than the gateways that it measures. Latency at a fixed rate
counts from the moment at which a request was due, so that a server that stalls cannot hide it.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools

#: The first text of an answer in a stream: of OpenAI's chunks, or of our own events.
_FIRST_TEXT = re.compile(rb'"content": ?"[^"]|event: answer\.delta')
REPLY_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as bytes ready to be sent, and what a whole reply to it looks like."""

    host: str
    port: int
    data: bytes
    #: What must all stand in the body of a reply that counts.
    proof: tuple[bytes, ...]

    @classmethod
    def post(cls, url: str, body: bytes, *, proof: tuple[bytes, ...], key: str = "") -> Request:
        """A POST of JSON."""
        parts = urlsplit(url)
        if parts.hostname is None or parts.port is None:
            raise ValueError(f"url: {url!r} must name host and port")
        authorization = f"authorization: Bearer {key}\r\n" if key else ""
        head = (
            f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
            f"{authorization}content-length: {len(body)}\r\n\r\n"
        )
        return cls(host=parts.hostname, port=parts.port, data=head.encode() + body, proof=proof)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, in seconds from the moment of sending. `failure` is empty if it is the reply that was wanted."""

    status: int
    body: bytes
    first_text_s: float | None
    total_s: float
    failure: str = ""


@dataclass(slots=True)
class Sample:
    """The replies of one measurement."""

    total_s: list[float] = field(default_factory=list)
    first_text_s: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    elapsed_s: float = 0.0

    def add(self, reply: Reply, *, late_s: float = 0.0) -> None:
        """Take a reply. Those that failed count as failures and nowhere else."""
        if reply.failure:
            self.failures[reply.failure] += 1
            return
        self.total_s.append(reply.total_s + late_s)
        if reply.first_text_s is not None:
            self.first_text_s.append(reply.first_text_s + late_s)

    @property
    def per_second(self) -> float:
        """Good replies a second."""
        return len(self.total_s) / self.elapsed_s if self.elapsed_s else 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share lies (nearest rank)."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Client(asyncio.Protocol):
    """One connection with keep-alive, for one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._first: asyncio.Future[None] | None = None
        self._sent_at = 0.0
        self._body = bytearray()
        self._first_text_s: float | None = None
        self._keep_alive = True

    @classmethod
    async def connect(cls, request: Request) -> Client:
        """A connection to where the request goes."""
        _, client = await asyncio.get_running_loop().create_connection(cls, request.host, request.port)
        return client

    @property
    def usable(self) -> bool:
        """Whether another request can be sent."""
        return self._keep_alive and self._transport is not None and not self._transport.is_closing()

    async def send(self, request: Request, *, timeout_s: float = REPLY_TIMEOUT_S) -> Reply:
        """Send and read the whole reply."""
        self.begin(request)
        assert self._waiter is not None
        try:
            async with asyncio.timeout(timeout_s):
                await self._waiter
        except (OSError, TimeoutError, httptools.HttpParserError) as exc:
            self.close()
            return Reply(
                0,
                bytes(self._body),
                self._first_text_s,
                time.perf_counter() - self._sent_at,
                type(exc).__name__,
            )
        total_s = time.perf_counter() - self._sent_at
        status, body = self._parser.get_status_code(), bytes(self._body)
        failure = (
            f"status {status}"
            if status != 200
            else ""
            if all(part in body for part in request.proof)
            else "incomplete"
        )
        return Reply(status, body, self._first_text_s, total_s, failure)

    def begin(self, request: Request) -> None:
        """Send, and return at once."""
        loop = asyncio.get_running_loop()
        self._waiter, self._first = loop.create_future(), loop.create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._body, self._first_text_s = bytearray(), None
        self._sent_at = time.perf_counter()
        if self._transport is None or self._transport.is_closing():
            self._waiter.set_exception(ConnectionResetError())
            return
        self._transport.write(request.data)

    async def first_text(self) -> None:
        """Wait for the first text of a stream."""
        assert self._first is not None
        await self._first

    def close(self) -> None:
        """Leave."""
        if self._transport is not None:
            self._transport.close()

    # ---- asyncio and httptools

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by class

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_exception(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        for waiter in (self._waiter, self._first):
            if waiter is not None and not waiter.done():
                waiter.set_exception(ConnectionResetError())
                waiter.exception()  # the one that nobody waits for must not be reported

    def on_body(self, body: bytes) -> None:
        self._body += body
        if self._first_text_s is None and _FIRST_TEXT.search(self._body):
            self._first_text_s = time.perf_counter() - self._sent_at
            if self._first is not None and not self._first.done():
                self._first.set_result(None)

    def on_message_complete(self) -> None:
        # The parser only knows while it is in this call.
        self._keep_alive = self._parser.should_keep_alive()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def at_rate(request: Request, *, per_second: float, seconds: float) -> Sample:
    """Open loop: a request whenever one is due, whether or not the ones before it were answered."""
    sample = Sample()
    idle: deque[Client] = deque()
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def one(due: float) -> None:
        client = idle.pop() if idle else await Client.connect(request)
        late_s = loop.time() - due
        sample.add(await client.send(request), late_s=late_s)
        if client.usable:
            idle.append(client)
        else:
            client.close()

    tasks: list[asyncio.Task[None]] = []
    for n in range(max(1, int(per_second * seconds))):
        due = began + n / per_second
        await asyncio.sleep(due - loop.time())
        tasks.append(asyncio.create_task(one(due)))
    await asyncio.gather(*tasks)
    sample.elapsed_s = loop.time() - began
    for client in idle:
        client.close()
    return sample


async def at_most(request: Request, *, clients: int, seconds: float) -> Sample:
    """Closed loop: each client asks again as soon as it is answered, until the time is over."""
    sample = Sample()
    loop = asyncio.get_running_loop()
    began = loop.time()
    until = began + seconds

    async def one() -> None:
        client = await Client.connect(request)
        while loop.time() < until:
            if not client.usable:
                client.close()
                client = await Client.connect(request)
            reply = await client.send(request, timeout_s=max(0.1, until - loop.time()) + 1.0)
            if reply.failure and loop.time() >= until:
                break  # cut off by the end of the measurement
            sample.add(reply)
        client.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    sample.elapsed_s = loop.time() - began
    return sample
