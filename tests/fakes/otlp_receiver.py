"""A real OTLP/HTTP receiver (protobuf, gzip or plain) that keeps what it was sent, for tests of exporters.

It decodes with the official `opentelemetry-proto` messages, so an exporter that a collector would refuse is
refused here too (400). It stores nothing on disk and forwards nothing.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

PROTOBUF = "application/x-protobuf"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedEvent:
    """One event of a span."""

    name: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedSpan:
    """One exported span; ids are hex as on the wire of W3C trace context."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    start_s: float
    end_s: float
    failed: bool
    attributes: Mapping[str, Any]
    events: tuple[ReceivedEvent, ...]
    resource: Mapping[str, Any]
    scope: str

    @property
    def texts(self) -> tuple[str, ...]:
        """Everything in the span that could carry a customer's words."""
        found = [self.name]
        for attributes in (self.attributes, *(event.attributes for event in self.events)):
            found += [str(value) for value in attributes.values()]
        return (*found, *(event.name for event in self.events))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedMetric:
    """One exported metric of one scope with the attribute names of its points."""

    name: str
    unit: str
    attributes: tuple[Mapping[str, Any], ...]
    #: Bucket boundaries of a histogram; empty for other instruments.
    bounds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedLog:
    """One exported log record; an event has a name."""

    event: str
    body: Any
    trace_id: str
    span_id: str
    attributes: Mapping[str, Any]
    scope: str


@dataclass(slots=True)
class OtlpReceiver:
    """What arrived so far. `endpoint` is the value for OTEL_EXPORTER_OTLP_ENDPOINT."""

    endpoint: str
    spans: list[ReceivedSpan] = field(default_factory=list)
    metrics: list[ReceivedMetric] = field(default_factory=list)
    logs: list[ReceivedLog] = field(default_factory=list)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def trace(self, trace_id: str) -> list[ReceivedSpan]:
        """Spans of one trace in order of their start."""
        return sorted((s for s in self.spans if s.trace_id == trace_id), key=lambda span: span.start_s)

    async def until(self, condition: Callable[[OtlpReceiver], bool], *, timeout_s: float = 30.0) -> None:
        """Wait until `condition` holds for what has arrived; TimeoutError otherwise."""
        async with asyncio.timeout(timeout_s):
            while not condition(self):
                self._arrived.clear()
                await self._arrived.wait()

    async def take_traces(self, request: web.Request) -> web.Response:
        """POST /v1/traces."""
        message = ExportTraceServiceRequest()
        await _decode(request, message)
        for resource_spans in message.resource_spans:
            resource = _mapping(resource_spans.resource.attributes)
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    self.spans.append(_span(span, resource, scope_spans.scope.name))
        self._arrived.set()
        return web.Response(body=ExportTraceServiceResponse().SerializeToString(), content_type=PROTOBUF)

    async def take_metrics(self, request: web.Request) -> web.Response:
        """POST /v1/metrics."""
        message = ExportMetricsServiceRequest()
        await _decode(request, message)
        for resource_metrics in message.resource_metrics:
            for scope_metrics in resource_metrics.scope_metrics:
                for metric in scope_metrics.metrics:
                    points = getattr(metric, metric.WhichOneof("data") or "gauge").data_points
                    is_histogram = metric.HasField("histogram") and len(points) > 0
                    self.metrics.append(
                        ReceivedMetric(
                            name=metric.name,
                            unit=metric.unit,
                            attributes=tuple(_mapping(point.attributes) for point in points),
                            bounds=tuple(points[0].explicit_bounds) if is_histogram else (),
                        )
                    )
        self._arrived.set()
        return web.Response(body=ExportMetricsServiceResponse().SerializeToString(), content_type=PROTOBUF)

    async def take_logs(self, request: web.Request) -> web.Response:
        """POST /v1/logs."""
        message = ExportLogsServiceRequest()
        await _decode(request, message)
        for resource_logs in message.resource_logs:
            for scope_logs in resource_logs.scope_logs:
                for record in scope_logs.log_records:
                    self.logs.append(
                        ReceivedLog(
                            event=record.event_name,
                            body=_value(record.body),
                            trace_id=record.trace_id.hex(),
                            span_id=record.span_id.hex(),
                            attributes=_mapping(record.attributes),
                            scope=scope_logs.scope.name,
                        )
                    )
        self._arrived.set()
        return web.Response(body=ExportLogsServiceResponse().SerializeToString(), content_type=PROTOBUF)


@asynccontextmanager
async def otlp_receiver() -> AsyncIterator[OtlpReceiver]:
    """A receiver on a free loopback port for as long as the context lasts."""
    app = web.Application(client_max_size=16 * 1024 * 1024)
    runner = web.AppRunner(app, access_log=None)
    receiver = OtlpReceiver(endpoint="")
    app.router.add_post("/v1/traces", receiver.take_traces)
    app.router.add_post("/v1/metrics", receiver.take_metrics)
    app.router.add_post("/v1/logs", receiver.take_logs)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    receiver.endpoint = f"http://{host}:{port}"
    try:
        yield receiver
    finally:
        await runner.cleanup()


async def _decode(request: web.Request, message: Any) -> None:
    if request.content_type != PROTOBUF:
        raise web.HTTPUnsupportedMediaType(text=f"content-type: expected {PROTOBUF}")
    body = await request.read()
    # aiohttp inflates a compressed request body by itself; some versions leave it to the handler.
    if body.startswith(b"\x1f\x8b"):
        body = gzip.decompress(body)
    try:
        message.ParseFromString(body)
    except DecodeError as exc:
        raise web.HTTPBadRequest(text=f"body: not an OTLP message: {exc}") from exc


def _span(span: Span, resource: Mapping[str, Any], scope: str) -> ReceivedSpan:
    return ReceivedSpan(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        start_s=span.start_time_unix_nano / 1e9,
        end_s=span.end_time_unix_nano / 1e9,
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        attributes=_mapping(span.attributes),
        events=tuple(ReceivedEvent(name=e.name, attributes=_mapping(e.attributes)) for e in span.events),
        resource=resource,
        scope=scope,
    )


def _mapping(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        pairs: list[KeyValue] = list(value.kvlist_value.values)
        return _mapping(pairs)
    return None if kind is None else getattr(value, kind)
