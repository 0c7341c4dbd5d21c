"""What request bodies have in common: unknown fields are refused, so that no typo is silently ignored."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    field_validator,
)

MAX_QUESTION = 4_000

#: A value, several, or operators such as `{"$gte": 5}`; which fields there are, the knowledge rail knows.
FilterValue = JsonValue
ShortText = Annotated[str, StringConstraints(max_length=200)]
ConversationId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]


def _no_bare_number(value: Any) -> Any:
    """A number in quotes would be read as seconds since 1970."""
    if isinstance(value, str) and value.strip().replace(".", "", 1).isdigit():
        raise ValueError("give a snapshot's number without quotes, or a time such as 2026-01-31T09:00:00Z")
    return value


#: A snapshot's number, or a time with its zone.
AsOf = Annotated[Annotated[int, Field(strict=True, ge=1)] | AwareDatetime, BeforeValidator(_no_bare_number)]


class Body(BaseModel):
    """Base of every request body."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_nul(cls, value: Any) -> Any:
        if isinstance(value, str) and "\x00" in value:
            raise ValueError("holds a NUL character; remove it")
        return value
