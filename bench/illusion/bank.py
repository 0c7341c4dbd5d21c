"""Questions of the bank's help centre with one gold value each, made from what its own FAQ answers.

The set names gold documents and paragraphs, no facts. The first sentence of the answer that holds an amount, a
share or a time is taken as the wanted answer, and its first value as the fact. A question that is asked of two
accounts in the same words has two right answers and is left out.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from eval.cases import case_of
from eval.sets.questions import GoldFact, Question
from serving.values import find_values
from tests.fakes.responder import AnswerKey

DATA = Path(__file__).parents[3] / "shared" / "data" / "bank_support"
CORPUS = DATA / "corpus.jsonl"
_KINDS = ("faq_heading", "title_known_item")
_UNITS = re.compile(r"(?<=[.!?:])\s+|\n")
_WORDS = range(4, 41)
#: Kinds of value that belong to one question: a bare number stands everywhere.
_VALUES = ("$", "percent", "time", "months")
#: None of these facts has a date.
_ANY_DAY = date(2026, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BankQuestion:
    """A question, and the sentence that answers it."""

    question: Question
    answer: str

    @property
    def key(self) -> AnswerKey:
        """What the stand-in for a model knows of it."""
        case = case_of(self.question, _ANY_DAY)
        return AnswerKey(
            question=self.question.text,
            facts=case.facts,
            stale_values=(),
            status="answered",
            answer=self.answer,
            intent="policy",
            escalate=False,
            escalation_reason="none",
        )


def bank_questions() -> list[BankQuestion]:
    """All that have such a value; they belong to the topics of their product lines."""
    rows = [row for row in _rows(DATA / "queries.jsonl") if row["kind"] in _KINDS]
    asked = Counter(row["text"] for row in rows)
    lines = {row["id"]: row["metadata"]["category"] for row in _rows(CORPUS)}
    gold = _gold()
    return [
        BankQuestion(
            question=Question(
                id=row["id"],
                text=row["text"],
                cluster=_slug(lines[gold[row["id"]][0]]),
                status="answerable",
                kind=row["kind"],
                gold=gold[row["id"]],
                facts=(GoldFact(match="number", values=(value,)),),
            ),
            answer=unit,
        )
        for row in rows
        if asked[row["text"]] == 1
        for unit, value in _first_value(row["answer"])
    ]


def _first_value(answer: str) -> Iterator[tuple[str, str]]:
    for unit in _UNITS.split(answer):
        shown = " ".join(unit.replace("**", "").replace("|", " ").split()).lstrip("-*# ")
        values = [value.text for value in find_values(shown) if value.kind in _VALUES]
        if values and len(shown.split()) in _WORDS:
            yield shown, values[0]
            return


def _gold() -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for line in (DATA / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, _ = line.split("\t")
        found.setdefault(query, []).append(document)
    return {query: tuple(documents) for query, documents in found.items()}


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    for line in file.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
