"""Answers that people judged: rows of a file with their evidence, or answers of a run."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import AliasChoices, BaseModel, Field

from eval.judging.judge import Judge, Part
from eval.judging.judgements import Item
from eval.lines import parse_line, read_lines

_FORMAT_PAGE = "docs/evaluation.md"
#: How a row says that a person wrote its label.
_PERSON = "human"


class _Row(BaseModel):
    """A labelled answer with its evidence, as `groundedness` files have it."""

    id: str = ""
    question: str | None = None
    history: list[Any] = Field(default_factory=list)
    passages: list[str] = Field(default_factory=list, validation_alias=AliasChoices("passages", "contexts"))
    answer: str = Field(min_length=1)
    label: str = Field(min_length=1)
    annotator: str = _PERSON


class _Reading(BaseModel):
    """What a reader said of an answer of a run."""

    case_id: str
    arm: str
    label: str = Field(min_length=1)
    others: list[str] = Field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One answer with what people say of it."""

    item: Item
    good: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """All answers whose labels mean yes or no to a judge."""

    rows: tuple[Row, ...]
    #: Why other rows are left out, with counts.
    left_out: Mapping[str, int]
    source: str
    sha256: str


def read_labelled(judge: Judge, file: Path) -> Labelled:
    """Rows with their own evidence. Only labels that a person wrote count."""
    left_out: Counter[str] = Counter()
    said = []
    for number, line in read_lines(file):
        row = parse_line(_Row, file, number, line, format_page=_FORMAT_PAGE)
        if not row.annotator.startswith(_PERSON):
            left_out["not labelled by a person"] += 1
            continue
        item = Item(id=row.id or f"{file.name}:{number}", evidence=_shown(row, judge))
        if Part.PASSAGES in judge.needs and not row.passages:
            left_out["no passages"] += 1
            continue
        said.append((item, (row.label,)))
    return _labelled(judge, said, left_out, source=file.name)


def read_readings(file: Path) -> list[tuple[tuple[str, str], tuple[str, ...]]]:
    """What a reader said, by question and arm."""
    return [
        ((row.case_id, row.arm), (row.label, *row.others))
        for number, line in read_lines(file)
        for row in [parse_line(_Reading, file, number, line, format_page=_FORMAT_PAGE)]
    ]


def of_run(
    judge: Judge,
    items: Mapping[tuple[str, str], Item],
    readings: Iterable[tuple[tuple[str, str], tuple[str, ...]]],
    *,
    source: str,
) -> Labelled:
    """Answers of a run with what people said of them; `items` are those that the judge's question fits."""
    left_out: Counter[str] = Counter()
    said = []
    for key, labels in readings:
        if (item := items.get(key)) is None:
            left_out["not an answer of this run that the question applies to"] += 1
        else:
            said.append((item, labels))
    return _labelled(judge, said, left_out, source=source)


def _labelled(
    judge: Judge, said: Iterable[tuple[Item, tuple[str, ...]]], left_out: Counter[str], *, source: str
) -> Labelled:
    """Each answer once, where the labels mean something to the judge and people agree."""
    items: dict[str, Item] = {}
    verdicts: dict[str, set[bool]] = {}
    for item, labels in said:
        good = _means(judge, labels)
        if good is None:
            left_out[f"label {labels[0]}"] += 1
            continue
        if item.digest in items:
            left_out["the same answer again"] += 1
        items.setdefault(item.digest, item)
        verdicts.setdefault(item.digest, set()).add(good)
    left_out["people differ"] += sum(len(found) > 1 for found in verdicts.values())
    rows = tuple(
        Row(item=item, good=True in verdicts[digest])
        for digest, item in items.items()
        if len(verdicts[digest]) == 1
    )
    plain = orjson.dumps([[row.item.digest, row.good] for row in rows])
    return Labelled(
        rows=rows,
        left_out={reason: count for reason, count in sorted(left_out.items()) if count},
        source=source,
        sha256=hashlib.sha256(plain).hexdigest(),
    )


def _means(judge: Judge, labels: tuple[str, ...]) -> bool | None:
    """What people's words mean: one that means no is enough; of the others the first decides."""
    if judge.means_no.intersection(labels):
        return False
    return True if labels[0] in judge.means_yes else None


def _shown(row: _Row, judge: Judge) -> dict[str, Any]:
    parts = {
        Part.QUESTION: row.question or "",
        Part.HISTORY: row.history,
        Part.PASSAGES: row.passages,
        Part.ANSWER: row.answer,
    }
    return {part.value: parts[part] for part in judge.needs}
