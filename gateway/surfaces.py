"""How the events of an answer look on the wire: native or OpenAI, one body or a stream. All four say the
same."""

from __future__ import annotations

import time
from typing import Any, Final, Protocol

import orjson

from gateway.events import Completed, Delta
from gateway.exchange import Exchange
from gateway.openai_api import MODEL, chunk, completion, extension, url_citations, usage
from gateway.wire import EventStream, send_body

#: Parts of an answer's time that are told in `Server-Timing`.
_TIMED: Final = ("assign", "retrieval", "assemble", "generation", "verify", "total")


class SurfaceOutput(Protocol):
    """Takes the events of one answer."""

    async def emit(self, event: Delta | Completed) -> None: ...


class NativeJson:
    """`POST /v1/answers` without `stream`: one body at the end."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def emit(self, event: Delta | Completed) -> None:
        """Send the answer when it is complete."""
        if isinstance(event, Completed):
            await _send_json(self._exchange, event, orjson.dumps(event.body.model_dump(mode="json")))


class NativeStream:
    """`POST /v1/answers` with `stream`: `answer.delta`, `answer.citation`, `answer.completed`."""

    def __init__(self, exchange: Exchange, stream: EventStream) -> None:
        self._exchange = exchange
        self._stream = stream

    async def emit(self, event: Delta | Completed) -> None:
        """Send what the event says."""
        if isinstance(event, Delta):
            await self._stream.event(orjson.dumps({"text": event.text}), name="answer.delta")
            return
        body = event.body.model_dump(mode="json")
        for citation in body["citations"]:
            await self._stream.event(orjson.dumps(citation), name="answer.citation")
        await self._stream.event(orjson.dumps(body), name="answer.completed")
        self._exchange.status, self._exchange.complete = 200, True
        await self._stream.end()


class ChatJson:
    """`POST /v1/chat/completions` without `stream`."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._created = int(time.time())

    async def emit(self, event: Delta | Completed) -> None:
        """Send the completion when it is complete."""
        if isinstance(event, Completed):
            await _send_json(self._exchange, event, orjson.dumps(completion(event, created=self._created)))


class ChatStream:
    """`POST /v1/chat/completions` with `stream`: chunks, then `[DONE]`, which is never sent after an
    error."""

    def __init__(self, exchange: Exchange, stream: EventStream, *, include_usage: bool) -> None:
        self._exchange = exchange
        self._stream = stream
        self._include_usage = include_usage
        self._created = int(time.time())
        self._first = True

    async def emit(self, event: Delta | Completed) -> None:
        """Send the event as a chunk."""
        if isinstance(event, Delta):
            role = {"role": "assistant"} if self._first else {}
            self._first = False
            await self._chunk({**role, "content": event.text})
            return
        body = event.body
        last = self._frame({"annotations": url_citations(event.cited, body.answer)}, finish_reason="stop")
        last["twinrail"] = extension(body)
        await self._stream.event(orjson.dumps(last))
        if self._include_usage:
            await self._stream.event(orjson.dumps({**self._frame({}), "choices": [], "usage": usage(body)}))
        await self._stream.event(b"[DONE]")
        self._exchange.status, self._exchange.complete = 200, True
        await self._stream.end()

    async def _chunk(self, delta: dict[str, Any]) -> None:
        await self._stream.event(orjson.dumps(self._frame(delta)))

    def _frame(self, delta: dict[str, Any], *, finish_reason: str | None = None) -> dict[str, Any]:
        turn = self._exchange.turn
        return chunk(
            turn_id=str(turn.id) if turn else "",
            model=(turn.model.version if turn else None) or MODEL,
            created=self._created,
            delta=delta,
            finish_reason=finish_reason,
        )


async def _send_json(exchange: Exchange, event: Completed, body: bytes) -> None:
    timings = event.body.timings_ms
    parts = ", ".join(f"{name};dur={timings[name]:.2f}" for name in _TIMED if name in timings)
    exchange.status, exchange.complete = 200, True
    await send_body(
        exchange.send,
        status=200,
        body=body,
        headers=[
            *exchange.headers(),
            (b"content-type", b"application/json"),
            (b"server-timing", parts.encode()),
            (b"x-twinrail-overhead-ms", f"{timings.get('overhead', 0.0):.2f}".encode()),
        ],
    )
