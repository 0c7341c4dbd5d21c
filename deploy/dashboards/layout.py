"""What rows and panels are made of, and the names and filters that their queries share."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.dashboards.promql import quantile

#: Values chosen at the top of the board; matches everything by default.
#: What the rails did for evaluations (arm `pinned`), or unseen (arm `shadow`), is left out.
KNOWLEDGE = 'twinrail_knowledge_version=~"$knowledge", twinrail_rollout_knowledge_arm!~"pinned|shadow"'
SHADOW_VERSION = 'twinrail_knowledge_version=~"$knowledge"'
BOTH_ARMS = 'gen_ai_operation_name="retrieval", twinrail_rollout_knowledge_arm=~"stable|shadow"'
#: The probe tells versions apart and no arms.
PROBED_VERSION = 'twinrail_knowledge_version=~"$knowledge"'
ANSWERED_BY = 'twinrail_model_version=~"$model"'
MODEL = f'{ANSWERED_BY}, twinrail_rollout_model_arm!="pinned"'
#: `gen_ai.client.operation.duration` has embeddings too; they are a stage of retrieval.
SEARCHES = f'gen_ai_operation_name="retrieval", {KNOWLEDGE}'
#: Not failures of retrieval: no error, a client that left, a request that cannot be searched.
FAILED = 'error_type!~"|cancelled|FilterError|RequestError"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One query of a panel with the name of its lines."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture. `about` says what a reader should do with it."""

    title: str
    about: str
    unit: str
    series: tuple[Series, ...]
    width: int = 8
    kind: str = "timeseries"
    decimals: int | None = None
    #: Value from which a single number turns red.
    bad_from: float | None = None
    #: Value from which it is green; below, it is red.
    good_from: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A titled row of panels."""

    title: str
    panels: tuple[Panel, ...]


def quantiles(histogram: str, *, by: str = "", where: str = "") -> tuple[Series, ...]:
    """The median and the 95th percentile."""
    suffix = f" {{{{{by}}}}}" if by else ""
    return (
        Series(expr=quantile(0.5, histogram, by=by, where=where), legend=f"p50{suffix}"),
        Series(expr=quantile(0.95, histogram, by=by, where=where), legend=f"p95{suffix}"),
    )


HTTP = "http_server_request_duration_seconds"
ASKING = 'http_route=~"/v1/answers|/v1/chat/completions"'
#: A 5xx, or an `error` event in a stream whose 200 was out already.
ASKING_FAILED = f'{ASKING}, error_type!~"|client_cancelled"'
WORKFLOW = "gen_ai_invoke_workflow_duration_seconds"
ANSWERS = "twinrail_answers_total"
RETRIEVAL = "gen_ai_client_operation_duration_seconds"
STAGE = "twinrail_retrieval_stage_duration_seconds"
INFERENCE = "gen_ai_client_inference_duration_seconds"
FIRST_CHUNK = "gen_ai_client_inference_time_to_first_chunk_seconds"
FINISHES = "twinrail_generation_finishes_total"
JOB_STATE = "twinrail_job_state"
DATABASE = "db_client_operation_duration_seconds"
SHADOWED = "twinrail_retrieval_shadow_searches_total"


def one(expr: str, legend: str) -> tuple[Series, ...]:
    """The series of a panel that has just one."""
    return (Series(expr=expr, legend=legend),)


def oldest(gauge: str, *, by: str) -> str:
    """Seconds since the earliest of the times that gauges show, over all gateways."""
    return f"time() - min by ({by}) ({gauge})"
