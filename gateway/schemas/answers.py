"""Bodies of `/v1/answers`."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from gateway.schemas.fields import MAX_QUESTION, AsOf, Body, ConversationId, FilterValue, ShortText
from serving.prompting import Shown


class Status(StrEnum):
    """How a question was answered."""

    ANSWERED = "answered"
    ABSTAINED = "abstained"
    CLARIFY = "clarify"
    ESCALATED = "escalated"
    FALLBACK = "fallback"


class Step(StrEnum):
    """Who writes an answer, in the order in which they are asked."""

    ASSIGNED = "assigned"
    PREVIOUS = "previous"
    BASE = "base"
    ENDPOINT = "endpoint"
    FIXED = "fixed"


class Cause(StrEnum):
    """Why a step was left."""

    ERROR = "error"
    DEADLINE = "deadline"
    CIRCUIT = "circuit"
    INVALID = "invalid"
    #: Its prompt leaves no room for the question, or the endpoint's tokens of the hour are used up.
    BUDGET = "budget"
    #: What the registry holds of the version was damaged.
    UNREADABLE = "unreadable"


class HistoryMessage(Body):
    """An earlier message of the conversation."""

    role: Literal["user", "assistant"]
    content: str = Field(min_length=1, max_length=8_000)


class PinnedPassage(Body):
    """A passage given by the caller in place of retrieval."""

    title: str = Field(max_length=300, description="Title as the prompt shows it.")
    text: str = Field(min_length=1, max_length=20_000, description="Text that the answer may use.")
    effective_from: date | None = Field(
        default=None,
        description="Day from which it is true, as the prompt shows it.",
        examples=["2026-01-31"],
    )


class PinnedShot(Body):
    """A worked example of a prompt."""

    context: str = Field(max_length=8_000, description="Its passages, as the prompt shows them.")
    question: str = Field(min_length=1, max_length=2_000)
    answer: str = Field(min_length=1, max_length=8_000, description="What the model should write.")


class PinnedPrompt(Body):
    """A prompt given by the caller in place of the model version's own."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,79}$", description="Stands in `versions.prompt`.")
    system: str = Field(min_length=1, max_length=20_000)
    shots: tuple[PinnedShot, ...] = Field(default=(), max_length=20)
    shows: Shown = Field(
        default="passages",
        description="What it shows of the hits: windows of them, or the sentences closest to the question.",
    )


class Pin(Body):
    """Takes the place of the assignment for one question. Needs the scope `eval`; never counted."""

    knowledge: str | None = Field(
        default=None,
        pattern=r"^k-[A-Za-z0-9._-]+(@\d+)?$",
        description="Knowledge version id, with `@<snapshot>` for a point in time.",
        examples=["k-minilm-1a2b3c4d@17"],
    )
    model: str | None = Field(
        default=None,
        pattern=r"^m-[A-Za-z0-9._-]+$",
        description="Model version id.",
        examples=["m-support-1a2b3c4d"],
    )
    as_of: AsOf | None = Field(
        default=None,
        description="Content to read: a snapshot's number, or what was live at a time.",
        examples=["2026-01-31T09:00:00Z", 17],
    )
    effective_on: date | None = Field(
        default=None,
        description="Day whose facts count: the day of `as_of` if that is a time, else today.",
        examples=["2026-01-31"],
    )
    context: (
        Literal["none"] | Annotated[tuple[PinnedPassage, ...], Field(min_length=1, max_length=20)] | None
    ) = Field(
        default=None,
        description='`"none"`: no retrieval, prompt only. A list: exactly these passages (oracle).',
    )
    prompt: PinnedPrompt | None = Field(
        default=None, description="Prompt to try with the weights of `model`, which must be pinned too."
    )
    constrained: bool | None = Field(
        default=None,
        description="False: the engine does not hold the model to the schema, whatever the version's "
        "decoding says; true: it does. Shows what a model has learnt of the form.",
    )


class AnswerRequest(Body):
    """A question."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"question": "How much is Sync Plus a month?"},
                {
                    "question": "And for a year?",
                    "conversation_id": "chat-4711",
                    "history": [
                        {"role": "user", "content": "How much is Sync Plus a month?"},
                        {"role": "assistant", "content": "Sync Plus is $9 a month."},
                    ],
                    "filters": {"product": "sync"},
                    "stream": True,
                },
            ]
        }
    )

    question: str = Field(min_length=1, max_length=MAX_QUESTION, description="The customer's words.")
    conversation_id: ConversationId | None = Field(
        default=None,
        description="Keeps the arms of both rails; without one, a new id is minted and returned.",
    )
    history: tuple[HistoryMessage, ...] = Field(
        default=(), max_length=40, description="Earlier messages, oldest first; only the last ones are used."
    )
    filters: dict[ShortText, FilterValue] = Field(
        default_factory=dict,
        max_length=20,
        description="Metadata field -> value, several of them, or operators; as in a search.",
    )
    stream: bool = Field(default=False, description="Send server-sent events instead of one JSON body.")
    pin: Pin | None = Field(default=None, description="Versions and context to use; scope `eval` only.")


class Citation(BaseModel):
    """A verbatim span of a stored document that supports a claim of the answer."""

    n: int = Field(description="Number of the hit.")
    document_id: str
    document_version: int | None = Field(
        description="Version of the document, which keeps its text for ever; null for pinned passages."
    )
    title: str
    url: str
    quote: str = Field(description="`text[start:end]` of the stored document.")
    start: int
    end: int
    snapshot: int | None = Field(
        description="Snapshot in which the document was read; null for pinned passages."
    )


class Confidence(BaseModel):
    """How sure the two layers are."""

    retrieval: float | None = Field(description="0 to 1: the hits hold the answer. Null without retrieval.")
    grounded: float | None = Field(
        description="Share of the claims that a passage supports. Null without claims."
    )


class Versions(BaseModel):
    """The stamp: exactly one version of each rail."""

    knowledge: str | None = Field(description="`k-<name>-<sha8>@<snapshot>`")
    model: str | None = Field(
        description="`m-<name>-<sha8>`: who wrote what is shown; where nobody did, who should have."
    )
    prompt: str | None


class Arms(BaseModel):
    """The arm of each rail."""

    knowledge: str
    model: str


class Usage(BaseModel):
    """Tokens, of all generations of the turn."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = Field(
        default=0, description="Prompt tokens that the engine had computed before, where it says so."
    )


class Tried(BaseModel):
    """A step that gave no answer."""

    step: Step
    version: str = Field(description="`m-<name>-<sha8>`")
    because: Cause
    failure: str | None = Field(
        description="What its last draft failed by, as in the turn's `drafts`; null: it wrote none."
    )


class Fallback(BaseModel):
    """Who answered in place of the assigned version, and why."""

    step: Step = Field(description="`previous`, `base`, `endpoint`: whose answer it is; `fixed`: nobody's.")
    because: Cause = Field(description="Why the assigned version did not answer.")
    tried: list[Tried] = Field(description="Every step that was left, in order; the first is the assigned.")


class AnswerBody(BaseModel):
    """An answer with everything that it stands on."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "019a8f3e-7c00-7000-8000-000000000000",
                    "conversation_id": "chat-4711",
                    "status": "answered",
                    "answer": "Sync Plus is $9 a month, or $90 a year.",
                    "fields": {
                        "intent": "billing",
                        "escalate": False,
                        "escalation_reason": "none",
                        "follow_up": "",
                    },
                    "citations": [
                        {
                            "n": 1,
                            "document_id": "sync-plus-price",
                            "document_version": 2,
                            "title": "Sync Plus: price and what you get",
                            "url": "https://help.pellworth.example/sync-plus-price",
                            "quote": "Sync Plus costs $9 a month or $90 a year.",
                            "start": 120,
                            "end": 161,
                            "snapshot": 3,
                        }
                    ],
                    "confidence": {"retrieval": 0.93, "grounded": 1.0},
                    "versions": {
                        "knowledge": "k-minilm-1a2b3c4d@3",
                        "model": "m-support-5e6f7a8b",
                        "prompt": "support_sentences",
                    },
                    "arms": {"knowledge": "stable", "model": "stable"},
                    "degraded": [],
                    "fallback": None,
                    "usage": {"prompt_tokens": 512, "completion_tokens": 61},
                    "timings_ms": {"retrieval": 9.1, "generation": 2140.5, "total": 2155.0},
                    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
                }
            ]
        }
    )

    id: UUID
    conversation_id: str
    status: Status
    answer: str
    fields: dict[str, Any] = Field(description="The task schema's other fields.")
    citations: list[Citation]
    confidence: Confidence
    versions: Versions
    arms: Arms
    degraded: list[str] = Field(
        description="What failed: retrieval, generation, citations, handover; "
        "rerank, rewrite, highlight (harmless)."
    )
    fallback: Fallback | None = Field(
        default=None, description="Set where another than the assigned version answered, or none did."
    )
    usage: Usage
    timings_ms: dict[str, float]
    trace_id: str
