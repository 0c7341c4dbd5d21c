"""Bodies of `/v1/reviews`."""

from __future__ import annotations

from datetime import datetime
from typing import Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gateway.reviewing import Reason, ReviewEnding, ReviewState
from gateway.schemas.feedback import Label
from gateway.schemas.fields import Body, ShortText
from gateway.schemas.labels import Detail


class AskBody(Body):
    """A turn that somebody should look at."""

    turn_id: UUID
    reason: Reason = Field(description="Any but `sample`, which the gateway draws.")

    @field_validator("reason")
    @classmethod
    def _is_not_drawn(cls, reason: Reason) -> Reason:
        """Rates over live traffic stand on the sample: a turn that somebody chose would bend them."""
        if reason is Reason.SAMPLE:
            raise ValueError("sample is drawn by the gateway alone; name another reason")
        return reason


class ReadingBody(Body):
    """What a reader says of a turn: its cause, and the one thing that becomes of it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"ending": "knowledge_gap", "label": "missing_knowledge", "note": "No article."}]
        }
    )

    ending: ReviewEnding
    label: Label | None = Field(default=None, description="The cause; null: the answer is right.")
    sub: ShortText = Field(default="", description="Sub-code of the label.")
    note: Detail = ""
    corrected_answer: str | None = Field(
        default=None, max_length=8_000, description="What it should have said."
    )
    settles: bool = Field(
        default=False, description="Decide a dispute, or correct a closed review; the readings are kept."
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.ending is ReviewEnding.NO_FAULT and (self.label or self.corrected_answer):
            raise ValueError("no_fault has neither label nor corrected_answer; leave them out")
        if self.sub and self.label is None:
            raise ValueError("sub needs a label; give label")
        return self


class Proposal(BaseModel):
    """The newest automatic label."""

    label: str | None = Field(description="Null: it passed.")
    sub: str
    rule: str
    criteria: str


class ReviewRow(BaseModel):
    """A review at a glance. What it was closed with is null until then."""

    id: UUID = Field(description="That of the turn.")
    state: ReviewState
    reasons: list[Reason]
    ticket: str = Field(description="The first reason in detail.")
    question: str
    status: str = Field(description="How the turn ended.")
    asked_at: datetime
    cluster: str
    proposed: Proposal | None = Field(description="Null: nothing has labelled the turn.")
    read_by_me: bool
    readers: int
    ending: ReviewEnding | None
    label: str | None
    sub: str | None
    note: str | None
    corrected_answer: str | None
    closed_by: str | None
    closed_at: datetime | None
    reopened_at: datetime | None = Field(
        description="When changed criteria gave it another cause after it was closed."
    )


class ReadingView(BaseModel):
    """A reading as it is stored."""

    reader: str = Field(description="Name of the key.")
    mine: bool
    ending: ReviewEnding
    label: str | None
    sub: str
    note: str
    corrected_answer: str | None
    settles: bool
    created_at: datetime


class ReviewView(ReviewRow):
    """A review with its readings: while a second reader is awaited, one's own only."""

    readings: list[ReadingView]


class Agreement(BaseModel):
    """How often two agree: `same_...` of `read_twice`, and the people with the automatic label."""

    read_twice: int
    same_label: int
    same_ending: int
    proposed: int = Field(description="Closed reviews with an automatic label.")
    accepted: int = Field(description="Those of them that ended with that label.")


class Progress(BaseModel):
    """How far the reviews are that the filters leave, in any state."""

    total: int
    open: int
    second: int
    disputed: int
    closed: int
    endings: dict[ReviewEnding, int]
    agreement: Agreement


class ReviewList(BaseModel):
    """Reviews, oldest first."""

    reviews: list[ReviewRow]
    progress: Progress | None = Field(default=None, description="null where nothing was counted.")
    clusters: list[str] | None = Field(default=None, description="Clusters that the queue knows.")


class GapQuestion(BaseModel):
    """A question that no article answers."""

    id: UUID
    question: str
    asked_at: datetime
    note: str | None
    corrected_answer: str | None


class Gap(BaseModel):
    """A missing article: what it has to answer."""

    name: str = Field(description="The cluster, else the title of the article that came closest.")
    nearest_document_id: str | None = Field(description="The article that came closest to the first one.")
    questions: list[GapQuestion]
    draft: str = Field(description="The list as Markdown, for the content owner.")


class GapList(BaseModel):
    """Missing articles, the most wanted first."""

    gaps: list[Gap]
