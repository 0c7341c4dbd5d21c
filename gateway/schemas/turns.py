"""Bodies of `/v1/turns`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from gateway.schemas.answers import Arms, Confidence, Tried, Usage, Versions
from gateway.schemas.feedback import FeedbackView


class DraftRow(BaseModel):
    """A generation of a turn, without its text."""

    step: str = Field(description="assigned, previous, base or endpoint")
    attempt: str = Field(description="first or repair")
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
    tried: list[Tried] = Field(description="Steps of the model rail that gave no answer, in order.")
    problem: str | None = Field(description="Title of the problem that the caller got, if any.")
    usage: Usage
    timings_ms: dict[str, float]
    ticket: str | None = Field(description="Why a person has to look at it, if so.")
    trace_id: str


class TurnList(BaseModel):
    """The latest turns, newest first."""

    turns: list[TurnRow]


class CitedNow(BaseModel):
    """What a citation of the answer stands for now."""

    n: int
    document_id: str
    current: bool | None = Field(
        description="Whether the document still says what it said; null: this key does not see it, "
        "or the passage was given by the caller."
    )
    changed_at: datetime | None = Field(
        description="When the text that is live now took its place; null: it is current, or nothing is live."
    )
    erased_at: datetime | None = Field(description="When the document was erased for good, if it was.")


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
    cited: list[CitedNow] = Field(
        default_factory=list, description="One for each of `answer.citations`, in their order."
    )
    stale: bool = Field(
        default=False, description="Whether a document that the answer cites has changed since, or is gone."
    )
    used: dict[str, Any] = Field(description="Hits, prompt, drafts, checks, timings, usage, problem.")
    feedback: list[FeedbackView] = Field(default_factory=list)
