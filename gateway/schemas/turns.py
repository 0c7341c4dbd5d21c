"""Bodies of `/v1/turns`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from gateway.schemas.answers import Arms, Confidence, Usage, Versions
from gateway.schemas.feedback import FeedbackView


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
