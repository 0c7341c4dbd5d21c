"""Names of the model rail's spans, attributes and metrics, and their instruments (OpenTelemetry API only).

GenAI conventions as of commit 024a4f94 of open-telemetry/semantic-conventions-genai (all "Development").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Observation

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

STATE = "twinrail.replica.state"
STEP = "twinrail.reconcile.step"
PASSED = "twinrail.probe.passed"

# ---- values --------------------------------------------------------------------------------------
CHAT = "chat"
VLLM = "vllm"
#: Any OpenAI-compatible endpoint, whoever runs it.
OPENAI = "openai"
#: `error.type` and finish reason of a generation whose reader went away.
CANCELLED = "cancelled"

# ---- instruments ---------------------------------------------------------------------------------
_SECONDS = [0.01 * 2**n for n in range(14)]
_TOKEN_SECONDS = [0.001 * 2**n for n in range(12)]
_TOKENS = [4**n for n in range(14)]

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
time_per_output_token = meter.create_histogram(
    "twinrail.generation.time_per_output_token",
    unit="s",
    description="Mean time between two tokens of one generation, after the first.",
    explicit_bucket_boundaries_advisory=_TOKEN_SECONDS,
)
prompt_size = meter.create_histogram(
    "gen_ai.client.inference.operation.input_tokens",
    unit="{token}",
    description="Prompt tokens of one generation.",
    explicit_bucket_boundaries_advisory=_TOKENS,
)
answer_size = meter.create_histogram(
    "gen_ai.client.inference.operation.output_tokens",
    unit="{token}",
    description="Tokens that one generation wrote.",
    explicit_bucket_boundaries_advisory=_TOKENS,
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


# Shown by the one gateway that reconciles, and by no other.
engines_live, replica_versions, unroutable = Shown(), Shown(), Shown()
meter.create_observable_gauge(
    "twinrail.model.replicas",
    callbacks=[engines_live],
    unit="{replica}",
    description="Engines of the model rail that are live or down",
)
meter.create_observable_gauge(
    "twinrail.model.replica.versions",
    callbacks=[replica_versions],
    unit="{replica}",
    description="Live engines by how far a wanted version has come there: only `probed` takes traffic",
)
meter.create_observable_gauge(
    "twinrail.model.unroutable",
    callbacks=[unroutable],
    unit="{version}",
    description="1 for a wanted version that some live engine lacks or has not shown, else 0",
)
probes = meter.create_counter(
    "twinrail.model.probes", unit="{probe}", description="Probes of a version on an engine, by outcome"
)
reconcile_failures = meter.create_counter(
    "twinrail.model.reconcile.failures",
    unit="{step}",
    description="Steps of the reconciler that failed and are tried again",
)
