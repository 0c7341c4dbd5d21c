"""Rows of a tuning dataset as questions: what is asked, what is shown, and the JSON that is wanted.

The same lines are trained on elsewhere; here those of `test.jsonl`, which nobody has trained on, judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from eval.errors import CaseFileError
from eval.lines import Places, parse_line, read_lines
from eval.sets.telling_values import facts_of

#: Fields of the wanted JSON that are judged in a way of their own: by facts, and by quotes.
_TEXT_FIELDS = ("answer", "citations", "follow_up")
_NOT_IN_HELP_CENTRE = "not_in_help_centre"
_FORMAT_PAGE = "docs/tuning.md"


class _RowPassage(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    title: str
    text: str = Field(min_length=1)
    effective_from: str | None = None


class _RowSaid(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    role: str
    text: str


class TaskRow(BaseModel):
    """One line of `train.jsonl`, `valid.jsonl` or `test.jsonl`."""

    model_config = ConfigDict(extra="ignore", strict=True)

    id: str = ""
    question: str
    #: What was said before, oldest first.
    history: tuple[_RowSaid, ...] = ()
    passages: tuple[_RowPassage, ...]
    wanted: dict[str, Any]
    task: str = ""
    kind: str = ""
    group: str = ""
    cluster: str = ""
    at: str = ""
    #: Values that were right once and must not come back.
    stale_values: tuple[str, ...] = ()
    #: Sentences that must be there word for word.
    required: tuple[str, ...] = ()

    @property
    def topic(self) -> str:
        """What it is a draw of: rows about one thing fail together."""
        return self.cluster or self.group or self.id

    @property
    def fields(self) -> Mapping[str, Any]:
        """The wanted fields that are right or wrong as they stand."""
        return {name: value for name, value in self.wanted.items() if name not in _TEXT_FIELDS}

    @property
    def status(self) -> Literal["answered", "abstained", "escalated"]:
        """How the gateway will end a turn with this JSON."""
        if self.wanted.get("escalation_reason") == _NOT_IN_HELP_CENTRE and not self.wanted.get("citations"):
            return "abstained"
        return "escalated" if self.wanted.get("escalate") is True else "answered"

    def facts(self) -> tuple[tuple[str, ...], ...]:
        """The values that the wanted text tells and the question does not hold: what a program can check."""
        text = str(self.wanted.get("answer") or "")
        return tuple(row for fact in facts_of(text, besides=self.question) for row in fact.spellings())


def read_task_rows(file: Path) -> Iterator[TaskRow]:
    """The rows of a file, each with an id."""
    seen = Places()
    for number, line in read_lines(file):
        row = parse_line(TaskRow, file, number, line, format_page=_FORMAT_PAGE)
        row = row.model_copy(update={"id": row.id or f"{file.stem}-{number}"})
        seen.add(file, number, row.id)
        for field, empty in (("question", not row.question.strip()), ("wanted", not row.wanted)):
            if empty:
                raise CaseFileError(file=file, line=number, field=field, what="is empty", fix="fill it in")
        yield row
