"""The model rail's row of the board: what the models write, and who stands in for them."""

from __future__ import annotations

from deploy.dashboards.layout import (
    ANSWERED_BY,
    FIRST_CHUNK,
    INFERENCE,
    MODEL,
    Panel,
    Row,
    Series,
    one,
    quantiles,
)
from deploy.dashboards.promql import mean, quantile, rate, share

OPERATION = "gen_ai_client_inference_operation"
PER_TOKEN = "twinrail_generation_time_per_output_token_seconds"
DRAFTS = "twinrail_generation_drafts_total"
FALLBACKS = "twinrail_answer_fallbacks_total"
REPLICAS = "twinrail_model_replicas"
REPLICA_VERSIONS = "twinrail_model_replica_versions"
STATE = "twinrail_replica_state"
#: Drafts that are what the schema asks for, and those of which it is known.
FITS = 'twinrail_draft_outcome=~"accepted|uncited|mismatch|empty"'
KNOWN = 'twinrail_draft_outcome!~"unsupported|engine"'


def generation() -> Row:
    """What the models write, version by version, and who stands in for them."""
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
                    rate("twinrail_answer_refusals_total", by="twinrail_model_version", where=MODEL),
                    "{{twinrail_model_version}}",
                ),
                width=4,
            ),
            Panel(
                title="Citations an answer, mean",
                about="Verified citations only.",
                unit="short",
                series=one(
                    mean("twinrail_answer_citations", by="twinrail_model_version", where=MODEL),
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
                        where=MODEL,
                    ),
                    "{{twinrail_model_version}}",
                ),
                width=6,
            ),
            Panel(
                title="Time per token, median",
                about="Between two tokens of one generation, after the first, by version.",
                unit="s",
                series=one(
                    quantile(0.5, PER_TOKEN, by="twinrail_model_version", where=MODEL),
                    "{{twinrail_model_version}}",
                ),
            ),
            Panel(
                title="Tokens an answer, mean",
                about="Of one generation, by version: a prompt that grows costs every answer.",
                unit="short",
                series=(
                    Series(
                        expr=mean(f"{OPERATION}_input_tokens", by="twinrail_model_version", where=MODEL),
                        legend="in {{twinrail_model_version}}",
                    ),
                    Series(
                        expr=mean(f"{OPERATION}_output_tokens", by="twinrail_model_version", where=MODEL),
                        legend="out {{twinrail_model_version}}",
                    ),
                ),
            ),
            Panel(
                title="Drafts by outcome",
                about="What becomes of drafts. More unsupported: the model or the articles changed.",
                unit="reqps",
                series=one(
                    rate(DRAFTS, by="twinrail_draft_outcome", where=MODEL), "{{twinrail_draft_outcome}}"
                ),
            ),
            Panel(
                title="Schema-valid drafts",
                about="Of the drafts of which it is known; below 1 a version writes what nobody can read.",
                unit="percentunit",
                series=one(
                    share(
                        rate(DRAFTS, by="twinrail_model_version", where=f"{MODEL}, {FITS}"),
                        rate(DRAFTS, by="twinrail_model_version", where=f"{MODEL}, {KNOWN}"),
                    ),
                    "{{twinrail_model_version}}",
                ),
            ),
            Panel(
                title="Repaired drafts",
                about="Share of the drafts that are second ones, by version.",
                unit="percentunit",
                series=one(
                    share(
                        rate(
                            DRAFTS,
                            by="twinrail_model_version",
                            where=f'{MODEL}, twinrail_draft_attempt="repair"',
                        ),
                        rate(DRAFTS, by="twinrail_model_version", where=MODEL),
                    ),
                    "{{twinrail_model_version}}",
                ),
            ),
            Panel(
                title="Passages used",
                about="Share of the prompt's passages that an answer cites, mean.",
                unit="percentunit",
                series=one(
                    mean("twinrail_context_used_ratio", by="twinrail_model_version", where=MODEL),
                    "{{twinrail_model_version}}",
                ),
            ),
            Panel(
                title="Fallbacks by step",
                about="Who answers where the assigned version does not; fixed: nobody.",
                unit="reqps",
                series=one(
                    rate(FALLBACKS, by="twinrail_fallback_step", where=MODEL), "{{twinrail_fallback_step}}"
                ),
            ),
            Panel(
                title="Fallbacks by reason",
                about="Why the assigned version did not answer, by version.",
                unit="reqps",
                series=one(
                    rate(FALLBACKS, by="twinrail_model_version, reason", where=MODEL),
                    "{{twinrail_model_version}} {{reason}}",
                ),
            ),
            Panel(
                title="Circuits",
                about="0: asked. 1: on trial. 2: not asked. The worst over all gateways.",
                unit="short",
                series=one(
                    f"max by (twinrail_model_version) (twinrail_model_circuit{{{ANSWERED_BY}}})",
                    "{{twinrail_model_version}}",
                ),
                width=4,
            ),
            Panel(
                title="Circuits that opened",
                about="By version and by what opened them.",
                unit="reqps",
                series=one(
                    rate(
                        "twinrail_model_circuit_openings_total",
                        by="twinrail_model_version, reason",
                        where=ANSWERED_BY,
                    ),
                    "{{twinrail_model_version}} {{reason}}",
                ),
                width=4,
            ),
            Panel(
                title="Engines",
                about="Live, and down or leaving. `twinrail model replicas` names them.",
                unit="short",
                series=one(f"max by ({STATE}) ({REPLICAS})", f"{{{{{STATE}}}}}"),
                width=4,
            ),
            Panel(
                title="Engines that have shown a version",
                about="Live engines whose probe of a version passed since their start: only they may answer.",
                unit="short",
                series=(
                    Series(
                        expr=_engines(f'{ANSWERED_BY}, {STATE}="probed"'),
                        legend="{{twinrail_model_version}}",
                    ),
                    Series(expr=f'max({REPLICAS}{{{STATE}="live"}})', legend="live engines"),
                ),
            ),
            Panel(
                title="Versions not there yet",
                about="Engines by how far a version has come; `failed` stays until somebody mends it.",
                unit="short",
                series=one(
                    _engines(f'{ANSWERED_BY}, {STATE}!="probed"', by=STATE),
                    f"{{{{twinrail_model_version}}}} {{{{{STATE}}}}}",
                ),
            ),
            Panel(
                title="Not routable",
                about="1: an engine lacks the version or has not shown it, so it gets no new traffic.",
                unit="short",
                series=one(
                    f"max by (twinrail_model_version) (twinrail_model_unroutable{{{ANSWERED_BY}}})",
                    "{{twinrail_model_version}}",
                ),
                width=4,
            ),
            Panel(
                title="Probes by outcome",
                about="false: an engine answered as its base, or with other weights. Start it again.",
                unit="cps",
                series=one(
                    rate(
                        "twinrail_model_probes_total",
                        by="twinrail_model_version, twinrail_probe_passed",
                        where=ANSWERED_BY,
                    ),
                    "{{twinrail_model_version}} passed: {{twinrail_probe_passed}}",
                ),
            ),
            Panel(
                title="Steps of the reconciler that failed",
                about="Loads, probes and looks that are tried again; the gateway's log says why.",
                unit="cps",
                series=one(
                    rate("twinrail_model_reconcile_failures_total", by="twinrail_reconcile_step"),
                    "{{twinrail_reconcile_step}}",
                ),
            ),
        ),
    )


def _engines(where: str, *, by: str = "") -> str:
    """How many engines; the maximum, because only the gateway that reconciles shows it."""
    labels = f"twinrail_model_version, {by}" if by else "twinrail_model_version"
    return f"max by ({labels}) ({REPLICA_VERSIONS}{{{where}}})"
