"""Fields that an author writes with a document: YAML between `---` lines, or in a sidecar file beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from retrieval.errors import UnparsableDocumentError

#: `guide.pdf` has its fields in `guide.pdf.yaml`.
SIDECAR = ".yaml"
#: Fields that say who may read a document. They are taken from one place together, never mixed.
ACCESS_FIELDS = ("principals", "audience", "visibility")

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_BARE_LINE = re.compile(r"^([A-Za-z_][\w-]*):[ \t]+([^\"'\[{|>&*!#\n][^\n]*: [^\n]*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontMatter:
    """The fields of a text, and the text that follows them."""

    fields: Mapping[str, Any]
    body: str


def split(name: str, text: str) -> FrontMatter:
    """The fields between `---` lines, and what follows them."""
    match = _FRONT_MATTER.match(text)
    if match is None:
        if re.match(r"---[ \t]*\n[A-Za-z_][\w-]*:", text):
            raise UnparsableDocumentError(
                name, "front matter", "has no closing --- line", "add one after the last field"
            )
        return FrontMatter(fields={}, body=text)
    fields = read_fields(name, "front matter", match.group(1), first_line=2)
    return FrontMatter(fields=fields, body=text[match.end() :])


def read_fields(name: str, place: str, text: str, *, first_line: int = 1) -> dict[str, Any]:
    """The fields of YAML text. `place` names it in errors: front matter, or the sidecar."""
    try:
        fields = _yaml(text)
    except (yaml.YAMLError, ValueError) as exc:  # ValueError: a date such as 2026-02-30
        mark = getattr(exc, "problem_mark", None)
        where = f" (line {mark.line + first_line})" if mark else ""
        problem = f"is not valid YAML{where}"
        raise UnparsableDocumentError(name, place, problem, "write one `field: value` a line") from exc
    if fields is None:
        return {}
    if not isinstance(fields, dict):
        raise UnparsableDocumentError(name, place, "has no fields", "write one `field: value` a line")
    return {str(key): value for key, value in fields.items()}


def layered(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of several places; the first place that has one decides.

    Who may read is one decision: a place that says anything of it says all of it.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        decided = any(field in merged for field in ACCESS_FIELDS)
        for field, value in layer.items():
            if value is not None and field not in merged and not (decided and field in ACCESS_FIELDS):
                merged[field] = value
    return merged


def with_names(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a format that has only strings: `principals` names several, with commas between."""
    found = dict(fields)
    if isinstance(named := found.get("principals"), str):
        found["principals"] = [name.strip() for name in re.split("[,;]", named) if name.strip()]
    return found


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
