"""The three calls that do the work, as plain ASGI: answers, chat completions, search.

Each races its work against the client's disconnect from the first byte of the request to the last of the
response, so a client that leaves frees the engine wherever it is: in the queue, in retrieval, before the
first token, in mid-stream, or waiting for a whole body. Each authenticated question leaves exactly one turn,
however it ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from opentelemetry import trace
from pydantic import ValidationError

from gateway import instruments as names
from gateway.access import ApiKey, KeyRing, Scope
from gateway.answering import Answering
from gateway.errors import GatewayError
from gateway.events import Deadline
from gateway.exchange import Exchange, workflow_attributes
from gateway.identifiers import new_turn_id
from gateway.limits import Admission, RateLimit
from gateway.problems import METHOD_NOT_ALLOWED, Problem, from_error
from gateway.questions import chat_question, native_question
from gateway.recorder import TurnRecorder
from gateway.reviewing import is_sampled
from gateway.searching import Searching
from gateway.surfaces import ChatJson, ChatStream, NativeJson, NativeStream, SurfaceOutput
from gateway.turn import Ending, Question, Surface, TurnDraft
from gateway.wire import (
    ClientLeftError,
    EventStream,
    Receive,
    Send,
    race,
    read_json,
    send_body,
)
from gateway.wire import Scope as HttpScope
from retrieval.errors import RetrievalError
from serving.errors import ServingError

logger = logging.getLogger(__name__)

#: What callers cause and what dependencies cause; everything else is a defect and is logged with its trace.
_EXPECTED: Final = (GatewayError, RetrievalError, ServingError, ValidationError)


class Handler(Protocol):
    """Handles one call."""

    def __call__(self, exchange: Exchange) -> Awaitable[None]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HotPathLimits:
    """Limits of a call."""

    deadline_s: float = 30.0
    body_limit_bytes: int = 256 * 1024
    keepalive_s: float = 10.0
    #: Put questions and answers on spans.
    capture_content: bool = False
    #: Share of the answers that people look at, whatever became of them.
    review_sample_share: float = 0.0


class HotPath:
    """The handlers, by path."""

    def __init__(
        self,
        *,
        keys: KeyRing,
        answering: Answering,
        searching: Searching,
        recorder: TurnRecorder,
        admission: Admission,
        rate_limit: RateLimit,
        limits: HotPathLimits,
    ) -> None:
        self._keys = keys
        self._answering = answering
        self._searching = searching
        self._recorder = recorder
        self.admission = admission
        self._rate_limit = rate_limit
        self._limits = limits
        self.routes: dict[str, Handler] = {
            "/v1/answers": self._answers,
            "/v1/chat/completions": self._chat,
            "/v1/search": self._search,
        }

    async def __call__(self, scope: HttpScope, receive: Receive, send: Send) -> None:
        """One exchange, from first byte to last."""
        exchange = Exchange.begin(scope, receive, send, scope["path"])
        with trace.use_span(
            exchange.span, end_on_exit=False, record_exception=False, set_status_on_exception=False
        ):
            try:
                await self._handle(exchange)
            except asyncio.CancelledError:
                # The server gives up on its last requests: say so where a turn can be found.
                await self._fail(exchange, GatewayError("The gateway was stopped."))
                raise
            finally:
                if exchange.turn is not None:
                    self._recorder.record(self._sealed(exchange, exchange.turn).row())
                exchange.end()

    async def _handle(self, exchange: Exchange) -> None:
        if exchange.scope["method"] != "POST":
            await self._refuse_method(exchange)
            return
        try:
            exchange.key = await self._keys.authenticate(exchange.scope["headers"])
            exchange.key.require(Scope.ASK)
            await self.routes[exchange.route](exchange)
        except ClientLeftError:
            exchange.client_left = True
        except _EXPECTED as exc:
            await self._fail(exchange, exc)
        except Exception as exc:  # the boundary of a request: a defect becomes a 500, not a hang
            logger.exception(
                "unexpected error", extra={"action": "request_failed", "trace_id": exchange.trace_id}
            )
            await self._fail(exchange, exc)

    # ---- the calls ----

    async def _answers(self, exchange: Exchange) -> None:
        turn = self._begin_turn(exchange, Surface.ANSWERS)
        deadline = Deadline(self._limits.deadline_s)
        raw = await self._body(exchange)
        question = native_question(raw, key=turn.key, headers=exchange.scope["headers"], turn=turn)
        output: SurfaceOutput = (
            NativeStream(exchange, self._event_stream(exchange)) if question.stream else NativeJson(exchange)
        )
        await self._race(exchange, lambda: self._answer(exchange, question, turn, deadline, output))

    async def _chat(self, exchange: Exchange) -> None:
        turn = self._begin_turn(exchange, Surface.CHAT)
        deadline = Deadline(self._limits.deadline_s)
        raw = await self._body(exchange)
        asked = chat_question(raw, key=turn.key, headers=exchange.scope["headers"], turn=turn)
        output: SurfaceOutput = (
            ChatStream(exchange, self._event_stream(exchange), include_usage=asked.include_usage)
            if asked.question.stream
            else ChatJson(exchange)
        )
        await self._race(exchange, lambda: self._answer(exchange, asked.question, turn, deadline, output))

    async def _search(self, exchange: Exchange) -> None:
        deadline = Deadline(self._limits.deadline_s)
        raw = await self._body(exchange)

        async def work() -> None:
            async with self.admission.place():
                body = await self._searching.search(raw, _key(exchange), deadline, trace_id=exchange.trace_id)
            exchange.status = 200
            exchange.complete = True
            await send_body(
                exchange.send,
                status=200,
                body=body,
                headers=[*exchange.headers(), (b"content-type", b"application/json")],
            )

        await self._race(exchange, work)

    # ---- parts of a call ----

    def _begin_turn(self, exchange: Exchange, surface: Surface) -> TurnDraft:
        exchange.turn = TurnDraft(
            id=new_turn_id(), key=_key(exchange), surface=surface, trace_id=exchange.trace_id
        )
        return exchange.turn

    async def _body(self, exchange: Exchange) -> Any:
        self._rate_limit.take(_key(exchange).id)
        return await read_json(exchange.scope, exchange.receive, limit=self._limits.body_limit_bytes)

    def _event_stream(self, exchange: Exchange) -> EventStream:
        exchange.stream = EventStream(exchange.send, exchange.headers, keepalive_s=self._limits.keepalive_s)
        return exchange.stream

    async def _answer(
        self,
        exchange: Exchange,
        question: Question,
        turn: TurnDraft,
        deadline: Deadline,
        output: SurfaceOutput,
    ) -> None:
        """Queue, then answer, handing each event to the surface."""
        async with self.admission.place():
            with names.tracer.start_as_current_span(
                names.WORKFLOW_SPAN,
                attributes={names.OPERATION: names.INVOKE_WORKFLOW, names.WORKFLOW: names.WORKFLOW_NAME},
            ) as span:
                turn.span_id = trace.format_span_id(span.get_span_context().span_id)
                async with aclosing(self._answering.run(question, turn, deadline)) as events:
                    async for event in events:
                        await output.emit(event)
                span.set_attributes(workflow_attributes(question, turn, content=self._limits.capture_content))

    async def _race(self, exchange: Exchange, work: Callable[[], Any]) -> None:
        keep_alive = (
            asyncio.create_task(exchange.stream.keep_alive()) if exchange.stream is not None else None
        )
        try:
            ended = await race(exchange.receive, work())
        finally:
            if keep_alive is not None:
                keep_alive.cancel()
                with suppress(asyncio.CancelledError):
                    await keep_alive
        # uvicorn reports a disconnect after every complete response: that is no client that left.
        if not (ended or exchange.complete):
            raise ClientLeftError

    def _sealed(self, exchange: Exchange, turn: TurnDraft) -> TurnDraft:
        """The turn with how it ended, and whether it is one of the sample that people look at."""
        if exchange.client_left:
            turn.ending = Ending.CLIENT_CANCELLED
        elif exchange.problem is not None:
            turn.ending = Ending.FAILED if exchange.problem.status >= 500 else Ending.REJECTED
            turn.problem = exchange.problem.body()
        turn.sampled = turn.ending is None and is_sampled(turn.id, self._limits.review_sample_share)
        return turn

    # ---- refusals ----

    async def _fail(self, exchange: Exchange, error: BaseException) -> None:
        """Tell the caller, as a status if one can still be sent, else as the stream's last event."""
        exchange.problem = problem = from_error(error, trace_id=exchange.trace_id)
        openai = exchange.route == "/v1/chat/completions"
        with suppress(OSError):
            if exchange.stream is not None and exchange.stream.started:
                body = problem.encoded(openai=openai)
                await exchange.stream.event(body, name=None if openai else "error")
                await exchange.stream.end()
            elif exchange.status is None:
                exchange.status = problem.status
                await send_body(
                    exchange.send,
                    status=problem.status,
                    body=problem.encoded(openai=openai),
                    headers=[*exchange.headers(), *problem.http_headers()],
                    close=problem.status == 413,
                )

    async def _refuse_method(self, exchange: Exchange) -> None:
        exchange.problem = problem = Problem(
            kind=METHOD_NOT_ALLOWED,
            detail=f"{exchange.scope['method']} is not allowed on {exchange.route}.",
            field="method",
            fix="Use POST.",
            trace_id=exchange.trace_id,
            headers={"allow": "POST"},
        )
        exchange.status = problem.status
        await send_body(
            exchange.send,
            status=problem.status,
            body=problem.encoded(),
            headers=[*exchange.headers(), *problem.http_headers()],
        )


def _key(exchange: Exchange) -> ApiKey:
    if exchange.key is None:
        raise GatewayError("The request was not authenticated.")
    return exchange.key
