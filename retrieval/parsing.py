"""Files to documents, each kind by its reader; rows of a corpus to documents."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

from retrieval import front_matter
from retrieval.canonical import Text, read_plain
from retrieval.chunking import Block
from retrieval.documents import LONGEST_ID, Document, MetadataValue, is_storable
from retrieval.encodings import decode
from retrieval.errors import UnparsableDocumentError
from retrieval.front_matter import layered
from retrieval.limits import DEFAULT_LIMITS, ReadLimits
from retrieval.markup import read_html, read_markdown
from retrieval.tables import read_table

READERS = {
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".html": read_html,
    ".htm": read_html,
    ".txt": read_plain,
}
#: Readers of texts that come with a content type instead of a file name.
CONTENT_TYPES = {"text/markdown": read_markdown, "text/html": read_html, "text/plain": read_plain}
TABLES = (".csv", ".tsv")
#: Suffixes of the files that `parse_file` reads.
KINDS = (*READERS, *TABLES, ".pdf", ".docx")
AUDIENCES: Mapping[str, tuple[str, ...]] = {"public": ("public",), "internal": ("staff",)}
#: Whole numbers beyond 64 bits lose digits in most programs that read JSON.
LARGEST_NUMBER = 2**63
NO_FIELDS: Mapping[str, Any] = MappingProxyType({})
#: What of a request's document says how to read it, or is kept elsewhere.
_NOT_FIELDS = frozenset({"text", "content_type", "metadata", "modified_at"})

_NO_TITLE = re.compile(
    r"(?:document|word document|untitled|title|new page|presentation)\s*\d*|.*\.[a-z]{2,4}x?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedDocument:
    """A document with the structure of its text and the file it came from."""

    document: Document
    blocks: tuple[Block, ...]
    origin: str
    #: When it was changed in its source, where that is known.
    modified_at: datetime | None = None

    @property
    def file(self) -> str:
        """The file, without the line number of a corpus row."""
        return self.origin.partition(":")[0]

    @property
    def content_hash(self) -> str:
        """Equal when nothing has changed. Principals are not part of it: they are not versioned."""
        document = self.document
        parts = [document.title, document.text, document.url, document.language]
        parts += [str(document.effective_from), str(document.effective_to)]
        parts.append(json.dumps(dict(sorted(document.metadata.items())), ensure_ascii=False))
        parts.append(json.dumps([block.row() for block in self.blocks]))
        return hashlib.sha256("\x00".join(parts).encode()).hexdigest()


def parse_file(
    name: str,
    content: bytes,
    *,
    sidecar: Mapping[str, Any] = NO_FIELDS,
    limits: ReadLimits = DEFAULT_LIMITS,
) -> ParsedDocument:
    """One file as one document. `name`, its path in the source, is the id unless it states one.

    What an author wrote for us into the document counts before the sidecar, and that before what the
    format says by itself, because programs leave titles such as `Document1` there.
    """
    path = PurePosixPath(name)
    limits.check_size(name, len(content))
    read, fields = _read(name, content, limits)
    limits.check_unpacked(name, len(read.text))
    named = {"id": str(path.with_suffix("")), "title": _title(read, path), "language": _language(read)}
    return _document(name, layered(fields, read.fields, sidecar, named), read)


def parse_row(name: str, row: object, *, sidecar: Mapping[str, Any] = NO_FIELDS) -> ParsedDocument:
    """One row `{id, title, text, metadata}` of a corpus; the text is read as Markdown."""
    if not isinstance(row, dict):
        raise UnparsableDocumentError(
            name, "row", "is not a JSON object", 'write {"id": ..., "title": ..., "text": ...}'
        )
    for field in ("id", "text"):
        if not isinstance(row.get(field), str):
            raise UnparsableDocumentError(name, field, "is missing or not a string", "give each row one")
    metadata = row.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise UnparsableDocumentError(name, "metadata", "is not a JSON object", "write names with values")
    own = {**metadata, **{key: row[key] for key in row.keys() - {"text", "metadata"}}}
    _check_storable(name, "text", row["text"])
    read = read_markdown(row["text"])
    named = {"title": read.first_heading or row["id"]}
    return _document(name, layered({**own, "title": own.get("title") or None}, sidecar, named), read)


def parse_content(
    document_id: str, content: Mapping[str, Any], *, limits: ReadLimits = DEFAULT_LIMITS
) -> ParsedDocument:
    """A document of a request: `text` of a `content_type`, `metadata`, and the fields of a row.

    `modified_at` says when it was changed in its source.
    """
    text = content.get("text")
    if not isinstance(text, str):
        raise UnparsableDocumentError(document_id, "text", "is missing or not a string", "send one")
    _check_storable(document_id, "text", text)
    limits.check_size(document_id, len(text.encode()))
    read = CONTENT_TYPES[content.get("content_type", "text/markdown")](text)
    limits.check_unpacked(document_id, len(read.text))
    own = {key: value for key, value in content.items() if key not in _NOT_FIELDS}
    title = _title(read, PurePosixPath(document_id))
    own["id"] = document_id
    named = {"title": title, "language": _language(read)}
    fields = layered(own, content.get("metadata") or {}, read.fields, named)
    modified_at = _time(document_id, "modified_at", content.get("modified_at"))
    return replace(_document(document_id, fields, read), modified_at=modified_at)


def parse_text(origin: str, text: str, fields: Mapping[str, Any], *, markdown: bool) -> ParsedDocument:
    """A text that came from elsewhere than a file, with its fields; `id` is one of them."""
    _check_storable(origin, "text", text)
    read = read_markdown(text) if markdown else read_plain(text)
    named = {"title": _title(read, PurePosixPath(str(fields["id"])))}
    return _document(origin, layered({**fields, "title": fields.get("title") or None}, named), read)


def _read(name: str, content: bytes, limits: ReadLimits) -> tuple[Text, Mapping[str, Any]]:
    """The text of a file, and the fields of its front matter where its kind has one."""
    kind = PurePosixPath(name).suffix.lower()
    if kind == ".pdf":
        from retrieval.pdf import read_pdf  # weighs too much for a gateway, which reads no files

        return read_pdf(name, content, limits), NO_FIELDS
    if kind == ".docx":
        from retrieval.docx import read_docx

        return read_docx(name, content, limits), NO_FIELDS
    text = decode(name, content)
    if kind in TABLES:
        return read_table(name, text), NO_FIELDS
    front = front_matter.split(name, text)
    return READERS[kind](front.body), front.fields


def _title(read: Text, path: PurePosixPath) -> str:
    """The stated title without the site's name, where the first heading says which part of it that is."""
    stated, heading = str(read.properties.get("title") or "").strip(), read.first_heading
    if _NO_TITLE.fullmatch(stated):
        stated = ""
    if heading and heading.casefold() in (stated or heading).casefold():
        return heading
    return stated or heading or path.stem.replace("-", " ").replace("_", " ")


def _language(read: Text) -> str | None:
    """The language without its country, as front matter has it: `en` of `en-US`."""
    stated = re.match(r"[A-Za-z]{2,3}(?![A-Za-z])", str(read.properties.get("language") or ""))
    return stated[0].lower() if stated else None


def _document(name: str, fields: dict[str, Any], read: Text) -> ParsedDocument:
    if not read.text.strip():
        raise UnparsableDocumentError(name, "content", "is empty", "write the text or remove the document")
    document_id = str(fields.pop("id")).strip()
    if not document_id or len(document_id) > LONGEST_ID or not document_id.isprintable():
        problem = f"must be 1 to {LONGEST_ID} printable characters"
        raise UnparsableDocumentError(name, "id", problem, "choose a short stable name")
    title = " ".join(str(fields.pop("title")).split())
    effective_from = _date(name, "effective_from", fields.pop("effective_from", None))
    effective_to = _date(name, "effective_to", fields.pop("effective_to", None))
    if effective_from and effective_to and effective_to < effective_from:
        raise UnparsableDocumentError(
            name, "effective_to", "is before effective_from", "swap or correct the dates"
        )
    language = str(fields.pop("language", None) or "en")
    url = str(fields.pop("url", "") or "")
    principals = _principals(name, fields)
    for field, value in (("text", read.text), ("title", title), ("language", language), ("url", url)):
        _check_storable(name, field, value)
    document = Document(
        id=document_id,
        title=title,
        text=read.text,
        principals=principals,
        url=url,
        language=language,
        effective_from=effective_from,
        effective_to=effective_to,
        metadata=_metadata(name, fields),
    )
    return ParsedDocument(document=document, blocks=read.blocks, origin=name)


def _principals(name: str, fields: dict[str, Any]) -> tuple[str, ...]:
    """Who may read it: `principals` as a list, else `audience` or `visibility`. No answer means everybody."""
    given = fields.pop("principals", None)
    if given is not None:
        if (
            not isinstance(given, list)
            or not given
            or not all(isinstance(item, str) and item for item in given)
        ):
            raise UnparsableDocumentError(
                name, "principals", "is not a list of names", "write e.g. [public, staff]"
            )
        if any(len(item) > LONGEST_ID or not is_storable(item) for item in given):
            problem = f"holds a name of more than {LONGEST_ID} characters, or with a NUL"
            raise UnparsableDocumentError(name, "principals", problem, "use the name of a group")
        return tuple(sorted(set(given)))
    for field in ("audience", "visibility"):
        if field in fields:
            principals = AUDIENCES.get(str(fields[field]).strip().lower())
            if principals is None:
                problem = f"{fields[field]!r} is not known"
                raise UnparsableDocumentError(name, field, problem, f"use one of: {', '.join(AUDIENCES)}")
            return principals
    return AUDIENCES["public"]


def _check_storable(name: str, field: str, value: str) -> None:
    if not is_storable(value):
        problem = "contains a NUL character or half of a character pair"
        raise UnparsableDocumentError(name, field, problem, "remove it")


def _date(name: str, field: str, value: object) -> date | None:
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(str(value).strip())
    except ValueError as exc:
        raise UnparsableDocumentError(name, field, f"{value!r} is not a date", "write YYYY-MM-DD") from exc


def _time(name: str, field: str, value: object) -> datetime | None:
    if value is None:
        return None
    fix = "write it with its zone, such as 2026-11-22T20:05:11Z"
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError as exc:
        raise UnparsableDocumentError(name, field, f"{value!r} is not a time", fix) from exc
    if time.tzinfo is None:
        raise UnparsableDocumentError(name, field, f"{value!r} has no zone", fix)
    return time


def _metadata(name: str, fields: Mapping[str, Any]) -> dict[str, MetadataValue]:
    found: dict[str, MetadataValue] = {}
    for field, value in sorted(fields.items()):
        _check_storable(name, field.encode("unicode_escape").decode(), field)
        if value is not None:
            found[field] = _value(name, field, value)
    return found


def _value(name: str, field: str, value: object) -> MetadataValue:
    """A value in its JSON type. Items of a list become strings, and so do dates, which JSON lacks."""
    match value:
        case list() | tuple():
            return tuple(str(_scalar(name, field, item)) for item in value)
        case _:
            return _scalar(name, field, value)


def _scalar(name: str, field: str, value: object) -> str | int | float | bool:
    match value:
        case str():
            _check_storable(name, field, value)
            return value
        case bool():
            return value
        case date():
            return value.isoformat()
        case int() if abs(value) < LARGEST_NUMBER:
            return value
        case float() if math.isfinite(value):
            return value
        case int() | float():
            raise UnparsableDocumentError(name, field, "is too large a number", "write it in quotation marks")
        case _:
            problem = f"holds a nested {'object' if isinstance(value, dict) else type(value).__name__}"
            raise UnparsableDocumentError(
                name, field, problem, "give each value a field of its own, or a list of strings"
            )
