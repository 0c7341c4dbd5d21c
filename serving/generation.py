"""The telemetry of one generation: its `chat` span and the metrics of the model rail.

The span is ended by the reader of the stream, at the last token or when it leaves, not when the call returns.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from serving import instruments as names
from serving.versions import Decoding


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one generation."""

    input_tokens: int = 0
    output_tokens: int = 0
    #: Part of the input that the prefix cache held.
    cached_tokens: int = 0


@dataclass(slots=True)
class Generation:
    """One generation while it runs."""

    span: Span
    labels: Mapping[str, AttributeValue]
    began_at: float = field(default_factory=time.perf_counter)
    #: Whether a token has come.
    started: bool = False
    _first_at: float = 0.0
    _finish_reason: str | None = None
    _named: bool = False

    @classmethod
    def begin(
        cls,
        *,
        provider: str = names.VLLM,
        served_name: str,
        version: str,
        arm: str,
        prompt_name: str,
        decoding: Decoding,
        output_type: str,
    ) -> Self:
        """Open the span, as a child of the current one."""
        labels: dict[str, AttributeValue] = {
            names.OPERATION: names.CHAT,
            names.PROVIDER: provider,
            names.REQUEST_MODEL: served_name,
            names.MODEL_VERSION: version,
            names.MODEL_ARM: arm,
        }
        attributes = {
            **labels,
            names.REQUEST_STREAM: True,
            names.REQUEST_MAX_TOKENS: decoding.max_tokens,
            names.REQUEST_TEMPERATURE: decoding.temperature,
            names.REQUEST_TOP_P: decoding.top_p,
            names.REQUEST_SEED: decoding.seed,
            names.OUTPUT_TYPE: output_type,
        }
        if prompt_name:
            attributes[names.PROMPT_NAME] = prompt_name
        span = names.tracer.start_span(
            f"{names.CHAT} {served_name}", kind=SpanKind.CLIENT, attributes=attributes
        )
        return cls(span=span, labels=labels)

    def on_engine(self, host: str, port: int) -> None:
        """The engine that takes it."""
        self.span.set_attribute(names.SERVER_ADDRESS, host)
        self.span.set_attribute(names.SERVER_PORT, port)

    def answered(self, response_id: str | None, model: str | None) -> None:
        """The engine has named its answer."""
        if not self._named:
            self._named = True
            self.span.set_attribute(names.RESPONSE_ID, response_id or "")
            self.span.set_attribute(names.RESPONSE_MODEL, model or "")

    def token(self) -> None:
        """A token has come."""
        if not self.started:
            self.started = True
            self._first_at = time.perf_counter()
            waited_s = self._first_at - self.began_at
            self.span.set_attribute(names.RESPONSE_TIME_TO_FIRST_CHUNK, waited_s)
            names.time_to_first_chunk.record(waited_s, self.labels, self._context())

    def finished(self, finish_reason: str, usage: Usage | None) -> None:
        """The engine has said why it stopped and what it used."""
        self._finish_reason = finish_reason
        self.span.set_attribute(names.RESPONSE_FINISH_REASONS, [finish_reason])
        if usage is None:
            return
        self.span.set_attribute(names.USAGE_INPUT_TOKENS, usage.input_tokens)
        self.span.set_attribute(names.USAGE_OUTPUT_TOKENS, usage.output_tokens)
        self.span.set_attribute(names.USAGE_CACHE_READ_TOKENS, usage.cached_tokens)
        labels = {**self.labels, names.TOKEN_MODALITY: "text"}
        names.input_tokens.add(usage.input_tokens, labels)
        names.output_tokens.add(usage.output_tokens, labels)
        if usage.cached_tokens:
            names.cache_read_tokens.add(usage.cached_tokens, labels)
        where = self._context()
        names.prompt_size.record(usage.input_tokens, self.labels, where)
        names.answer_size.record(usage.output_tokens, self.labels, where)
        if self.started and usage.output_tokens > 1:
            between_s = (time.perf_counter() - self._first_at) / (usage.output_tokens - 1)
            names.time_per_output_token.record(between_s, self.labels, where)

    def end(self, *, error: str | None = None, message: str = "") -> None:
        """Close the span; a reader that leaves after the last token cancels nothing."""
        if error == names.CANCELLED and self._finish_reason:
            error = None
        labels = dict(self.labels)
        if error:
            labels[names.ERROR_TYPE] = error
            self.span.set_attribute(names.ERROR_TYPE, error)
            if error != names.CANCELLED:
                self.span.set_status(Status(StatusCode.ERROR, message))
        names.inference_duration.record(time.perf_counter() - self.began_at, labels, self._context())
        ended = names.CANCELLED if error == names.CANCELLED else "error" if error else self._finish_reason
        names.finishes.add(1, {**self.labels, names.FINISH_REASON: ended or "stop"})
        self.span.end()

    def _context(self) -> Context:
        return trace.set_span_in_context(self.span)
