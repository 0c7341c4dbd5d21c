"""The telemetry SDK of a process (gateway, worker). Called in its entry point only; packages use the API.

Prometheus exposition always; OTLP (http/protobuf) for traces, metrics and events when the standard
environment variables name an endpoint. Without an exporter for traces nothing is recorded, but trace ids are
still made and passed on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final
from uuid import uuid4

from opentelemetry import metrics, propagate, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest

SERVICE: Final = "twinrail-gateway"
WORKER: Final = "twinrail-worker"
_SHUTDOWN_MS: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """The providers of this process."""

    traces: TracerProvider
    meters: MeterProvider
    #: For events; nothing else is logged through it. None: nobody asked for them.
    events: LoggerProvider | None
    registry: CollectorRegistry

    def exposition(self) -> bytes:
        """The Prometheus exposition."""
        return generate_latest(self.registry)

    def shutdown(self) -> None:
        """Send what is left, for at most two seconds: a collector that hangs must not hold the process."""
        self.traces.force_flush(_SHUTDOWN_MS)
        self.traces.shutdown()
        self.meters.shutdown(timeout_millis=_SHUTDOWN_MS)
        if self.events is not None:
            self.events.force_flush(_SHUTDOWN_MS)
            self.events.shutdown()


def setup_telemetry(environ: Mapping[str, str] = os.environ, *, service: str = SERVICE) -> Telemetry:
    """Set up the process-wide providers. Sampling follows the caller's trace (`OTEL_TRACES_SAMPLER` changes
    it)."""
    resource = Resource.create(
        {"service.name": service, "service.version": _version(), "service.instance.id": str(uuid4())}
    )
    registry = CollectorRegistry(auto_describe=False)
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    readers: list[MetricReader] = [PrometheusMetricReader(registry=registry, scope_info_enabled=False)]
    if _exports(environ, "METRICS"):
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

        readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
    meters = MeterProvider(resource=resource, metric_readers=readers)
    if _exports(environ, "TRACES"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        traces = TracerProvider(resource=resource)
        traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    else:
        traces = TracerProvider(resource=resource, sampler=ALWAYS_OFF)
    events = None
    if _exports(environ, "LOGS"):
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

        events = LoggerProvider(resource=resource)
        events.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
        set_logger_provider(events)
    metrics.set_meter_provider(meters)
    trace.set_tracer_provider(traces)
    # Towards vLLM the trace goes on, baggage does not: it may hold what a stranger sent.
    propagate.set_global_textmap(TraceContextTextMapPropagator())
    return Telemetry(traces=traces, meters=meters, events=events, registry=registry)


def _exports(environ: Mapping[str, str], signal: str) -> bool:
    """Whether the standard variables ask for OTLP of this signal."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if environ.get(f"OTEL_{signal}_EXPORTER", "otlp") != "otlp":
        return False
    return bool(
        environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    )


def _version() -> str:
    try:
        return version("twinrail")
    except PackageNotFoundError:
        return "0"
