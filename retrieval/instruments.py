"""Span, metric and attribute names of the knowledge rail, and the instruments. OpenTelemetry API only.

GenAI names follow the semantic conventions of 2026, where they are marked "Development": they stand here
once. Text of questions and documents is never recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

SCOPE = "twinrail.retrieval"
DATA_SOURCE = "knowledge"

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
DATA_SOURCE_ID = "gen_ai.data_source.id"
REQUEST_MODEL = "gen_ai.request.model"
TOP_K = "gen_ai.retrieval.top_k"
EMBEDDING_DIMENSIONS = "gen_ai.embeddings.dimension.count"
KNOWLEDGE_VERSION = "twinrail.knowledge.version"
KNOWLEDGE_ARM = "twinrail.rollout.knowledge.arm"
KNOWLEDGE_SNAPSHOT = "twinrail.knowledge.snapshot"
MODE = "twinrail.retrieval.mode"
CANDIDATES = "twinrail.retrieval.candidates"
RETURNED = "twinrail.retrieval.returned"
TOP_SCORE = "twinrail.retrieval.top_score"
CONFIDENCE = "twinrail.retrieval.confidence"
EMPTY = "twinrail.retrieval.empty"
UNDERFILLED = "twinrail.retrieval.underfilled"
STAGE = "twinrail.retrieval.stage"
SOURCE = "twinrail.knowledge.source"
JOB_KIND = "twinrail.job.kind"
JOB_STATE = "twinrail.job.state"
JOB_OUTCOME = "twinrail.job.outcome"
ERROR_TYPE = "error.type"
#: `error.type` of work whose reader left: no failure of ours, so it sets no error status.
CANCELLED = "cancelled"
DB: Mapping[str, str] = {
    "db.system.name": "postgresql",
    "db.operation.name": "SELECT",
    "db.collection.name": "retrieval.chunk",
    "db.query.summary": "SELECT retrieval.search",
}

SEARCH_SPAN = f"retrieval {DATA_SOURCE}"
QUERY_SPAN = "SELECT retrieval.search"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
#: From seconds to a week: a source may be polled once a day.
_LAGS = (1, 5, 15, 60, 300, 900, 3600, 21600, 86400, 604800)
#: One document takes under a second, a build of a million chunks hours.
_RUNS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400, 43200)
_UNIT = tuple(step / 20 for step in range(21))


class Shown:
    """What a gauge shows: all of its series at once, so that one that is gone is shown no longer."""

    def __init__(self) -> None:
        self._series: Sequence[Observation] = ()

    def show(self, series: Sequence[tuple[float, Mapping[str, str]]]) -> None:
        """From now on these, and no others."""
        self._series = tuple(Observation(value, labels) for value, labels in series)

    def __call__(self, _options: CallbackOptions) -> Sequence[Observation]:
        """For the SDK, whenever it collects."""
        return self._series


tracer = trace.get_tracer(SCOPE)
_meter = metrics.get_meter(SCOPE)
operation_duration = _meter.create_histogram(
    "gen_ai.client.operation.duration",
    unit="s",
    description="Duration of one retrieval or embedding",
    explicit_bucket_boundaries_advisory=_SECONDS,
)
stage_duration = _meter.create_histogram(
    "twinrail.retrieval.stage.duration",
    unit="s",
    description="Duration of a stage of retrieval: embed, search, rerank",
    explicit_bucket_boundaries_advisory=_SECONDS,
)
documents = _meter.create_histogram(
    "twinrail.retrieval.documents",
    unit="{document}",
    description="Hits returned by one search",
    explicit_bucket_boundaries_advisory=(0, 1, 2, 3, 5, 8, 13, 20, 50, 100),
)
top_score = _meter.create_histogram(
    "twinrail.retrieval.top_score",
    unit="1",
    description="Cosine of the best hit; comparable within an index version only",
    explicit_bucket_boundaries_advisory=_UNIT,
)
empty = _meter.create_counter(
    "twinrail.retrieval.empty", unit="{request}", description="Searches that returned nothing"
)
recall_probe = _meter.create_histogram(
    "twinrail.retrieval.recall_probe",
    unit="1",
    description="Share of the exact nearest chunks that the vector index proposed, on sampled searches",
    explicit_bucket_boundaries_advisory=(0.5, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99, 1),
)
freshness_lag = _meter.create_histogram(
    "twinrail.knowledge.freshness.lag",
    unit="s",
    description="From a document's change in its source until a search finds it",
    explicit_bucket_boundaries_advisory=_LAGS,
)
last_sync, sync_due = Shown(), Shown()
_meter.create_observable_gauge(
    "twinrail.knowledge.sync.last",
    callbacks=[last_sync],
    unit="s",
    description="Unix time of the last look at the whole source that ended well; the oldest over all tenants",
)
_meter.create_observable_gauge(
    "twinrail.knowledge.sync.due",
    callbacks=[sync_due],
    unit="s",
    description="Unix time by which the source should be looked through again; the earliest over all tenants",
)
jobs, jobs_waiting, job_workers = Shown(), Shown(), Shown()
_meter.create_observable_gauge(
    "twinrail.jobs",
    callbacks=[jobs],
    unit="{job}",
    description="Jobs that wait, run, are paused or have failed, over all tenants",
)
_meter.create_observable_gauge(
    "twinrail.jobs.waiting.since",
    callbacks=[jobs_waiting],
    unit="s",
    description="Unix time since when the oldest job of the state waits, over all tenants",
)
_meter.create_observable_gauge(
    "twinrail.jobs.workers",
    callbacks=[job_workers],
    unit="{worker}",
    description="Workers that gave a sign of life",
)
job_duration = _meter.create_histogram(
    "twinrail.jobs.duration",
    unit="s",
    description="Duration of one run of a job by a worker; a job that is tried again runs again",
    explicit_bucket_boundaries_advisory=_RUNS,
)
job_documents_failed = _meter.create_counter(
    "twinrail.jobs.documents.failed",
    unit="{document}",
    description="Documents that a job left out, because they could not be read or are another source's",
)
query_duration = _meter.create_histogram(
    "db.client.operation.duration",
    unit="s",
    description="Duration of one database statement as the client sees it",
    explicit_bucket_boundaries_advisory=_SECONDS,
)


@dataclass(slots=True)
class Stage:
    """A stage being measured: its span, and its duration once it is over."""

    span: Span
    attributes: dict[str, str | int | float | bool] = field(default_factory=dict)
    seconds: float = 0.0

    def note(self, attributes: Mapping[str, str | int | float | bool]) -> None:
        """Put facts on the span; metrics keep their few labels."""
        self.span.set_attributes(attributes)


@contextmanager
def measured(
    name: str,
    histogram: metrics.Histogram,
    *,
    labels: Mapping[str, str],
    attributes: Mapping[str, str | int] | None = None,
    stage: str | None = None,
) -> Iterator[Stage]:
    """A client span with the duration in a histogram; an error's type goes on both, its text on neither."""
    started = perf_counter()
    failed: dict[str, str] = {}
    with tracer.start_as_current_span(
        name,
        kind=SpanKind.CLIENT,
        attributes={**labels, **(attributes or {})},
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        current = Stage(span)
        try:
            yield current
        except asyncio.CancelledError:
            # The reader left, or the search's own deadline passed and is reported one level up.
            failed = {ERROR_TYPE: CANCELLED}
            span.set_attributes(failed)
            raise
        except BaseException as exc:
            failed = {ERROR_TYPE: type(exc).__name__}
            span.set_attributes(failed)
            span.set_status(Status(StatusCode.ERROR))
            raise
        finally:
            current.seconds = perf_counter() - started
            histogram.record(current.seconds, {**labels, **failed})
            if stage:
                version = {key: labels[key] for key in (KNOWLEDGE_VERSION, KNOWLEDGE_ARM) if key in labels}
                stage_duration.record(current.seconds, {STAGE: stage, **version, **failed})
