"""Bodies of `/v1/reports` and of the verdicts on versions."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints, field_validator

from gateway.schemas.fields import Body

ReportName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class ReportKind(StrEnum):
    """What a report tells of."""

    RUN = "run"
    GATE = "gate"
    ADVICE = "advice"
    PILOT = "pilot"
    ONLINE = "online"


class PageType(StrEnum):
    """What a page is written in."""

    HTML = "text/html"
    MARKDOWN = "text/markdown"


class ReportPage(Body):
    """A report as people read it. The console shows HTML in a frame that runs no script."""

    type: PageType
    text: Annotated[str, StringConstraints(min_length=1)]

    @field_validator("text")
    @classmethod
    def _can_be_stored(cls, text: str) -> str:
        if "\x00" in text:
            raise ValueError("holds a NUL character; remove it")
        return text


class ReportBody(Body):
    """A report. The name keeps every content that it ever had; the last one is shown."""

    kind: ReportKind
    content: dict[str, Any]
    page: ReportPage | None = Field(default=None, description="No part of the digest.")

    @field_validator("content")
    @classmethod
    def _can_be_stored(cls, content: dict[str, Any]) -> dict[str, Any]:
        if _holds_nul(content):
            raise ValueError("holds a NUL character; remove it")
        return content


class ReportRow(BaseModel):
    """A report without its content."""

    name: str
    kind: ReportKind
    sha256: str = Field(description="Of the content as UTF-8 JSON with sorted keys and no spaces.")
    written_by: str = Field(description="Name of the key.")
    written_at: datetime
    page_type: PageType | None = Field(description="null where there is its content only.")


class ReportView(ReportRow):
    """A report."""

    content: dict[str, Any]
    page: str | None


class ReportList(BaseModel):
    """The newest content of each name, newest first, without it."""

    reports: list[ReportRow]


class Outcome(StrEnum):
    """What a gate says of a version."""

    PASS = "pass"
    REFUSED = "refused"
    NOT_ENOUGH = "not_enough"


class VerdictBody(Body):
    """What a gate says of a version, and where the reasons stand."""

    gate: Annotated[str, StringConstraints(min_length=1, max_length=120)]
    verdict: Outcome
    report: ReportName = Field(description="Name of the report that gives the reasons.")
    sha256: Sha256 = Field(description="Of that report, as `PUT /v1/reports/{name}` replied.")


class VerdictView(BaseModel):
    """A verdict as it is stored."""

    gate: str
    verdict: Outcome
    report: str
    sha256: str
    given_by: str = Field(description="Name of the key.")
    created_at: datetime


class ForcedView(BaseModel):
    """Traffic given against a refusal."""

    gates: list[str] = Field(description="Those that had refused it.")
    forced_by: str = Field(description="Name of the key.")
    created_at: datetime


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(_holds_nul(key) or _holds_nul(each) for key, each in value.items())
    return isinstance(value, list) and any(map(_holds_nul, value))
