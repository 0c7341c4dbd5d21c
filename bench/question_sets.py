"""The question sets that retrieval is measured on, with the folds that may choose and those that judge.

Questions that share a gold document are in one fold of five: they win or lose together.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from retrieval.hits import Said
from retrieval.rerank_questions import fold_of, groups

REPOSITORY = Path(__file__).parent.parent
EVERYBODY = ("public", "staff")
#: The set that chose no weight and trained no model.
UNSEEN = "aws_docs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question with its gold documents; `tuning` ones may choose the weight."""

    id: str
    corpus: str
    kind: str
    text: str
    gold: frozenset[str]
    principals: tuple[str, ...]
    tuning: bool
    #: Questions that win or lose together.
    cluster: str
    history: tuple[Said, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A source to ingest under its own tenant, and its questions."""

    name: str
    source: Path
    questions: tuple[Question, ...]


def demo(folder: Path) -> Corpus:
    """The demo help centre."""
    rows = [
        json.loads(line)
        for path in sorted((folder / "questions").glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    questions = tuple(
        Question(
            id=row["id"],
            corpus="demo",
            kind=row["kind"],
            text=row["text"],
            gold=frozenset(row["gold"]),
            principals=("public",) if row["asker"] == "customer" else EVERYBODY,
            tuning=row["split"] != "holdout",
            cluster=row["topic"],
        )
        for row in rows
    )
    return Corpus(name="demo", source=folder / "articles", questions=questions)


def shared(folder: Path) -> Corpus:
    """One of the shared data sets."""
    gold: dict[str, set[str]] = defaultdict(set)
    for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, _ = line.split("\t")
        gold[query].add(document)
    rows = [json.loads(line) for line in (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    group = groups({row["id"]: gold.get(row["id"], set()) for row in rows})
    questions = tuple(
        Question(
            id=row["id"],
            corpus=folder.name,
            kind=str(row.get("kind") or row.get("answerability", "")).lower(),
            text=row["text"],
            gold=frozenset(gold.get(row["id"], ())),
            principals=EVERYBODY,
            tuning=folder.name != UNSEEN and fold_of(group[row["id"]]) != 0,
            cluster=group[row["id"]],
            history=tuple(Said(role=said["role"], text=said["text"]) for said in row.get("history") or ()),
        )
        for row in rows
    )
    return Corpus(name=folder.name, source=next(folder.glob("corpus.jsonl*")), questions=questions)


def sample(questions: Iterable[Question], most: int) -> list[Question]:
    """At most `most` questions with gold documents of each side, role play apart; the same ones every time."""
    sides: dict[tuple[bool, bool], list[Question]] = defaultdict(list)
    for question in sorted(questions, key=lambda each: hashlib.sha256(each.id.encode()).digest()):
        side = sides[question.tuning, question.kind == "scenario"]
        if question.gold and len(side) < most:
            side.append(question)
    return [question for side in sides.values() for question in side]


def side_of(question: Question) -> str:
    """The side of a question, in words."""
    if question.corpus == "demo":
        return "train, dev" if question.tuning else "holdout"
    if question.corpus == UNSEEN:
        return "all, unseen"
    return "folds 1-4" if question.tuning else "fold 0"
