"""Names of the model rail's spans, attributes and metrics, and their instruments (OpenTelemetry API only).

GenAI conventions as of commit 024a4f94 of open-telemetry/semantic-conventions-genai (all "Development").
"""

from __future__ import annotations

from opentelemetry import metrics, trace

tracer = trace.get_tracer("twinrail.serving")
meter = metrics.get_meter("twinrail.serving")

# ---- attributes ----------------------------------------------------------------------------------
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE = "gen_ai.request.temperature"
REQUEST_TOP_P = "gen_ai.request.top_p"
REQUEST_SEED = "gen_ai.request.seed"
OUTPUT_TYPE = "gen_ai.output.type"
PROMPT_NAME = "gen_ai.prompt.name"
CONVERSATION_ID = "gen_ai.conversation.id"
RESPONSE_ID = "gen_ai.response.id"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
USAGE_INPUT_TOKENS = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
TOKEN_MODALITY = "gen_ai.token.modality"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"
FINISH_REASON = "gen_ai.response.finish_reason"
MODEL_VERSION = "twinrail.model.version"
MODEL_ARM = "twinrail.rollout.model.arm"

# ---- values --------------------------------------------------------------------------------------
CHAT = "chat"
VLLM = "vllm"
#: `error.type` and finish reason of a generation whose reader went away.
CANCELLED = "cancelled"

# ---- instruments ---------------------------------------------------------------------------------
_SECONDS = [0.01 * 2**n for n in range(14)]

inference_duration = meter.create_histogram(
    "gen_ai.client.inference.duration",
    unit="s",
    description="Time of one generation, from request to last token or disconnect.",
    explicit_bucket_boundaries_advisory=_SECONDS,
)
time_to_first_chunk = meter.create_histogram(
    "gen_ai.client.inference.time_to_first_chunk",
    unit="s",
    description="Time until the first token of a generation.",
    explicit_bucket_boundaries_advisory=_SECONDS,
)
input_tokens = meter.create_counter(
    "gen_ai.client.inference.usage.input_tokens", unit="{token}", description="Prompt tokens used."
)
output_tokens = meter.create_counter(
    "gen_ai.client.inference.usage.output_tokens", unit="{token}", description="Tokens generated."
)
cache_read_tokens = meter.create_counter(
    "gen_ai.client.inference.usage.cache_read.input_tokens",
    unit="{token}",
    description="Prompt tokens that the engine's prefix cache held.",
)
finishes = meter.create_counter(
    "twinrail.generation.finishes",
    unit="{generation}",
    description="Generations by how they ended: stop, length, cancelled or error.",
)
