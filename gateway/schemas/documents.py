"""Bodies of `/v1/documents` and `/v1/jobs`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from gateway.schemas.fields import Body, ShortText
from retrieval.documents import LONGEST_ID
from retrieval.jobs import Job
from retrieval.stored import History, ListedDocument, StoredDocument

#: Documents that one request may write and take away.
MAX_BATCH = 1_000
#: How far the clock of whoever sends documents may be ahead of ours.
CLOCKS_APART = timedelta(minutes=1)

DocumentId = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_ID)]
Principal = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
FieldName = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Source = Annotated[
    ShortText,
    Field(min_length=1, description="Source that the documents belong to; those of others are left alone."),
]
FieldValue = str | int | float | bool | list[str]


class DocumentBody(Body):
    """One document. Its id stands in the path."""

    # The text is kept as it is: blanks mean something in Markdown.
    model_config = ConfigDict(str_strip_whitespace=False)

    text: str = Field(min_length=1, description="The whole document.")
    content_type: Literal["text/markdown", "text/html", "text/plain"] = Field(
        default="text/markdown", description="What the text is written in."
    )
    title: str | None = Field(
        default=None, max_length=500, description="The first heading, else the id, if left out."
    )
    url: str | None = Field(default=None, max_length=2_000, description="Where a reader finds the original.")
    language: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*$",
        description="Such as `en` or `pt-BR`.",
    )
    effective_from: date | None = Field(default=None, description="First day on which it is true.")
    effective_to: date | None = Field(default=None, description="Last day on which it is true.")
    modified_at: AwareDatetime | None = Field(
        default=None,
        description="When it was changed in its source: the lag until it is searchable counts from then on.",
    )
    audience: Literal["public", "internal"] | None = Field(
        default=None, description="`internal` is for keys with the principal `staff`."
    )
    principals: Annotated[list[Principal], Field(min_length=1, max_length=100)] | None = Field(
        default=None, description="Who may read it, instead of `audience`; everybody if both are left out."
    )
    metadata: Annotated[dict[FieldName, FieldValue], Field(max_length=100)] = Field(
        default_factory=dict, description="Further fields, for filters."
    )

    @field_validator("text")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("is blank; to take a document away, delete it")
        return value

    @field_validator("modified_at")
    @classmethod
    def _not_in_future(cls, value: datetime | None) -> datetime | None:
        if value is not None and value > datetime.now(UTC) + CLOCKS_APART:
            raise ValueError("is in the future; send the time at which the source was changed")
        return value

    @field_validator("metadata")
    @classmethod
    def _only_further_fields(cls, value: dict[str, FieldValue]) -> dict[str, FieldValue]:
        if taken := sorted(value.keys() & (cls.model_fields.keys() | {"id", "visibility"})):
            raise ValueError(f"{taken[0]} is a field of the document itself; write it beside metadata")
        return value

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.effective_from and self.effective_to and self.effective_to < self.effective_from:
            raise ValueError("effective_to is before effective_from; swap or correct the dates")
        if self.audience and self.principals:
            raise ValueError("audience and principals both say who may read it; leave one out")
        return self

    def content(self) -> dict[str, Any]:
        """What a job keeps of it."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"source", "id"})


class PutBody(DocumentBody):
    """One document and the source that it belongs to."""

    source: Source = "api"


class Upsert(DocumentBody):
    """One document of a batch."""

    id: DocumentId


class BatchBody(Body):
    """Documents to write and to take away, in one publish."""

    source: Source = "api"
    upserts: list[Upsert] = Field(default_factory=list, max_length=MAX_BATCH)
    deletes: list[DocumentId] = Field(
        default_factory=list, max_length=MAX_BATCH, description="Ids; one that is not there changes nothing."
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        named = [
            *((f"upserts.{number}.id", upsert.id) for number, upsert in enumerate(self.upserts)),
            *((f"deletes.{number}", document_id) for number, document_id in enumerate(self.deletes)),
        ]
        if not named:
            raise ValueError("upserts and deletes are both empty; name at least one document")
        if len(named) > MAX_BATCH:
            raise ValueError(f"holds {len(named)} documents; send at most {MAX_BATCH} at a time")
        seen: dict[str, str] = {}
        for place, document_id in named:
            if seen.setdefault(document_id, place) != place:
                raise ValueError(
                    f"{place}: {document_id!r} is named in {seen[document_id]} too; send it once"
                )
        return self


class JobError(BaseModel):
    """Why a job failed, or waits for another attempt."""

    type: str
    field: str | None
    problem: str
    fix: str | None


class JobView(BaseModel):
    """A job."""

    id: UUID
    state: str = Field(description="queued, running, paused, done, failed or cancelled")
    kind: str = Field(description="documents, source or build")
    source: str = Field(description="Source of the documents; of a build, the index version.")
    stage: str = Field(description="What it is at: read, embed, publish; empty before.")
    done: int
    total: int = Field(description="Of the stage; 0 while it is not known.")
    attempts: int
    error: JobError | None
    report: dict[str, Any] | None = Field(description="What it did, with `failures`: documents left out.")
    snapshot: int | None = Field(description="The snapshot that shows its documents.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, job: Job) -> Self:
        """What a caller sees of a job."""
        return cls.model_validate(job, from_attributes=True)


class JobList(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobView]


class DocumentView(BaseModel):
    """The live version of a document."""

    id: str
    source: str
    version: int
    snapshot: int = Field(description="Since which it is live.")
    title: str
    text: str = Field(description="Canonical text: what citations count in.")
    url: str
    language: str
    effective_from: date | None
    effective_to: date | None
    principals: list[str]
    metadata: dict[str, FieldValue]
    created_at: datetime

    @classmethod
    def of(cls, document: StoredDocument) -> Self:
        """What a caller sees of a document."""
        return cls.model_validate(document, from_attributes=True)


class ReleaseView(BaseModel):
    """Snapshots that show a version."""

    born: int
    died: int | None = Field(description="The first snapshot without it; null: still there.")


class PastVersionView(BaseModel):
    """A version of a document, live or not."""

    version: int
    title: str
    text: str
    effective_from: date | None
    effective_to: date | None
    releases: list[ReleaseView] = Field(description="Empty: taken in and never published.")


class DocumentRow(BaseModel):
    """A live document at a glance."""

    id: str
    title: str
    effective_from: date | None
    effective_to: date | None


class DocumentList(BaseModel):
    """Live documents, by id."""

    documents: list[DocumentRow]

    @classmethod
    def of(cls, listed: Sequence[ListedDocument]) -> Self:
        """What a caller sees of a listing."""
        return cls(documents=[DocumentRow.model_validate(each, from_attributes=True) for each in listed])


class HistoryView(BaseModel):
    """All that a document ever said, oldest first."""

    id: str
    head: int = Field(description="The snapshot that is live now.")
    versions: list[PastVersionView]

    @classmethod
    def of(cls, history: History) -> Self:
        """What a caller sees of a history."""
        return cls.model_validate(history, from_attributes=True)
