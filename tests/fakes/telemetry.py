"""Spans and metrics kept in memory: one exporter and one reader for the whole session, as the SDK's globals
are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Recorded:
    """What was emitted since the last `clear`; metrics are cumulative over the session."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._spans))
        trace.set_tracer_provider(provider)
        metrics.set_meter_provider(MeterProvider(metric_readers=[self._reader]))

    def clear(self) -> None:
        """Forget the spans."""
        self._spans.clear()

    def spans(self) -> tuple[ReadableSpan, ...]:
        """Spans that have ended, in the order in which they did."""
        return self._spans.get_finished_spans()

    def points(self, name: str) -> list[tuple[Mapping[str, Any], Any]]:
        """Attributes and data point of each series of a metric."""
        data = self._reader.get_metrics_data()
        return [
            (dict(point.attributes or {}), point)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@cache
def recorded() -> Recorded:
    """The session's recorder; the SDK allows its providers to be set once only."""
    return Recorded()
