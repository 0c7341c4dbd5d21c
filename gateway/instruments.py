"""Names of the gateway's spans, attributes and metrics, and their instruments (OpenTelemetry API only).

GenAI conventions as of commit 024a4f94 of open-telemetry/semantic-conventions-genai (all "Development").
Labels are bounded: arm, version, status, reason. Never a tenant, a key, a question or an id.
"""

from __future__ import annotations

from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger

tracer = trace.get_tracer("twinrail.gateway")
meter = metrics.get_meter("twinrail.gateway")
#: Events that stand by themselves, as log records: what is said of a turn when its spans have ended.
events = get_logger("twinrail.gateway")

# ---- span names ----
WORKFLOW_NAME = "twinrail_answer"
WORKFLOW_SPAN = f"invoke_workflow {WORKFLOW_NAME}"
ASSIGN_SPAN = "twinrail.assign"
ASSEMBLE_SPAN = "twinrail.assemble"
VERIFY_SPAN = "twinrail.verify"
SHADOW_SPAN = "twinrail.shadow"

# ---- attributes ----
HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"
URL_PATH = "url.path"
URL_SCHEME = "url.scheme"
ERROR_TYPE = "error.type"
OPERATION = "gen_ai.operation.name"
WORKFLOW = "gen_ai.workflow.name"
CONVERSATION_ID = "gen_ai.conversation.id"
PROMPT_NAME = "gen_ai.prompt.name"
KNOWLEDGE_ARM = "twinrail.rollout.knowledge.arm"
MODEL_ARM = "twinrail.rollout.model.arm"
KNOWLEDGE_VERSION = "twinrail.knowledge.version"
MODEL_VERSION = "twinrail.model.version"
#: Of a shadow search: the version whose result was served. The shadow's own is `KNOWLEDGE_VERSION`.
SERVED_VERSION = "twinrail.shadow.served_version"
SHADOW_OUTCOME = "twinrail.shadow.outcome"
TURN_ID = "twinrail.turn.id"
PINNED = "twinrail.turn.pinned"
STATUS = "twinrail.answer.status"
REFUSED = "twinrail.answer.refused"
CITATIONS = "twinrail.answer.citations"
CITATIONS_INVALID = "twinrail.answer.citations_invalid"
GROUNDED = "twinrail.answer.grounded"
CONTEXT_DOCUMENTS = "twinrail.context.documents"
CONTEXT_TOKENS = "twinrail.context.tokens"
CONTEXT_TRUNCATED = "twinrail.context.truncated"
STEP = "twinrail.fallback.step"
ATTEMPT = "twinrail.draft.attempt"
OUTCOME = "twinrail.draft.outcome"
REASON = "reason"
REVIEW_ENDING = "twinrail.review.ending"
RAIL = "twinrail.rail"
QUESTION = "twinrail.question"
ANSWER = "twinrail.answer"
#: Events: what was assigned (feature flags) and what a check found.
FLAG_EVENT = "feature_flag.evaluation"
FLAG_KEY = "feature_flag.key"
FLAG_VARIANT = "feature_flag.result.variant"
EVALUATION_EVENT = "gen_ai.evaluation.result"
EVALUATION_NAME = "gen_ai.evaluation.name"
EVALUATION_SCORE = "gen_ai.evaluation.score.value"
EVALUATION_LABEL = "gen_ai.evaluation.score.label"
EVALUATION_SOURCE = "twinrail.evaluation.source"
EVALUATION_VERSION = "twinrail.evaluation.version"
INVOKE_WORKFLOW = "invoke_workflow"
#: `error.type` of a request whose client left.
CLIENT_CANCELLED = "client_cancelled"

# ---- instruments ----
_HTTP_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 15, 30, 60]
_WORKFLOW_SECONDS = [0.05 * 2**n for n in range(11)]
_OVERHEAD_SECONDS = [0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5]

request_duration = meter.create_histogram(
    "http.server.request.duration",
    unit="s",
    description="Time of a request, until its last byte or the disconnect.",
    explicit_bucket_boundaries_advisory=_HTTP_SECONDS,
)
active_requests = meter.create_up_down_counter(
    "http.server.active_requests", unit="{request}", description="Requests in progress."
)
workflow_duration = meter.create_histogram(
    "gen_ai.invoke_workflow.duration",
    unit="s",
    description="Time of the path of a question, from assignment to answer.",
    explicit_bucket_boundaries_advisory=_WORKFLOW_SECONDS,
)
overhead = meter.create_histogram(
    "twinrail.gateway.overhead",
    unit="s",
    description="Time of an answer that neither retrieval nor generation took.",
    explicit_bucket_boundaries_advisory=_OVERHEAD_SECONDS,
)
answers = meter.create_counter(
    "twinrail.answers", unit="{answer}", description="Answers by status, arm and version."
)
degraded = meter.create_counter(
    "twinrail.requests.degraded", unit="{request}", description="Answers with a part that did not work."
)
rejected = meter.create_counter(
    "twinrail.requests.rejected",
    unit="{request}",
    description="Requests refused: rate_limit, overload, policy.",
)
refusals = meter.create_counter(
    "twinrail.answer.refusals", unit="{answer}", description="Questions that were not answered, by reason."
)
handovers = meter.create_counter(
    "twinrail.answer.handovers",
    unit="{answer}",
    description="Answers that a rule passed to a person, by the rule's reason.",
)
citations = meter.create_histogram(
    "twinrail.answer.citations",
    unit="{citation}",
    description="Citations of an answer.",
    explicit_bucket_boundaries_advisory=[0, 1, 2, 3, 5, 8],
)
citations_invalid = meter.create_counter(
    "twinrail.answer.citations.invalid",
    unit="{citation}",
    description="Citations that were dropped: no such hit, no support, or other text.",
)
context_tokens = meter.create_histogram(
    "twinrail.context.tokens",
    unit="{token}",
    description="Tokens of the rendered prompt.",
    explicit_bucket_boundaries_advisory=[64, 128, 256, 384, 512, 640, 768, 1024, 2048, 4096],
)
context_used = meter.create_histogram(
    "twinrail.context.used_ratio",
    unit="1",
    description="Share of the prompt's passages that the answer cites.",
    explicit_bucket_boundaries_advisory=[step / 10 for step in range(11)],
)
drafts = meter.create_counter(
    "twinrail.generation.drafts",
    unit="{draft}",
    description="Drafts by what became of them: accepted, or what they failed by.",
)
fallbacks = meter.create_counter(
    "twinrail.answer.fallbacks",
    unit="{answer}",
    description="Answers that the assigned version did not write, by who did and why.",
)
circuit = meter.create_gauge(
    "twinrail.model.circuit",
    unit="{state}",
    description="Circuit of a model version in this gateway: 0 closed, 1 on trial, 2 open.",
)
circuit_openings = meter.create_counter(
    "twinrail.model.circuit.openings",
    unit="{opening}",
    description="Circuits that opened, by what opened them.",
)
shadow_overlap = meter.create_histogram(
    "twinrail.retrieval.shadow.overlap",
    unit="1",
    description="Share of documents that the shadow version found too, of the longer of both lists.",
    explicit_bucket_boundaries_advisory=[step / 10 for step in range(11)],
)
shadow_searches = meter.create_counter(
    "twinrail.retrieval.shadow.searches",
    unit="{search}",
    description="Searches sampled for the shadow version, by what became of them.",
)
rail_ready = meter.create_gauge(
    "twinrail.rail.ready",
    unit="{rail}",
    description="1 if this gateway can serve the stable version of the rail, else 0.",
)
turns_pending = meter.create_up_down_counter(
    "twinrail.turns.pending", unit="{turn}", description="Turns that are not in the database yet."
)
turns_spooled = meter.create_counter(
    "twinrail.turns.spooled",
    unit="{turn}",
    description="Turns kept in the spool file while the database was away.",
)
readings = meter.create_counter(
    "twinrail.review.readings",
    unit="{reading}",
    description="What people said of reviewed turns, by what becomes of the turn.",
)
evaluation_score = meter.create_histogram(
    "twinrail.evaluation.score",
    unit="1",
    description="What is said of live turns: scores, labels (1: passed) and ratings (1: up).",
    explicit_bucket_boundaries_advisory=[step / 10 for step in range(11)],
)
