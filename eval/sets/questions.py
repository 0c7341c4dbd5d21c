"""The question-set format: a folder with `questions.jsonl`, one question a line with its gold facts.

A fact carries the days on which it is true, so that one set stays right while prices change: on the day of a
run, facts that hold are expected, and values of facts that have run out are superseded ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from eval.errors import CaseFileError, StorageError
from eval.lines import Places, parse_line, read_lines
from eval.matching import NUMBER_MARK, REGEX_MARK, says
from serving.spelling import tokens
from serving.values import find_values

QUESTIONS = "questions.jsonl"
FORMAT_PAGE = "docs/question-sets.md"

Status = Literal["answerable", "unanswerable", "must_refuse", "must_escalate"]
Split = Literal["train", "dev", "gate", "holdout"]
Match = Literal["exact", "number", "regex", "set"]
STATUSES: tuple[Status, ...] = get_args(Status)
SPLITS: tuple[Split, ...] = get_args(Split)

#: A pattern that finds something in each of these says nothing about an answer.
_UNRELATED = ("The sky is blue today.", "Please call 0 or 17.", "Nein!", "a")
_LONGEST_PATTERN = 500
#: A fact of these words alone is said by nearly every answer.
_EVERYWHERE = frozenset(
    (
        *("a", "an", "and", "are", "be", "can", "for", "i", "in", "is", "it", "of", "on", "or", "our"),
        *("that", "the", "this", "to", "we", "will", "with", "you", "your"),
    )
)

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class GoldFact(BaseModel):
    """One thing that a right answer must say."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    #: exact: one of `values`, each an accepted spelling. number: one of them, compared as a value ($9.00 is
    #: $9). regex: one of them finds something. set: all of them, in any order.
    match: Match = "exact"
    values: tuple[Text, ...] = Field(min_length=1)
    #: Whether the question asks for it. What a good answer adds is a side fact: its absence is no failure.
    vital: bool = True
    #: The document that says it, if known.
    document: str = ""
    #: First and last day on which it is true.
    valid_from: date | None = None
    valid_to: date | None = None

    @model_validator(mode="after")
    def _can_be_right_and_wrong(self) -> Self:
        """Neither every answer nor none may hold the fact."""
        if self.valid_from and self.valid_to and self.valid_to < self.valid_from:
            raise ValueError("valid_to is before valid_from; swap or correct the dates")
        if self.match == "set" and len(set(self.values)) < 2:
            raise ValueError("a set of fewer than two members; use match exact, or add the others")
        for value in self.values:
            if self.match == "number":
                _check_number(value)
            elif self.match == "regex":
                _check_pattern(value)
            elif value.startswith((NUMBER_MARK, REGEX_MARK)):
                raise ValueError(f"{value!r} begins with a mark; set match to number or regex instead")
            elif (words := tokens(value)) and set(words) <= _EVERYWHERE:
                raise ValueError(
                    f"{value!r} stands in nearly every answer; write the words that make it right"
                )
        return self

    def holds_on(self, day: date) -> bool:
        """Whether it is true on a day."""
        return (self.valid_from is None or self.valid_from <= day) and not self.over_on(day)

    def over_on(self, day: date) -> bool:
        """Whether it was true before that day, and is so no more."""
        return self.valid_to is not None and self.valid_to < day

    def spellings(self) -> tuple[tuple[str, ...], ...]:
        """What must stand in an answer, as `eval.matching` takes it: all rows, of each row one spelling."""
        if self.match == "number":
            return (tuple(NUMBER_MARK + value for value in self.values),)
        if self.match == "regex":
            return (tuple(REGEX_MARK + value for value in self.values),)
        if self.match == "set":
            return tuple((value,) for value in self.values)
        return (self.values,)

    def said_in(self, text: str) -> bool:
        """Whether a text says it."""
        return all(any(says(text, spelling) for spelling in row) for row in self.spellings())


def _check_number(value: str) -> None:
    found = find_values(value)
    if not any(letter.isdigit() for letter in value) or not found:
        raise ValueError(
            f"number fact {value!r} holds no number and so matches nothing; write one such as 14 days or $9"
        )
    if len(found) > 1:
        raise ValueError(f"number fact {value!r} holds {len(found)} numbers; write one fact for each")


def _check_pattern(pattern: str) -> None:
    if len(pattern) > _LONGEST_PATTERN:
        raise ValueError(f"a regex of {len(pattern)} characters; write at most {_LONGEST_PATTERN}")
    try:
        compiled = re.compile(pattern, re.IGNORECASE)
    except re.error as exc:
        raise ValueError(f"regex {pattern!r} does not compile ({exc}); correct it") from exc
    if compiled.search(""):
        raise ValueError(
            f"regex {pattern!r} matches the empty string and so every answer; ask for at least one character"
        )
    if all(compiled.search(text) for text in _UNRELATED):
        raise ValueError(f"regex {pattern!r} matches every text; name the value that a right answer holds")


class Said(BaseModel):
    """What was said before the question."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    role: Literal["user", "assistant"]
    text: str


class Question(BaseModel):
    """A question with what is known of its right answer. `status` None: nobody has said yet."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: Text
    text: Text
    #: The day on which it was asked.
    asked_at: date | None = None
    #: Where it came from, `turn:ID` or `file.csv:7`.
    source: str = ""
    asker: Literal["customer", "staff"] = "customer"
    history: tuple[Said, ...] = ()
    task_type: str = ""
    cluster: str = ""
    split: Split | None = None
    status: Status | None = None
    #: A finer word than `status`, if the team has one.
    kind: str = ""
    #: Documents that hold the answer.
    gold: tuple[Text, ...] = ()
    facts: tuple[GoldFact, ...] = ()
    #: Values that the answer must not state.
    stale_values: tuple[Text, ...] = ()
    intent: str | None = None
    escalation_reason: str | None = None
    note: str = ""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.status == "unanswerable" and (self.gold or self.facts):
            field = "gold" if self.gold else "facts"
            raise ValueError(f"unanswerable, but {field} is not empty; empty it, or write answerable")
        if self.facts and not any(fact.vital for fact in self.facts):
            raise ValueError("no fact is vital; leave out vital where the question asks for the fact")
        for value in self.stale_values:
            if any(
                fact.match == "exact" and fact.valid_to is None and fact.said_in(value) for fact in self.facts
            ):
                raise ValueError(
                    f"stale value {value!r} is a right answer too; remove it from one of the two"
                )
        return self

    def canonical(self) -> bytes:
        """The one way in which this question is written; what is at its default is left out."""
        return orjson.dumps(self.model_dump(mode="json", exclude_defaults=True), option=orjson.OPT_SORT_KEYS)


def set_file(path: Path) -> Path | None:
    """The question file of a question-set folder, or None if this is none.

    Other formats may call a file the same; each row of a set has an id.
    """
    if path.is_dir():
        file = path / QUESTIONS
        return file if file.is_file() else None
    if path.name != QUESTIONS or not path.is_file():
        return None
    first = next((line for _, line in read_lines(path)), b"")
    return path if b'"id"' in first else None


def read_questions(file: Path) -> tuple[Question, ...]:
    """All questions of a set; the first bad line is an error."""
    places = Places()
    questions: list[Question] = []
    for number, line in read_lines(file):
        question = parse_line(Question, file, number, line, format_page=FORMAT_PAGE)
        places.add(file, number, question.id)
        questions.append(question)
    if not questions:
        raise CaseFileError(
            file=file, what="holds no question", fix="import some with `twinrail eval import`"
        )
    return tuple(questions)


def canonical_bytes(questions: Iterable[Question]) -> bytes:
    """The file of these questions: by id, so that the same questions are always the same bytes."""
    ordered = sorted(questions, key=lambda question: question.id)
    return b"".join(question.canonical() + b"\n" for question in ordered)


def write_questions(folder: Path, questions: Sequence[Question]) -> Path:
    """Replace the questions of a set as a whole."""
    target = folder / QUESTIONS
    draft = folder / f".{QUESTIONS}.new"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(canonical_bytes(questions))
        draft.replace(target)
    except OSError as exc:
        raise StorageError(f"{target}: {exc.strerror}; make the folder writable or free space") from exc
    return target
