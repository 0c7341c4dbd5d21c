"""The wanted answer of a row: sentences of the articles that hold its facts, word for word.

A model of 135M parameters learns to copy from some hundred rows, and invents when it is taught to rephrase
from as few. Which of three sentences answers it does not learn either, but to begin with the first, as a rule
the closest to the question, and to go on until the facts are told (docs/experiments.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.matching import missing_facts
from serving.prompting import Passage
from serving.sentences import content_stems, sentences

_NUMBERED = re.compile(r"^\d+\.\s+")

Facts = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """Sentences of passages that hold all facts of a question, and the passages' numbers."""

    text: str
    cited: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Unit:
    """A sentence or table row as an answer says it, and the number of its passage."""

    n: int
    text: str


def quote(question: Mapping[str, Any], passages: Sequence[Passage]) -> Quoted | None:
    """The fewest sentences and table rows of `passages` that hold the question's facts, None if some are
    nowhere.

    Of sentences that hold as many facts, one of the first passage is taken, and there the one closest to the
    question and its written answer: where the answer stands first there is nothing to choose.
    """
    taken = _chosen(question, [unit for passage in passages for unit in _units(passage.n, passage.text)])
    if taken is None:
        return None
    return Quoted(text=_joined(taken), cited=tuple(sorted({unit.n for unit in taken})))


def quote_from_the_first(
    question: Mapping[str, Any], passages: Sequence[Passage], *, never: Sequence[str] = ()
) -> Quoted | None:
    """All sentences from the first one shown to the last one that the facts need, None if some are nowhere.

    The fewest instead, where what stands between is one of `never` or holds a stale value of the question."""
    fewest = quote(question, passages)
    if fewest is None:
        return None
    until = max(fewest.cited)
    taken = [unit for p in passages if p.n <= until for unit in _units(p.n, p.text)]
    told = _joined(taken)
    if any(value in told for value in (*never, *question.get("stale_values", ()))) or missing_facts(
        told, question["facts"]
    ):
        return fewest
    return Quoted(text=told, cited=tuple(sorted({unit.n for unit in taken})))


def holds_any(facts: Facts, text: str) -> bool:
    """Whether a text has at least one of the facts."""
    return len(missing_facts(text, facts)) < len(facts)


def _joined(units: Sequence[_Unit]) -> str:
    return " ".join(unit.text if unit.text[-1] in ".!?" else f"{unit.text}." for unit in units)


def _units(n: int, text: str) -> list[_Unit]:
    return [
        _Unit(n, _NUMBERED.sub("", text[span.start : span.end].lstrip("-*\u2022 ").strip()))
        for span in sentences(text)
    ]


def _chosen(question: Mapping[str, Any], units: Sequence[_Unit]) -> list[_Unit] | None:
    aim = set(content_stems(f"{question['text']} {question['answer']}"))
    candidates = [unit for unit in units if len(content_stems(unit.text)) > 1]
    taken: list[_Unit] = []
    open_facts = list(question["facts"])
    while open_facts and candidates:
        best = max(
            candidates,
            key=lambda unit: (
                -len(missing_facts(unit.text, open_facts)),
                -unit.n,
                len(aim & set(content_stems(unit.text))),
                -len(unit.text),
            ),
        )
        left = [fact for fact in open_facts if missing_facts(best.text, [fact])]
        if len(left) == len(open_facts):
            return None
        taken.append(best)
        open_facts = left
    return taken or None
