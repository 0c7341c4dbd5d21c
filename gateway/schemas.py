"""Bodies of the native API. Unknown fields are refused, so that a typo is never silently ignored."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

MAX_QUESTION = 4_000

FilterValue = str | tuple[str, ...]
ShortText = Annotated[str, StringConstraints(max_length=200)]
ConversationId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]


class Body(BaseModel):
    """Base of every request body."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_nul(cls, value: Any) -> Any:
        if isinstance(value, str) and "\x00" in value:
            raise ValueError("holds a NUL character; remove it")
        return value


class Status(StrEnum):
    """How a question was answered."""

    ANSWERED = "answered"
    ABSTAINED = "abstained"
    CLARIFY = "clarify"
    ESCALATED = "escalated"
    FALLBACK = "fallback"


class Label(StrEnum):
    """Why an answer failed."""

    MISSING_KNOWLEDGE = "missing_knowledge"
    STALE_KNOWLEDGE = "stale_knowledge"
    WRONG_RETRIEVAL = "wrong_retrieval"
    HALLUCINATION = "hallucination"
    BAD_FORMAT = "bad_format"
    WRONG_TONE = "wrong_tone"
    WEAK_REASONING = "weak_reasoning"
    POLICY_VIOLATION = "policy_violation"
    UNDETERMINED = "undetermined"


# ---- requests ----


class PinnedPassage(Body):
    """A passage given by the caller in place of retrieval."""

    title: str = Field(max_length=300, description="Title as the prompt shows it.")
    text: str = Field(min_length=1, max_length=20_000, description="Text that the answer may use.")


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
    as_of: date | None = Field(default=None, description="Day whose facts count.", examples=["2026-01-31"])
    context: (
        Literal["none"] | Annotated[tuple[PinnedPassage, ...], Field(min_length=1, max_length=20)] | None
    ) = Field(
        default=None,
        description='`"none"`: no retrieval, prompt only. A list: exactly these passages (oracle).',
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
        default_factory=dict, max_length=20, description="Metadata field -> value, or several of them."
    )
    stream: bool = Field(default=False, description="Send server-sent events instead of one JSON body.")
    pin: Pin | None = Field(default=None, description="Versions and context to use; scope `eval` only.")


class HistoryMessage(Body):
    """An earlier message of the conversation."""

    role: Literal["user", "assistant"]
    content: str = Field(min_length=1, max_length=8_000)


class SearchBody(Body):
    """A search without an answer."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"question": "refund after a yearly renewal", "k": 5}]}
    )

    question: str = Field(min_length=1, max_length=MAX_QUESTION)
    k: int = Field(default=8, ge=1, le=50, description="Hits wanted.")
    filters: dict[ShortText, FilterValue] = Field(default_factory=dict, max_length=20)
    conversation_id: ConversationId | None = None
    as_of: date | None = Field(
        default=None, description="Day whose facts count; today if not given; scope `eval` or `review` only."
    )
    version: str | None = Field(
        default=None,
        pattern=r"^k-[A-Za-z0-9._-]+(@\d+)?$",
        description="Knowledge version, with `@<snapshot>` for a point in time; scope `eval` only.",
    )


class FeedbackBody(Body):
    """What somebody says about an answer. The last word of each API key counts; sending it again changes
    nothing."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "turn_id": "019a8f3e-7c00-7000-8000-000000000000",
                    "rating": "down",
                    "comment": "That is the old price.",
                    "label": "stale_knowledge",
                }
            ]
        }
    )

    turn_id: UUID = Field(description="`id` of the answer.")
    rating: Literal["up", "down"] | None = None
    comment: str | None = Field(default=None, max_length=4_000)
    corrected_answer: str | None = Field(
        default=None, max_length=8_000, description="What it should have said."
    )
    label: Label | None = Field(default=None, description="Cause of the failure, if known.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.rating or self.comment or self.corrected_answer or self.label):
            raise ValueError("holds no feedback; give rating, comment, corrected_answer or label")
        return self


Force = Annotated[
    bool,
    Field(
        description="Model only: move although no engine lists the version. The fallback answers until then."
    ),
]


class UndoBody(Body):
    """What to undo on the knowledge rail; the model rail has one kind only.

    `expected_...` is what the caller saw in `GET /v1/rails`: if the rail has moved since, nothing is undone,
    so that a request that is sent again does not undo the undo.
    """

    what: Literal["publish", "version"] | None = Field(
        default=None,
        description="Knowledge only: undo the last publish or the last version; else the later of both.",
    )
    expected_revision: int | None = Field(
        default=None, ge=0, description="`revision` of the pointer as seen."
    )
    expected_snapshot: int | None = Field(
        default=None, ge=0, description="Knowledge only: the live snapshot as seen."
    )
    force: Force = False


class CanaryBody(Body):
    """A version that gets part of the traffic."""

    version: str | None = Field(max_length=200, description="Version id; null ends the canary.")
    weight_bp: int = Field(ge=0, le=10_000, description="Share in basis points: 500 is 5 %.")
    force: Force = False


class PromoteBody(Body):
    """The version that becomes stable."""

    version: str = Field(min_length=1, max_length=200)
    force: Force = False


# ---- responses ----


class Citation(BaseModel):
    """A verbatim span of a stored document that supports a claim of the answer."""

    n: int = Field(description="Number of the hit.")
    document_id: str
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
    model: str | None = Field(description="`m-<name>-<sha8>`")
    prompt: str | None


class Arms(BaseModel):
    """The arm of each rail."""

    knowledge: str
    model: str


class Usage(BaseModel):
    """Tokens, of all generations of the turn."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


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
                        "prompt": "support_short",
                    },
                    "arms": {"knowledge": "stable", "model": "stable"},
                    "degraded": [],
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
    degraded: list[str] = Field(description="What did not work fully: retrieval, generation, ...")
    usage: Usage
    timings_ms: dict[str, float]
    trace_id: str


class SearchHit(BaseModel):
    """A chunk with its scores; higher is better."""

    rank: int
    document_id: str
    title: str
    url: str
    heading_path: list[str]
    text: str
    start: int
    end: int
    score: float
    dense_score: float
    lexical_score: float
    effective_from: date | None
    effective_to: date | None
    metadata: dict[str, str]


class SearchResponse(BaseModel):
    """Hits, best first, and how they were found."""

    hits: list[SearchHit]
    version: str
    snapshot: int
    arm: str
    confidence: float
    mode: str
    candidates: int
    underfilled: bool
    degraded: list[str]
    timings_ms: dict[str, float]
    trace_id: str


class FeedbackView(BaseModel):
    """Feedback as it is stored."""

    turn_id: UUID
    rating: str | None
    comment: str | None
    corrected_answer: str | None
    label: str | None
    created_at: datetime
    updated_at: datetime


class TurnView(BaseModel):
    """A turn as it is stored."""

    id: UUID
    conversation_id: str
    surface: str
    status: str = Field(description="A status of an answer, or client_cancelled, failed, rejected.")
    question: str
    pinned: bool
    versions: Versions
    arms: Arms
    degraded: list[str]
    trace_id: str
    created_at: datetime
    finished_at: datetime
    ticket: str | None = Field(description="Why a person has to look at it, if so.")
    answer: dict[str, Any] | None
    used: dict[str, Any] = Field(description="Hits, prompt, drafts, checks, timings, usage, problem.")
    feedback: list[FeedbackView] = Field(default_factory=list)


class DraftRow(BaseModel):
    """A generation of a turn, without its text."""

    attempt: str = Field(description="first, repair or fallback")
    model: str
    failure: str | None = Field(description="Why it was not used, if it was not.")


class TurnRow(BaseModel):
    """A turn at a glance; `GET /v1/turns/{id}` has the rest."""

    id: UUID
    created_at: datetime
    status: str = Field(description="A status of an answer, or client_cancelled, failed, rejected.")
    question: str = Field(description="Its first 200 characters.")
    pinned: bool
    versions: Versions
    arms: Arms
    confidence: Confidence
    hits: int = Field(description="How many retrieval found.")
    drafts: list[DraftRow]
    degraded: list[str]
    problem: str | None = Field(description="Title of the problem that the caller got, if any.")
    usage: Usage
    timings_ms: dict[str, float]
    ticket: str | None = Field(description="Why a person has to look at it, if so.")
    trace_id: str


class TurnList(BaseModel):
    """The latest turns, newest first."""

    turns: list[TurnRow]


class UndoTo(BaseModel):
    """What takes traffic after an undo of the version."""

    stable: str
    canary: str | None
    canary_weight_bp: int


class PointerView(BaseModel):
    """What is live on a rail."""

    rail: str
    stable: str | None
    canary: str | None
    canary_weight_bp: int
    previous: str | None
    shadow: str | None
    fallback: str | None = None
    undo_to: UndoTo | None = Field(
        description="What an undo of the version brings back; null: nothing to undo."
    )
    revision: int
    snapshot: int | None = Field(
        default=None, description="Live snapshot of the key's tenant; knowledge only."
    )


class RailList(BaseModel):
    """Both rails."""

    rails: list[PointerView]


class VersionView(BaseModel):
    """A version of a rail."""

    id: str
    name: str
    state: str
    details: dict[str, Any]


class VersionList(BaseModel):
    """The versions of a rail."""

    rail: str
    versions: list[VersionView]


class ModelCard(BaseModel):
    """A model as the OpenAI API lists it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "twinrail"


class ModelList(BaseModel):
    """Names that the `model` field accepts."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


AnswerRequest.model_rebuild()
