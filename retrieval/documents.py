"""What goes into the knowledge rail: who may see a document, and the document itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

LONGEST_ID = 200
#: What a metadata field holds: the JSON types but objects and null; a list is of strings, kept as a tuple.
MetadataValue = str | int | float | bool | tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Whose eyes a search uses. Comes from the API key, never from a request body."""

    tenant: str
    #: Names such as `public` or `staff`; a chunk is visible if it carries at least one of them.
    principals: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TextSpan:
    """A piece of a stored document version's canonical text: `text[start:end]`."""

    document_id: str
    document_version: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What a span stands for now, to the eyes that ask. A version keeps its text byte for byte for ever."""

    #: None when these eyes see no such version: it never was, they may not, or it was erased.
    text: str | None
    #: Whether the version is the live one; None when these eyes see no such version.
    current: bool | None
    #: Since when another version is live in its place; None while it is current, or when nothing is live.
    changed_at: datetime | None
    #: When the document was erased for good.
    erased_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document after parsing, in its canonical text: every offset of the system counts in `text`."""

    id: str
    title: str
    text: str
    #: Principals that may read it, from `audience` or `visibility` (`internal` -> `staff`).
    principals: tuple[str, ...] = ("public",)
    url: str = ""
    language: str = "en"
    effective_from: date | None = None
    #: Last day on which the content was true; later searches skip the document unless `as_of` says otherwise.
    effective_to: date | None = None
    #: Everything else of the front matter, in the types it was written in; filterable.
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)


_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Whether PostgreSQL can hold a text: not a NUL or half of a surrogate pair, which JSON can spell."""
    return _UNSTORABLE.search(text) is None
