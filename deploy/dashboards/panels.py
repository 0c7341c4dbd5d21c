"""What the board shows: rows of panels with their queries.

Metric names are those of docs/telemetry.md in their Prometheus form: dots become underscores, the unit and
`_total` come last. Scores are compared within a version only, so every such panel is split by version.
"""

from __future__ import annotations

from deploy.dashboards import knowledge_panels, model_panels
from deploy.dashboards.layout import (
    ANSWERS,
    ASKING,
    ASKING_FAILED,
    DATABASE,
    HTTP,
    INFERENCE,
    RETRIEVAL,
    WORKFLOW,
    Panel,
    Row,
    one,
    quantiles,
)
from deploy.dashboards.promql import quantile, rate, share


def rows() -> tuple[Row, ...]:
    """Every row of the board, top to bottom."""
    return (
        _golden_path(),
        knowledge_panels.retrieval(),
        knowledge_panels.jobs(),
        model_panels.generation(),
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
