"""What the board shows: rows of panels with their queries.

Metric names are those of docs/telemetry.md in their Prometheus form: dots become underscores, the unit and
`_total` come last. Scores are compared within a version only, so every such panel is split by version.
"""

from __future__ import annotations

from deploy.dashboards import knowledge_panels
from deploy.dashboards.layout import (
    ANSWERED_BY,
    ANSWERS,
    ASKING,
    ASKING_FAILED,
    DATABASE,
    FIRST_CHUNK,
    HTTP,
    INFERENCE,
    MODEL,
    RETRIEVAL,
    WORKFLOW,
    Panel,
    Row,
    Series,
    one,
    quantiles,
)
from deploy.dashboards.promql import mean, quantile, rate, share


def rows() -> tuple[Row, ...]:
    """Every row of the board, top to bottom."""
    return (
        _golden_path(),
        knowledge_panels.retrieval(),
        knowledge_panels.jobs(),
        _generation(),
        _versions(),
        knowledge_panels.shadow(),
        _overhead(),
    )


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
