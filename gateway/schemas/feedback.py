"""Bodies of `/v1/feedback`."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.schemas.fields import Body


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


class FeedbackView(BaseModel):
    """Feedback as it is stored."""

    turn_id: UUID
    rating: str | None
    comment: str | None
    corrected_answer: str | None
    label: str | None
    created_at: datetime
    updated_at: datetime
