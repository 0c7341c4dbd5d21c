"""What request bodies have in common: unknown fields are refused, so that no typo is silently ignored."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)

MAX_QUESTION = 4_000

#: A value, several, or operators such as `{"$gte": 5}`; which fields there are, the knowledge rail knows.
FilterValue = JsonValue
ShortText = Annotated[str, StringConstraints(max_length=200)]
ConversationId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]


def _one_problem(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """One problem with the field's own name, in place of one for each member of the union. Any number that is
    no snapshot's, in quotes or not, would be read as seconds since 1970."""
    number = str(value).strip().lstrip("-").replace(".", "", 1).isdigit()
    if not number or (isinstance(value, int) and value > 0):
        try:
            return check(value)
        except ValidationError:
            pass
    raise ValueError(
        "give a snapshot's number from 1 on, without quotes, "
        "or a time with its zone such as 2026-01-31T09:00:00Z"
    )


#: A snapshot's number, or a time with its zone.
AsOf = Annotated[Annotated[int, Field(strict=True, ge=1)] | AwareDatetime, WrapValidator(_one_problem)]

#: Bounds of a list, by the time of the question.
Since = Annotated[
    AwareDatetime | None, Query(description="Only what was asked at this time or later; with its zone.")
]
Until = Annotated[AwareDatetime | None, Query(description="Only what was asked before this time.")]


class Body(BaseModel):
    """Base of every request body."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_nul(cls, value: Any) -> Any:
        if isinstance(value, str) and "\x00" in value:
            raise ValueError("holds a NUL character; remove it")
        return value
