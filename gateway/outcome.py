"""What a finished draft amounts to: pure decisions on the model's JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator

from gateway.schemas.answers import Status
from serving.wording import Wording

#: Fields of the task schema that the answer body shows in a place of their own.
TEXT_FIELD: Final = "answer"
CITATIONS_FIELD: Final = "citations"
#: A question back; it is the text where the answer is empty.
FOLLOW_UP_FIELD: Final = "follow_up"
_NOT_IN_HELP_CENTRE: Final = "not_in_help_centre"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A draft that fits its task schema."""

    answer: str
    fields: Mapping[str, Any]
    cited: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unfit:
    """A draft that does not, and why."""

    reason: str


def validator_of(schema: Mapping[str, Any]) -> Validator:
    """A validator for a task schema; building one costs more than using it, so keep it with the version."""
    return Draft202012Validator(dict(schema))


def text_field(schema: Mapping[str, Any]) -> str | None:
    """The field whose text is streamed, None where the whole JSON is the answer."""
    return TEXT_FIELD if TEXT_FIELD in schema.get("properties", {}) else None


def parse_draft(text: str, *, validator: Validator, field: str | None) -> Parsed | Unfit:
    """Read a draft as its task schema has it."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        return Unfit(f"not JSON: {exc}")
    problem = next(iter(validator.iter_errors(value)), None)
    if problem is not None:
        return Unfit(f"schema: {problem.json_path}: {problem.message[:200]}")
    if not isinstance(value, dict):
        return Unfit("schema: not an object")
    cited = value.pop(CITATIONS_FIELD, ())
    numbers = tuple(n for n in cited if isinstance(n, int)) if isinstance(cited, list) else ()
    if field is None:
        return Parsed(answer=text, fields=value, cited=numbers)
    return Parsed(answer=str(value.pop(field, "")), fields=value, cited=numbers)


def status_of(parsed: Parsed, *, cited: bool = False, wording: Wording | None = None) -> Status | None:
    """The status that the draft asks for; None if it says nothing at all.

    A supported, cited answer that names `not_in_help_centre` for the rest of the question is no abstention.
    A fixed wording that answers nothing is one, whatever the fields beside it say.
    """
    reason = parsed.fields.get("escalation_reason")
    if reason == _NOT_IN_HELP_CENTRE and not cited:
        return Status.ABSTAINED
    if parsed.fields.get("escalate") is True:
        return Status.ESCALATED
    if wording is not None and not cited and " ".join(parsed.answer.split()) in wording.declining():
        return Status.ABSTAINED
    if parsed.answer.strip():
        return Status.ANSWERED
    return Status.CLARIFY if str(parsed.fields.get(FOLLOW_UP_FIELD) or "").strip() else None


def is_question(text: str) -> bool:
    """Whether a text ends by asking something."""
    return text.rstrip(" \t\n\"')\u201d\u2019").endswith("?")


def text_of(parsed: Parsed, status: Status, wording: Wording) -> str:
    """What the customer reads, never blank: the answer, the question back, or the fixed wording."""
    if parsed.answer.strip():
        return parsed.answer
    if status is Status.CLARIFY:
        return str(parsed.fields[FOLLOW_UP_FIELD]).strip()
    return wording.not_in_help_centre if status is Status.ABSTAINED else wording.passing_on
