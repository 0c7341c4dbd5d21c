"""A fast fake of vLLM's OpenAI wire, so that a benchmark measures what stands in front of it.

    python -m bench.upstream --port 8000 --model NAME

Bytes are made once per answer and written by a bare asyncio protocol, which leaves the engine's share of a request at some
20 us. The answer, its pace and its size are set over `/bench/...`; `GET /bench/state` tells when requests arrived and when
a client's leaving freed them, on the clock that all processes of a machine share. Anything POSTed to `/v1/traces` or
`/v1/metrics` is taken and dropped, so that the same process is the collector of a gateway's spans.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import httptools
import orjson
import uvloop

#: Usual figures of a support answer; nobody checks them here.
_USAGE: Final = {"prompt_tokens": 400, "completion_tokens": 120, "total_tokens": 520}
_EVENT_STREAM: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
_LAST_CHUNK: Final = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the fake writes: seconds to the first token and between two."""

    first_token_s: float = 0.0
    between_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Written:
    """One answer as bytes: whole, and as the events of a stream."""

    whole: bytes
    events: tuple[bytes, ...]
    tail: bytes
    usage: bytes

    @classmethod
    def of(cls, text: str, *, chunks: int, model: str) -> Written:
        """Cut the text into so many deltas."""
        head = {"id": "chatcmpl-bench", "created": 0, "model": model}
        choice = {"index": 0, "logprobs": None, "finish_reason": "stop"}
        message = {"role": "assistant", "content": text, "refusal": None}
        whole = {
            **head,
            "object": "chat.completion",
            "choices": [{**choice, "message": message}],
            "usage": _USAGE,
        }
        head["object"] = "chat.completion.chunk"
        size = max(1, -(-len(text) // chunks))
        pieces = [text[at : at + size] for at in range(0, len(text), size)] or [""]
        deltas: list[dict[str, str]] = [
            {"role": "assistant", "content": ""},
            *({"content": piece} for piece in pieces),
        ]
        events = [
            {
                **head,
                "choices": [
                    {**choice, "delta": delta, "finish_reason": "stop" if n == len(pieces) else None}
                ],
            }
            for n, delta in enumerate(deltas)
        ]
        return cls(
            whole=_response(orjson.dumps(whole)),
            events=tuple(_event(orjson.dumps(event)) for event in events),
            tail=_event(b"[DONE]") + _LAST_CHUNK,
            usage=_event(orjson.dumps({**head, "choices": [], "usage": _USAGE})),
        )  # fmt: skip


@dataclass(slots=True)
class FastUpstream:
    """State of the fake engine; `connection` makes the protocol of one client."""

    models: Sequence[str]
    text: str = '{"answer":"ready","citations":[],"intent":"how_to","escalate":false,"escalation_reason":"none","follow_up":""}'
    chunks: int = 32
    pace: Pace = field(default_factory=Pace)
    running: int = 0
    served: int = 0
    #: By number of the request: when it came, and when it was freed because its client left.
    arrived: dict[int, float] = field(default_factory=dict)
    freed: dict[int, float] = field(default_factory=dict)
    #: Exports of telemetry that were taken, and their size.
    exports: int = 0
    export_bytes: int = 0
    #: Arrivals are only written down while somebody watches: under load they would pile up.
    watching: bool = False
    _number: int = 0
    _written: dict[str, Written] = field(default_factory=dict)

    def connection(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        return _Connection(self)

    def written(self, model: str) -> Written:
        """The answer in a model's name."""
        if model not in self._written:
            self._written[model] = Written.of(self.text, chunks=self.chunks, model=model)
        return self._written[model]

    def begin(self) -> int:
        """A request came; gives its number."""
        self._number += 1
        self.running += 1
        if self.watching:
            self.arrived[self._number] = time.monotonic()
        return self._number

    def end(self, number: int, *, left: bool) -> None:
        """It was answered, or its client left."""
        self.running -= 1
        self.served += not left
        if left and self.watching:
            self.freed[number] = time.monotonic()

    def control(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        """What `/bench/<what>` does: `answer`, `pace`, `watch`; anything else only tells the state."""
        if what == "answer":
            self.text, self.chunks = str(body["text"]), int(body.get("chunks", self.chunks))
            self._written.clear()
        elif what == "pace":
            self.pace = Pace(float(body.get("first_token_s", 0.0)), float(body.get("between_s", 0.0)))
        elif what == "watch":
            self.watching = bool(body.get("on", True))
            self.arrived.clear()
            self.freed.clear()
        return {
            "running": self.running,
            "served": self.served,
            "arrived": {str(number): at for number, at in self.arrived.items()},
            "freed": {str(number): at for number, at in self.freed.items()},
            "exports": self.exports,
            "export_bytes": self.export_bytes,
        }


class _Connection(asyncio.Protocol):
    """One client connection with keep-alive. Requests are answered one after the other, as clients send them."""

    def __init__(self, upstream: FastUpstream) -> None:
        self._upstream = upstream
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._body: list[bytes] = []
        self._writing: asyncio.TimerHandle | None = None
        self._number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by class

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
            self._upstream.end(self._number, left=True)

    # ---- httptools

    def on_message_begin(self) -> None:
        self._body = []

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        path = self._url.partition(b"?")[0]
        if path == b"/v1/chat/completions":
            self._chat(b"".join(self._body))
        elif path == b"/v1/models":
            data = [
                {"id": name, "object": "model", "created": 0, "owned_by": "bench"}
                for name in self._upstream.models
            ]
            self._write(_response(orjson.dumps({"object": "list", "data": data})))
        elif path in (b"/v1/traces", b"/v1/metrics"):
            self._upstream.exports += 1
            self._upstream.export_bytes += sum(map(len, self._body))
            self._write(_response(b"", kind=b"application/x-protobuf"))
        elif path.startswith(b"/bench/"):
            body = orjson.loads(b"".join(self._body) or b"{}")
            self._write(
                _response(orjson.dumps(self._upstream.control(path.decode().rpartition("/")[2], body)))
            )
        elif path == b"/health":
            self._write(_response(b"{}"))
        else:
            self._write(_response(b'{"error":{"message":"no such path"}}', status=b"404 Not Found"))

    # ---- chat

    def _chat(self, raw: bytes) -> None:
        try:
            body = orjson.loads(raw)
            model, messages = str(body["model"]), body["messages"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            messages = None
        if not isinstance(messages, list):
            self._write(
                _response(b'{"error":{"message":"model, messages: missing"}}', status=b"400 Bad Request")
            )
            return
        if model not in self._upstream.models:
            self._write(_response(b'{"error":{"message":"no such model"}}', status=b"404 Not Found"))
            return
        upstream = self._upstream
        self._number = upstream.begin()
        written, pace = upstream.written(model), upstream.pace
        if not body.get("stream"):
            whole_s = pace.first_token_s + pace.between_s * (len(written.events) - 1)
            self._after(whole_s, lambda: self._end(written.whole))
            return
        wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        tail = (written.usage if wants_usage else b"") + written.tail
        if not pace.first_token_s and not pace.between_s:
            self._end(_EVENT_STREAM + b"".join(written.events) + tail)
            return
        # As vLLM does: the status comes at once, the role with the first token.
        self._write(_EVENT_STREAM)
        first = written.events[0] + written.events[1]
        self._after(pace.first_token_s, lambda: self._next((first, *written.events[2:]), tail, pace))

    def _next(self, events: Sequence[bytes], tail: bytes, pace: Pace) -> None:
        if len(events) == 1:
            self._end(events[0] + tail)
            return
        self._write(events[0])
        self._after(pace.between_s, lambda: self._next(events[1:], tail, pace))

    def _after(self, seconds: float, then: Callable[[], None]) -> None:
        if seconds:
            self._writing = asyncio.get_running_loop().call_later(seconds, then)
        else:
            then()

    def _end(self, data: bytes) -> None:
        self._writing = None
        self._upstream.end(self._number, left=False)
        self._write(data)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _response(body: bytes, *, status: bytes = b"200 OK", kind: bytes = b"application/json") -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        kind,
        len(body),
        body,
    )


def _event(data: bytes) -> bytes:
    """A server-sent event in an HTTP chunk."""
    line = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(line), line)


async def serve(upstream: FastUpstream, port: int) -> None:
    """Serve on loopback until cancelled."""
    server = await asyncio.get_running_loop().create_server(
        upstream.connection, "127.0.0.1", port, backlog=1024
    )
    async with server:
        await server.serve_forever()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model", action="append", required=True, help="name to serve; may be repeated")
    arguments = parser.parse_args(argv)
    uvloop.run(serve(FastUpstream(models=arguments.model), arguments.port))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
