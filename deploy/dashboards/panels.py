"""What the board shows: rows of panels with their queries.

Metric names are those of docs/telemetry.md in their Prometheus form: dots become underscores, the unit and
`_total` come last. Scores are compared within a version only, so every such panel is split by version.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploy.dashboards.promql import mean, quantile, rate, share

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


# ---- what the board shows --------------------------------------------------------------------------------

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


def rows() -> tuple[Row, ...]:
    """Every row of the board, top to bottom."""
    return (_golden_path(), _retrieval(), _jobs(), _generation(), _versions(), _shadow(), _overhead())


def _golden_path() -> Row:
    answered = rate(f"{HTTP}_count", where=ASKING)
    return Row(
        title="Golden path",
        panels=(
            Panel(
                title="Questions",
                about="Questions a second by their HTTP status, over both answering routes.",
                unit="reqps",
                series=one(
                    rate(f"{HTTP}_count", by="http_response_status_code", where=ASKING),
                    "{{http_response_status_code}}",
                ),
            ),
            Panel(
                title="Errors",
                about="Questions that ended in a 5xx or a broken stream. Degraded answers are not in it.",
                unit="percentunit",
                series=one(
                    share(f"({rate(f'{HTTP}_count', where=ASKING_FAILED)} or vector(0))", answered), "errors"
                ),
                kind="stat",
                width=4,
                decimals=2,
                bad_from=0.005,
            ),
            Panel(
                title="In progress",
                about="Requests being worked on now, over all gateways.",
                unit="short",
                series=one("sum(http_server_active_requests)", "in progress"),
                kind="stat",
                width=4,
            ),
            Panel(
                title="Time of a whole answer",
                about="From arrival to the last token; pinned (evaluation) turns are not in it.",
                unit="s",
                series=quantiles(WORKFLOW),
            ),
            Panel(
                title="Answers by status",
                about="More abstained: look at Retrieval. More fallback: look at Generation.",
                unit="reqps",
                series=one(rate(ANSWERS, by="twinrail_answer_status"), "{{twinrail_answer_status}}"),
            ),
            Panel(
                title="Rails ready",
                about="1: some gateway can serve the stable version of the rail. 0: read /readyz.",
                unit="short",
                series=one("max by (twinrail_rail) (twinrail_rail_ready)", "{{twinrail_rail}}"),
                kind="stat",
                width=4,
                good_from=1,
            ),
            Panel(
                title="Degraded",
                about="Answers that went out with a part missing, by the part.",
                unit="reqps",
                series=one(rate("twinrail_requests_degraded_total", by="reason"), "{{reason}}"),
                width=6,
            ),
            Panel(
                title="Rejected",
                about="Requests refused before any work: rate limit, overload.",
                unit="reqps",
                series=one(rate("twinrail_requests_rejected_total", by="reason"), "{{reason}}"),
                width=6,
            ),
        ),
    )


def _retrieval() -> Row:
    return Row(
        title="Retrieval (knowledge rail)",
        panels=(
            Panel(
                title="Retrieval time",
                about="The whole retrieval layer: embed, search, rerank.",
                unit="s",
                series=quantiles(RETRIEVAL, where=SEARCHES),
            ),
            Panel(
                title="Time by stage, p95",
                about="Which stage to look at when retrieval is slow.",
                unit="s",
                series=one(
                    quantile(0.95, STAGE, by="twinrail_retrieval_stage", where=KNOWLEDGE),
                    "{{twinrail_retrieval_stage}}",
                ),
            ),
            Panel(
                title="Retrieval errors",
                about="Failed retrievals by cause; each becomes a degraded answer, never an uncited one.",
                unit="reqps",
                series=one(
                    rate(f"{RETRIEVAL}_count", by="error_type", where=f"{FAILED}, {SEARCHES}"),
                    "{{error_type}}",
                ),
            ),
            Panel(
                title="Empty",
                about="Retrievals without a single hit.",
                unit="reqps",
                series=one(
                    rate("twinrail_retrieval_empty_total", by="twinrail_knowledge_version", where=KNOWLEDGE),
                    "{{twinrail_knowledge_version}}",
                ),
            ),
            Panel(
                title="Hits returned, mean",
                about="Falls when filters or permissions leave too little.",
                unit="short",
                series=one(
                    mean("twinrail_retrieval_documents", by="twinrail_knowledge_version", where=KNOWLEDGE),
                    "{{twinrail_knowledge_version}}",
                ),
            ),
            Panel(
                title="Top score, median",
                about="Comparable over time within one version; never between versions.",
                unit="short",
                series=one(
                    quantile(
                        0.5,
                        "twinrail_retrieval_top_score",
                        by="twinrail_knowledge_version",
                        where=KNOWLEDGE,
                    ),
                    "{{twinrail_knowledge_version}}",
                ),
                decimals=2,
            ),
            Panel(
                title="Recall of the vector index",
                about="Share of the exact nearest chunks that it proposes, on sampled searches.",
                unit="percentunit",
                series=one(
                    mean(
                        "twinrail_retrieval_recall_probe",
                        by="twinrail_knowledge_version",
                        where=PROBED_VERSION,
                    ),
                    "{{twinrail_knowledge_version}}",
                ),
            ),
            Panel(
                title="Answered without a step",
                about="Share of the questions that kept the fused order, or were searched as asked.",
                unit="percentunit",
                series=tuple(
                    Series(
                        expr=share(
                            f"({rate('twinrail_requests_degraded_total', where=matcher)} or vector(0))",
                            rate(f"{HTTP}_count", where=ASKING),
                        ),
                        legend=step,
                    )
                    for step, matcher in (
                        ("not reranked", 'reason="rerank"'),
                        ("not rewritten", 'reason="rewrite"'),
                    )
                ),
            ),
            Panel(
                title="Since the last sync",
                about="Time since each source was looked through; the alert knows how long is too long.",
                unit="s",
                series=one(
                    oldest("twinrail_knowledge_sync_last_seconds", by="twinrail_knowledge_source"),
                    "{{twinrail_knowledge_source}}",
                ),
            ),
        ),
    )


def _jobs() -> Row:
    return Row(
        title="Jobs and freshness (knowledge rail)",
        panels=(
            Panel(
                title="Jobs",
                about="Over all tenants. `abandoned`: a dead worker's; `failed`: until resumed or cancelled.",
                unit="short",
                # Every gateway reads the same database.
                series=one(
                    f"sum by ({JOB_STATE}) (max by (twinrail_job_kind, {JOB_STATE}) (twinrail_jobs))",
                    f"{{{{{JOB_STATE}}}}}",
                ),
            ),
            Panel(
                title="Oldest waiting job",
                about="How long the oldest job of a state waits; `twinrail jobs list` shows which.",
                unit="s",
                series=one(
                    oldest("twinrail_jobs_waiting_since_seconds", by=JOB_STATE), f"{{{{{JOB_STATE}}}}}"
                ),
            ),
            Panel(
                title="Workers",
                about="That gave a sign of life within a minute. None: nothing sent gets searchable.",
                unit="short",
                series=one("max(twinrail_jobs_workers)", "workers"),
                kind="stat",
                good_from=1,
            ),
            Panel(
                title="Runs of jobs",
                about="Each attempt of a job. Many retried: read the worker's log. Needs the workers' OTLP.",
                unit="reqps",
                series=one(
                    rate("twinrail_jobs_duration_seconds_count", by="twinrail_job_outcome"),
                    "{{twinrail_job_outcome}}",
                ),
                width=6,
            ),
            Panel(
                title="Time of a run, p95",
                about="By kind of job; builds of index versions take longest. Needs the workers' OTLP.",
                unit="s",
                series=one(
                    quantile(0.95, "twinrail_jobs_duration_seconds", by="twinrail_job_kind"),
                    "{{twinrail_job_kind}}",
                ),
                width=6,
            ),
            Panel(
                title="Documents left out",
                about="Of jobs; the job's report lists each with its reason. Needs the workers' OTLP.",
                unit="short",
                series=one(
                    rate("twinrail_jobs_documents_failed_total", by="twinrail_job_kind"),
                    "{{twinrail_job_kind}}",
                ),
                width=6,
            ),
            Panel(
                title="Change to searchable",
                about="From a change in a source until a search finds it. Needs the workers' OTLP.",
                unit="s",
                series=quantiles("twinrail_knowledge_freshness_lag_seconds"),
                width=6,
            ),
        ),
    )


def _generation() -> Row:
    usage = "gen_ai_client_inference_usage"
    return Row(
        title="Generation (model rail)",
        panels=(
            Panel(
                title="Generation time",
                about="One call of the model, from request to last token or disconnect.",
                unit="s",
                series=quantiles(INFERENCE, where=MODEL),
            ),
            Panel(
                title="Time to first chunk",
                about="Until the model's first token. Grows first when an engine is short of room.",
                unit="s",
                series=quantiles(FIRST_CHUNK, where=MODEL),
            ),
            Panel(
                title="Tokens",
                about="Tokens a second into and out of the model; cached: held by the prefix cache.",
                unit="short",
                series=(
                    Series(expr=rate(f"{usage}_input_tokens_total", where=MODEL), legend="in"),
                    Series(expr=rate(f"{usage}_output_tokens_total", where=MODEL), legend="out"),
                    Series(
                        expr=rate(f"{usage}_cache_read_input_tokens_total", where=MODEL), legend="in, cached"
                    ),
                ),
            ),
            Panel(
                title="Finishes",
                about="How generations end. `length` cuts answers; `cancelled` is a client that left.",
                unit="reqps",
                series=one(
                    rate(
                        "twinrail_generation_finishes_total", by="gen_ai_response_finish_reason", where=MODEL
                    ),
                    "{{gen_ai_response_finish_reason}}",
                ),
            ),
            Panel(
                title="Refusals",
                about="Answers in which the model declined.",
                unit="reqps",
                series=one(
                    rate("twinrail_answer_refusals_total", by="twinrail_model_version", where=ANSWERED_BY),
                    "{{twinrail_model_version}}",
                ),
                width=4,
            ),
            Panel(
                title="Citations an answer, mean",
                about="Verified citations only.",
                unit="short",
                series=one(
                    mean("twinrail_answer_citations", by="twinrail_model_version", where=ANSWERED_BY),
                    "{{twinrail_model_version}}",
                ),
                width=6,
            ),
            Panel(
                title="Invalid citations",
                about="Numbers out of range and quotes that the stored document lacks; all were dropped.",
                unit="reqps",
                series=one(
                    rate(
                        "twinrail_answer_citations_invalid_total",
                        by="twinrail_model_version",
                        where=ANSWERED_BY,
                    ),
                    "{{twinrail_model_version}}",
                ),
                width=6,
            ),
        ),
    )


def _versions() -> Row:
    return Row(
        title="Versions and arms",
        panels=(
            Panel(
                title="Answers by knowledge version",
                about="What is serving now; a canary shows its share here.",
                unit="reqps",
                series=one(
                    rate(ANSWERS, by="twinrail_knowledge_version, twinrail_rollout_knowledge_arm"),
                    "{{twinrail_knowledge_version}} ({{twinrail_rollout_knowledge_arm}})",
                ),
                width=12,
            ),
            Panel(
                title="Answers by model version",
                about="What is serving now; a canary shows its share here.",
                unit="reqps",
                series=one(
                    rate(ANSWERS, by="twinrail_model_version, twinrail_rollout_model_arm"),
                    "{{twinrail_model_version}} ({{twinrail_rollout_model_arm}})",
                ),
                width=12,
            ),
            Panel(
                title="Answered share by knowledge arm",
                about="Canary below stable: abort the canary before reading anything else.",
                unit="percentunit",
                series=one(
                    share(
                        rate(
                            ANSWERS,
                            by="twinrail_rollout_knowledge_arm",
                            where='twinrail_answer_status="answered"',
                        ),
                        rate(ANSWERS, by="twinrail_rollout_knowledge_arm"),
                    ),
                    "{{twinrail_rollout_knowledge_arm}}",
                ),
                width=12,
            ),
            Panel(
                title="Answered share by model arm",
                about="Canary below stable: abort the canary before reading anything else.",
                unit="percentunit",
                series=one(
                    share(
                        rate(
                            ANSWERS,
                            by="twinrail_rollout_model_arm",
                            where='twinrail_answer_status="answered"',
                        ),
                        rate(ANSWERS, by="twinrail_rollout_model_arm"),
                    ),
                    "{{twinrail_rollout_model_arm}}",
                ),
                width=12,
            ),
        ),
    )


def _shadow() -> Row:
    compared = f'{SHADOW_VERSION}, twinrail_shadow_outcome=~"agreed|differed"'
    agreed = f'{SHADOW_VERSION}, twinrail_shadow_outcome="agreed"'
    version = "twinrail_knowledge_version"
    return Row(
        title="Shadow of the knowledge rail",
        panels=(
            Panel(
                title="Documents found by both, mean",
                about="Share of the longer list: how much would change, not whether it is better.",
                unit="percentunit",
                series=one(
                    mean("twinrail_retrieval_shadow_overlap", by=version, where=SHADOW_VERSION),
                    f"{{{{{version}}}}}",
                ),
            ),
            Panel(
                title="Same document first",
                about="Share of the compared searches in which both versions put the same document first.",
                unit="percentunit",
                series=one(
                    share(
                        rate(SHADOWED, by=version, where=agreed), rate(SHADOWED, by=version, where=compared)
                    ),
                    f"{{{{{version}}}}}",
                ),
            ),
            Panel(
                title="Retrieval time, p95",
                about="Of the shadow's searches, which nobody waits for; beside it the stable version's.",
                unit="s",
                series=one(
                    quantile(0.95, RETRIEVAL, by="twinrail_rollout_knowledge_arm", where=BOTH_ARMS),
                    "{{twinrail_rollout_knowledge_arm}}",
                ),
            ),
            Panel(
                title="Sampled searches",
                about="By outcome. `dropped`: it could not keep up; `failed`: read the gateway's log.",
                unit="reqps",
                series=one(
                    rate(SHADOWED, by="twinrail_shadow_outcome", where=SHADOW_VERSION),
                    "{{twinrail_shadow_outcome}}",
                ),
            ),
        ),
    )


def _overhead() -> Row:
    return Row(
        title="Database and gateway overhead",
        panels=(
            Panel(
                title="Database time, p95",
                about="By operation; search is one statement.",
                unit="s",
                series=one(
                    quantile(0.95, DATABASE, by="db_query_summary"),
                    "{{db_query_summary}}",
                ),
            ),
            Panel(
                title="Gateway overhead",
                about="What the gateway itself adds to a question, outside retrieval and generation.",
                unit="s",
                series=quantiles("twinrail_gateway_overhead_seconds"),
            ),
            Panel(
                title="Prompt size",
                about="Tokens of context given to the model.",
                unit="short",
                series=quantiles("twinrail_context_tokens"),
            ),
        ),
    )


#: Queries of the choices at the top of the board.
KNOWLEDGE_VERSIONS = f"label_values({RETRIEVAL}_count, twinrail_knowledge_version)"
MODEL_VERSIONS = f"label_values({INFERENCE}_count, twinrail_model_version)"
