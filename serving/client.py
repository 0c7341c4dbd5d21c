"""Chat with an engine: the only place (with `adapters.py`) that knows vLLM's wire.

One generation is one streamed request. Closing the iterator closes the socket, and vLLM then aborts the
generation and frees its slot; that is the only way in which it learns of a cancellation.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, Protocol, assert_never
from urllib.parse import urlsplit

import aiohttp
import orjson
from opentelemetry import propagate, trace

from serving import instruments as names
from serving.errors import (
    EngineError,
    EngineRejectedError,
    EngineStreamError,
    EngineTimeoutError,
    EngineUnavailableError,
    ModelNotServedError,
)
from serving.generation import Generation, Usage
from serving.prompting import Message
from serving.sse import EventParser
from serving.versions import Decoding

_MAX_ERROR_BYTES = 64 << 10
_MAX_MESSAGE_CHARS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One generation. The deadlines count from the moment the iterator is first asked."""

    served_name: str
    messages: Sequence[Message]
    #: JSON Schema that the output must keep to; None leaves it free.
    schema: Mapping[str, Any] | None = None
    decoding: Decoding = field(default_factory=Decoding)
    timeout_s: float = 60.0
    first_token_timeout_s: float = 30.0
    #: Longest silence between two tokens.
    idle_timeout_s: float = 10.0
    #: Extra request headers; trace headers are added.
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Separates prefix caches, one per tenant; None shares (engines other than vLLM do not know it).
    cache_salt: str | None = None
    #: Version id for telemetry; the served name if empty.
    version: str = ""
    #: Arm for telemetry: stable, canary, shadow or none.
    arm: str = "none"
    #: Name of the prompt template, for telemetry.
    prompt_name: str = ""


@dataclass(frozen=True, slots=True)
class ChatDelta:
    """Generated text: the tokens that came together. The last one has none, but the finish reason and the
    usage."""

    text: str
    finish_reason: str | None = None
    usage: Usage | None = None


class Engines(Protocol):
    """Where a generation can be had: a pool of our engines, or the one address of somebody else's."""

    headers: Mapping[str, str]

    async def choose(self, served_name: str, *, avoid: frozenset[str] = frozenset()) -> str: ...
    def lease(self, url: str) -> AbstractContextManager[None]: ...
    def mark_down(self, url: str, reason: str) -> None: ...
    def forget(self, url: str) -> None: ...


class ChatClient:
    """Streams generations from whichever engine serves the model.

    `traced=False` keeps our trace ids to ourselves, where the engine is not ours.
    """

    def __init__(
        self,
        *,
        session: aiohttp.ClientSession,
        engines: Engines,
        connect_timeout_s: float = 1.0,
        provider: str = names.VLLM,
        traced: bool = True,
    ) -> None:
        self._session = session
        self._engines = engines
        self._provider = provider
        self._traced = traced
        # Our own deadlines bound the rest: aiohttp's would hide which of them was missed.
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatDelta, None]:
        """Generate. An engine that cannot be reached is left out and the next one tried, as nothing was
        sent yet."""
        generation = Generation.begin(
            provider=self._provider,
            served_name=request.served_name,
            version=request.version or request.served_name,
            arm=request.arm,
            prompt_name=request.prompt_name,
            decoding=request.decoding,
            output_type="json" if _constrained(request) else "text",
        )
        try:
            async with aclosing(self._deltas(request, generation)) as deltas:
                async for delta in deltas:
                    yield delta
        except GeneratorExit:
            generation.end(error=names.CANCELLED)
            raise
        except asyncio.CancelledError:
            generation.end(error=names.CANCELLED)
            raise
        except EngineError as exc:
            generation.end(error=type(exc).__name__, message=str(exc))
            raise
        except BaseException as exc:
            generation.end(error=type(exc).__qualname__, message=str(exc))
            raise
        else:
            generation.end()

    async def _deltas(self, request: ChatRequest, generation: Generation) -> AsyncGenerator[ChatDelta, None]:
        clock = _Clock(request)
        body = orjson.dumps(_body(request))
        headers = {"content-type": "application/json", **self._engines.headers, **request.headers}
        if self._traced:
            propagate.inject(headers, context=trace.set_span_in_context(generation.span))
        avoid: frozenset[str] = frozenset()
        dropped: frozenset[str] = frozenset()
        while True:
            async with clock.until_first_token():
                url = await self._engines.choose(request.served_name, avoid=avoid)
            generation.on_engine(*_address(url))
            with self._engines.lease(url):
                try:
                    async with clock.until_first_token():
                        response = await self._session.post(
                            f"{url}/chat/completions", data=body, headers=headers, timeout=self._timeout
                        )
                except aiohttp.ClientConnectionError as exc:
                    if (
                        isinstance(exc, aiohttp.ClientConnectorError | aiohttp.ServerTimeoutError)
                        or url in dropped
                    ):
                        self._engines.mark_down(url, str(exc) or type(exc).__name__)
                        avoid |= {url}
                    # Else a kept-alive connection that the engine had closed: once more on a new one. A
                    # generation changes nothing, so to send it twice costs time only.
                    dropped |= {url}
                    continue
                except aiohttp.ClientError as exc:
                    self._engines.forget(url)
                    raise EngineUnavailableError(f"{url}: {exc or type(exc).__name__}") from exc
                try:
                    if response.status != 200:
                        raise await self._refusal(url, request, response)
                    async with aclosing(_read(response, clock, generation)) as deltas:
                        async for delta in deltas:
                            yield delta
                    return
                finally:
                    # Closed, not released: an unread stream must not go back to the connection pool.
                    if not response.content.at_eof():
                        response.close()

    async def _refusal(self, url: str, request: ChatRequest, response: aiohttp.ClientResponse) -> EngineError:
        """The typed error for a status other than 200."""
        try:
            async with asyncio.timeout(2.0):
                raw = await response.content.read(_MAX_ERROR_BYTES)
        except (aiohttp.ClientError, TimeoutError):
            raw = b""
        message = _message(raw) or response.reason or ""
        if response.status == 404:
            self._engines.forget(url)
            return ModelNotServedError(f"{url} does not serve {request.served_name!r}: {message}")
        if response.status in {429, 502, 503, 504}:
            return EngineUnavailableError(
                f"{url} answered {response.status}: {message}",
                retry_after_s=_seconds(response.headers.get("retry-after")),
            )
        if response.status >= 500:
            return EngineUnavailableError(f"{url} failed with {response.status}: {message}")
        return EngineRejectedError(f"{url} refused the request: {message}", status=response.status)


class _Clock:
    """The three deadlines of one request: first token, silence, total."""

    __slots__ = ("_first_at", "_idle_s", "_request", "_total_at")

    def __init__(self, request: ChatRequest) -> None:
        now = time.monotonic()
        self._request = request
        self._first_at = now + request.first_token_timeout_s
        self._total_at = now + request.timeout_s
        self._idle_s = request.idle_timeout_s

    def until_first_token(self) -> _Deadline:
        """Bound a step before the first token."""
        if self._total_at < self._first_at:
            return self._total()
        return _Deadline(self._first_at, "first_token", self._request)

    def until_next_token(self) -> _Deadline:
        """Bound the wait for a token after the first."""
        idle_at = time.monotonic() + self._idle_s
        if self._total_at < idle_at:
            return self._total()
        return _Deadline(idle_at, "idle", self._request)

    def _total(self) -> _Deadline:
        return _Deadline(self._total_at, "total", self._request)


class _Deadline:
    """A moment, and what it means to miss it. As a context it is an `asyncio.timeout` that says so."""

    __slots__ = ("_request", "_stage", "_timeout", "at")

    def __init__(
        self, at: float, stage: Literal["first_token", "idle", "total"], request: ChatRequest
    ) -> None:
        self.at, self._stage, self._request = at, stage, request

    def missed(self) -> EngineTimeoutError:
        """The error; its words are made here, because a deadline a token is set and hardly one is missed."""
        request = self._request
        match self._stage:
            case "first_token":
                message = f"no first token within {request.first_token_timeout_s:g} s"
            case "idle":
                message = (
                    f"the engine was silent for {request.idle_timeout_s:g} s in the middle of its answer"
                )
            case "total":
                message = f"the generation took longer than {request.timeout_s:g} s"
            case _:
                assert_never(self._stage)
        return EngineTimeoutError(message, stage=self._stage)

    async def __aenter__(self) -> None:
        self._timeout = asyncio.timeout(self.at - time.monotonic())
        await self._timeout.__aenter__()

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError as exc:
            raise self.missed() from exc


class _TimedReader:
    """Reads a stream, each wait bounded by a deadline, with one timer for all of them: a stream has a read a
    token, and nearly all of them are in time."""

    __slots__ = ("_content", "_deadline", "_loop", "_timer", "_timer_at")

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content
        self._loop = asyncio.get_running_loop()
        #: Of the read that waits now; None while our reader does something else.
        self._deadline: _Deadline | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    async def read(self, deadline: _Deadline) -> bytes:
        """All that has come, empty at the end; raises EngineTimeoutError when nothing comes in time."""
        self._deadline = deadline
        if deadline.at < self._timer_at:
            self._arm(deadline.at)
        try:
            return await self._content.readany()
        finally:
            self._deadline = None

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, at: float) -> None:
        self.close()
        self._timer_at = at
        self._timer = self._loop.call_later(max(0.0, at - time.monotonic()), self._on_time)

    def _on_time(self) -> None:
        self._timer_at = math.inf
        if self._deadline is None:
            return  # the next read arms it again
        if time.monotonic() < self._deadline.at:
            self._arm(self._deadline.at)
        else:
            self._content.set_exception(self._deadline.missed())


class _Answer:
    """What the events of one stream say."""

    __slots__ = ("_generation", "_texts", "done", "finish_reason", "usage")

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._texts: list[str] = []
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.done = False

    def take(self, event: bytes) -> None:
        """Take one event; raises EngineError if it is none of an answer."""
        if event == b"[DONE]":
            if self.finish_reason is None:
                raise EngineStreamError("the engine's stream ended without a finish reason")
            self._generation.finished(self.finish_reason, self.usage)
            self.done = True
            return
        chunk = _chunk(event)
        if chunk.get("usage"):
            self.usage = _usage(chunk["usage"])
        for choice in chunk.get("choices") or ():
            self._generation.answered(chunk.get("id"), chunk.get("model"))
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            text = (choice.get("delta") or {}).get("content")
            if text:
                if not isinstance(text, str):
                    raise TypeError(f"content is a {type(text).__name__}")
                self._generation.token()
                self._texts.append(text)

    def text(self) -> str:
        """The text since the last call."""
        text = "".join(self._texts)
        self._texts.clear()
        return text


async def _read(
    response: aiohttp.ClientResponse, clock: _Clock, generation: Generation
) -> AsyncGenerator[ChatDelta, None]:
    """One delta for all the tokens that came together, then the last one."""
    parser, answer = EventParser(), _Answer(generation)
    reader = _TimedReader(response.content)
    try:
        while True:
            deadline = clock.until_next_token() if generation.started else clock.until_first_token()
            try:
                piece = await reader.read(deadline)
            except aiohttp.ClientError as exc:
                raise EngineStreamError(f"the engine's stream broke: {exc or type(exc).__name__}") from exc
            if not piece:
                raise EngineStreamError("the engine's stream ended without [DONE]")
            failure: EngineError | None = None
            try:
                for event in parser.feed(piece):
                    answer.take(event)
                    if answer.done:
                        break
            except EngineError as exc:
                failure = exc
            except (AttributeError, TypeError, ValueError) as exc:  # not every server is vLLM
                failure = EngineStreamError(f"the engine sent an event of another form: {exc}")
            if text := answer.text():
                yield ChatDelta(text)
            if failure is not None:
                raise failure
            if answer.done:
                yield ChatDelta("", answer.finish_reason, answer.usage)
                return
    finally:
        reader.close()


def _chunk(event: bytes) -> dict[str, Any]:
    try:
        chunk = orjson.loads(event)
    except orjson.JSONDecodeError as exc:
        raise EngineStreamError(f"the engine sent an event that is not JSON: {event[:80]!r}") from exc
    if not isinstance(chunk, dict):
        raise EngineStreamError(f"the engine sent an event that is not an object: {event[:80]!r}")
    error = chunk.get("error")
    if error:
        detail = error if isinstance(error, dict) else {"message": str(error)}
        message = str(detail.get("message", ""))[:_MAX_MESSAGE_CHARS]
        code = detail.get("code")
        if isinstance(code, int) and 400 <= code < 500 and code != 429:
            raise EngineRejectedError(f"the engine gave up: {message}", status=code)
        raise EngineStreamError(f"the engine failed in the middle of its answer: {message}")
    return chunk


def _body(request: ChatRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": request.served_name,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "max_tokens": request.decoding.max_tokens,
        "temperature": request.decoding.temperature,
        "top_p": request.decoding.top_p,
        "seed": request.decoding.seed,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if _constrained(request):
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "task", "schema": request.schema, "strict": True},
        }
    if request.cache_salt:
        body["cache_salt"] = request.cache_salt
    return body


def _constrained(request: ChatRequest) -> bool:
    return request.schema is not None and request.decoding.constrained


def _usage(raw: Mapping[str, Any]) -> Usage:
    details = raw.get("prompt_tokens_details") or {}
    return Usage(
        input_tokens=int(raw.get("prompt_tokens") or 0),
        output_tokens=int(raw.get("completion_tokens") or 0),
        cached_tokens=int(details.get("cached_tokens") or 0),
    )


def _message(raw: bytes) -> str:
    """The text of an error body: vLLM's `error.message`, FastAPI's `detail`, or the body itself."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw.decode("utf-8", "replace")[:_MAX_MESSAGE_CHARS].strip()
    error = body.get("error", body) if isinstance(body, dict) else body
    text = (error.get("message") or error.get("detail") or error) if isinstance(error, dict) else error
    return str(text)[:_MAX_MESSAGE_CHARS]


def _seconds(retry_after: str | None) -> float | None:
    try:
        return max(0.0, float(retry_after)) if retry_after else None
    except ValueError:
        return None


@lru_cache(maxsize=64)
def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
