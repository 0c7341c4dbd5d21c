"""The rows of the knowledge rail: searches, the jobs that bring content, and the version that watches."""

from __future__ import annotations

from deploy.dashboards.layout import (
    ASKING,
    BOTH_ARMS,
    FAILED,
    HTTP,
    JOB_STATE,
    KNOWLEDGE,
    PROBED_VERSION,
    RETRIEVAL,
    SEARCHES,
    SHADOW_VERSION,
    SHADOWED,
    STAGE,
    Panel,
    Row,
    Series,
    oldest,
    one,
    quantiles,
)
from deploy.dashboards.promql import mean, quantile, rate, share


def retrieval() -> Row:
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


def jobs() -> Row:
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


def shadow() -> Row:
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
