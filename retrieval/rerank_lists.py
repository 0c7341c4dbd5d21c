"""Lists that a reranker is trained and judged on: a question with passages, and the file that holds them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from retrieval.errors import RerankError

#: Passages of the fused order that a row keeps, and that a reranker is asked for.
KEPT = 20
#: Share of a passage's word triples that a positive also has, above which it is no safe negative.
SAME_TEXT = 0.3
#: Fold of a question made from a document that is gold nowhere.
NO_FOLD = -1
#: What the kinds of made questions begin with.
MADE = "made: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A chunk as the reranker reads it, with its fused score in this search."""

    document: str
    text: str
    fused: float
    gold: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A question with the first stage's best passages in order; golds it missed come last, at score 0."""

    id: str
    set: str
    kind: str
    #: Fold of five; questions that share a gold document are in one. Made ones have that of their document.
    fold: int
    group: str
    question: str
    passages: tuple[Passage, ...]
    #: Passages that the first stage found: those after them were added for training.
    found: int
    #: Number of gold documents, found or not.
    golds: int


def read_rows(path: Path) -> list[Row]:
    """The rows of a file that this program wrote."""
    try:
        with path.open(encoding="utf-8") as file:
            raw = [json.loads(line) for line in file]
        return [Row(**{**row, "passages": tuple(Passage(**each) for each in row["passages"])}) for row in raw]
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise RerankError(
            f"{path}: not a file of rows; make one with python -m retrieval.rerank_rows"
        ) from exc


def repeats(text: str, golds: Iterable[str]) -> bool:
    """Whether a passage shares so much text with a positive that it is one itself, unlabelled."""
    own = _triples(text)
    return any(len(own & _triples(gold)) > SAME_TEXT * max(1, len(own)) for gold in golds)


def _triples(text: str) -> set[tuple[str, ...]]:
    words = text.casefold().split()
    return set(zip(words, words[1:], words[2:], strict=False))
