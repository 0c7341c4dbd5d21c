"""One HTTP exchange of the hot path: its span, its key, its turn, and how it ended.

The span and the metrics end with the last byte or the disconnect, never when the headers go out.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Final

from opentelemetry import context, metrics, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from gateway import instruments as names
from gateway.access import ApiKey
from gateway.identifiers import new_trace_id
from gateway.problems import Problem
from gateway.schemas.answers import Step
from gateway.turn import Question, TurnDraft
from gateway.wire import EventStream, Receive, Scope, Send, header

#: Inbound, only the trace is taken over: baggage of strangers would travel on to our own services.
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_REJECTED_REASONS: Final = {"rate-limited": "rate_limit", "overloaded": "overload", "forbidden": "policy"}


@dataclass(slots=True, kw_only=True)
class Exchange:
    """A request on its way to a response."""

    scope: Scope
    receive: Receive
    send: Send
    route: str
    span: Span
    trace_id: str
    began_at: float = field(default_factory=time.perf_counter)
    key: ApiKey | None = None
    turn: TurnDraft | None = None
    stream: EventStream | None = None
    #: Status that was sent; None if the client left before.
    status: int | None = None
    #: The last byte of a good response is on its way.
    complete: bool = False
    client_left: bool = False
    problem: Problem | None = None

    @classmethod
    def begin(cls, scope: Scope, receive: Receive, send: Send, route: str) -> Exchange:
        """Open the span, as a child of the caller's trace."""
        carrier = {
            name: value.decode("latin-1")
            for name in ("traceparent", "tracestate")
            if (value := header(scope, name.encode())) is not None
        }
        span = names.tracer.start_span(
            f"{scope['method']} {route}",
            context=_PROPAGATOR.extract(carrier, context=context.Context()),
            kind=SpanKind.SERVER,
            attributes={
                names.HTTP_METHOD: scope["method"],
                names.HTTP_ROUTE: route,
                names.URL_PATH: scope["path"],
                names.URL_SCHEME: scope.get("scheme", "http"),
            },
        )
        span_context = span.get_span_context()
        trace_id = trace.format_trace_id(span_context.trace_id) if span_context.is_valid else new_trace_id()
        names.active_requests.add(1, {names.HTTP_METHOD: scope["method"]})
        return cls(scope=scope, receive=receive, send=send, route=route, span=span, trace_id=trace_id)

    @property
    def started(self) -> bool:
        """Whether a status is out, so that an error can no longer be one."""
        return self.status is not None or (self.stream is not None and self.stream.started)

    @property
    def is_pinned(self) -> bool:
        """Whether the turn must not be counted."""
        return self.turn is not None and self.turn.pin is not None

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of every response."""
        headers = [(b"x-twinrail-trace-id", self.trace_id.encode())]
        if self.turn is not None:
            headers.append((b"x-twinrail-turn-id", str(self.turn.id).encode()))
            if self.turn.conversation_id:
                headers.append((b"x-twinrail-conversation", self.turn.conversation_id.encode("latin-1")))
        return headers

    def end(self) -> None:
        """Close the span and count."""
        names.active_requests.add(-1, {names.HTTP_METHOD: self.scope["method"]})
        turn = self.turn
        labels: dict[str, AttributeValue] = {
            names.HTTP_METHOD: self.scope["method"],
            names.HTTP_ROUTE: self.route,
        }
        status = self.status if self.status is not None else 200 if self.started else None
        if status is not None:
            labels[names.HTTP_STATUS] = status
            self.span.set_attribute(names.HTTP_STATUS, status)
        error = self._error_type(status)
        if error is not None:
            labels[names.ERROR_TYPE] = error
            self.span.set_attribute(names.ERROR_TYPE, error)
            if error != names.CLIENT_CANCELLED:
                self.span.set_status(Status(StatusCode.ERROR, self.problem.detail if self.problem else error))
        if turn is not None:
            self.span.set_attributes(_turn_attributes(turn))
            labels |= {names.KNOWLEDGE_ARM: turn.knowledge.arm.value, names.MODEL_ARM: turn.model.arm.value}
        if self.problem is not None and self.problem.kind.slug in _REJECTED_REASONS:
            names.rejected.add(1, {names.REASON: _REJECTED_REASONS[self.problem.kind.slug]})
        if not self.is_pinned:
            where = trace.set_span_in_context(self.span)
            _record(names.request_duration, time.perf_counter() - self.began_at, labels, where)
            if turn is not None:
                _count(turn, where)
        self.span.end()

    def _error_type(self, status: int | None) -> str | None:
        if self.client_left:
            return names.CLIENT_CANCELLED
        if self.problem is not None and (self.problem.status >= 500 or status == 200):
            return self.problem.kind.slug
        return None


def workflow_attributes(question: Question, turn: TurnDraft, *, content: bool) -> dict[str, AttributeValue]:
    """Attributes of the span of a question's path: the stamp, and the text only if an operator asked for
    it."""
    attributes = _turn_attributes(turn) | {names.CONVERSATION_ID: question.conversation_id}
    if turn.prompt_name:
        attributes[names.PROMPT_NAME] = turn.prompt_name
    if turn.knowledge_stamp:
        attributes[names.KNOWLEDGE_VERSION] = turn.knowledge_stamp
    if content:
        attributes[names.QUESTION] = question.text
        attributes[names.ANSWER] = turn.answer.answer if turn.answer else ""
    return attributes


def _turn_attributes(turn: TurnDraft) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        names.TURN_ID: str(turn.id),
        names.PINNED: turn.pin is not None,
        names.KNOWLEDGE_ARM: turn.knowledge.arm.value,
        names.MODEL_ARM: turn.model.arm.value,
    }
    if turn.knowledge.version:
        attributes[names.KNOWLEDGE_VERSION] = turn.knowledge.version
    if turn.model.version:
        attributes[names.MODEL_VERSION] = turn.model.version
    return attributes


def _count(turn: TurnDraft, where: context.Context) -> None:
    """The metrics of a turn that counts."""
    rails: dict[str, AttributeValue] = {
        names.KNOWLEDGE_ARM: turn.knowledge.arm.value,
        names.MODEL_ARM: turn.model.arm.value,
        names.KNOWLEDGE_VERSION: turn.knowledge.version or "none",
        names.MODEL_VERSION: turn.model.version or "none",
    }
    names.answers.add(1, {**rails, names.STATUS: turn.status})
    for part in turn.degraded:
        names.degraded.add(1, {names.REASON: part})
    if turn.answer is None:
        return
    model: dict[str, AttributeValue] = {name: rails[name] for name in (names.MODEL_ARM, names.MODEL_VERSION)}
    if (fallback := turn.fallback) is not None:
        by = {names.STEP: fallback.step.value, names.REASON: fallback.because.value}
        names.fallbacks.add(1, {**model, names.MODEL_VERSION: fallback.tried[0].version, **by})
    if turn.status in ("abstained", "escalated", "clarify"):
        names.refusals.add(1, {**model, names.REASON: turn.status})
    if turn.handover is not None:
        names.handovers.add(1, {**model, names.REASON: turn.handover.reason})
    cited = {citation.n for citation in turn.answer.citations}
    names.citations.record(len(turn.answer.citations), model)
    if cited and turn.passages and turn.step is not Step.FIXED:
        names.context_used.record(min(1.0, len(cited) / len(turn.passages)), model)
    if "total" in turn.timings_ms:
        _record(names.workflow_duration, turn.timings_ms["total"] / 1000, rails, where)
        _record(names.overhead, turn.timings_ms["overhead"] / 1000, {}, where)


def _record(
    instrument: metrics.Histogram, value: float, labels: dict[str, Any], where: context.Context
) -> None:
    instrument.record(value, labels, where)
