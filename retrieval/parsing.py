"""Files to documents: Markdown, HTML and text with optional front matter, and rows of a JSONL corpus."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import PurePosixPath
from typing import Any

import yaml

from retrieval.chunking import Block
from retrieval.documents import Document, is_storable
from retrieval.errors import UnparsableDocumentError
from retrieval.markup import Text, read_html, read_markdown, read_plain

READERS = {
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".html": read_html,
    ".htm": read_html,
    ".txt": read_plain,
}
AUDIENCES: Mapping[str, tuple[str, ...]] = {"public": ("public",), "internal": ("staff",)}
LONGEST_ID = 200

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_BARE_LINE = re.compile(r"^([A-Za-z_][\w-]*):[ \t]+([^\"'\[{|>&*!#\n][^\n]*: [^\n]*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedDocument:
    """A document with the structure of its text and the file it came from."""

    document: Document
    blocks: tuple[Block, ...]
    origin: str

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


def parse_file(name: str, content: bytes) -> ParsedDocument:
    """One Markdown, HTML or text file. `name`, its path in the source, is the id unless it states one."""
    path = PurePosixPath(name)
    text = _decode(name, content)
    fields, body = _front_matter(name, text)
    read = READERS[path.suffix.lower()](body)
    fields.setdefault("id", str(path.with_suffix("")))
    fields.setdefault("title", read.first_heading or path.stem.replace("-", " ").replace("_", " "))
    return _document(name, fields, read)


def parse_row(name: str, row: object) -> ParsedDocument:
    """One row `{id, title, text, metadata}` of a JSONL corpus; the text is read as Markdown."""
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
    fields = {**metadata, **{key: row[key] for key in row.keys() - {"text", "metadata"}}}
    for field, value in {**fields, "text": row["text"]}.items():
        _check_storable(name, field, _plain(value))
    read = read_markdown(row["text"])
    if not fields.get("title"):
        fields["title"] = read.first_heading or row["id"]
    return _document(name, fields, read)


def _decode(name: str, content: bytes) -> str:
    if b"\x00" in content:
        raise UnparsableDocumentError(name, "content", "is binary", "remove the file or convert it to text")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as exc:
        problem = f"is not UTF-8 text (byte {exc.start})"
        raise UnparsableDocumentError(name, "content", problem, "save the file as UTF-8") from exc


def _front_matter(name: str, text: str) -> tuple[dict[str, Any], str]:
    """The fields between `---` lines, and what follows them."""
    match = _FRONT_MATTER.match(text)
    if match is None:
        if re.match(r"---[ \t]*\n[A-Za-z_][\w-]*:", text):
            raise UnparsableDocumentError(
                name, "front matter", "has no closing --- line", "add one after the last field"
            )
        return {}, text
    try:
        fields = _yaml(match.group(1))
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f" (line {mark.line + 2})" if mark else ""
        problem = f"is not valid YAML{where}"
        raise UnparsableDocumentError(
            name, "front matter", problem, "write one `field: value` a line"
        ) from exc
    if fields is None:
        fields = {}
    if not isinstance(fields, dict):
        raise UnparsableDocumentError(
            name, "front matter", "has no fields", "write one `field: value` a line"
        )
    return {str(key): value for key, value in fields.items()}, text[match.end() :]


def _yaml(text: str) -> Any:
    """YAML, but a bare value with a colon in it (`title: Plus: price`), as people write it, is a string."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        quoted = _BARE_LINE.sub(
            lambda line: f"{line[1]}: {json.dumps(line[2].strip(), ensure_ascii=False)}", text
        )
        if quoted == text:
            raise
        return yaml.safe_load(quoted)


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
    document = Document(
        id=document_id,
        title=title,
        text=read.text,
        principals=_principals(name, fields),
        url=str(fields.pop("url", "") or ""),
        language=str(fields.pop("language", None) or "en"),
        effective_from=effective_from,
        effective_to=effective_to,
        metadata={key: _plain(value) for key, value in sorted(fields.items()) if value is not None},
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


def _plain(value: object) -> str:
    """Metadata are strings; lists and objects keep their JSON form."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
