"""Questions to train and judge a reranker with: those of a retrieval set, and some made from its texts.

Made without a language model: headings and titles, a sentence against the rest of its chunk, statements
turned into questions, and the questions of FAQ pairs against their answers.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from retrieval.parsing import ParsedDocument
from retrieval.rerank_corpus import Piece
from retrieval.rerank_lists import MADE


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A question with its gold documents."""

    id: str
    kind: str
    text: str
    gold: frozenset[str]
    group: str

    @property
    def fold(self) -> int:
        return fold_of(self.group)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A question made from a chunk, and the chunk without the words that it was made of."""

    kind: str
    text: str
    piece: int
    passage: str


def read_queries(folder: Path, documents: Sequence[ParsedDocument]) -> list[Query]:
    """The set's questions, with stand-alone rewrites beside them.

    A question of a dialogue that means a place without saying so gets its name: finding that out is the
    rewriter's work, and without it there is nothing to rank.
    """
    gold: dict[str, set[str]] = defaultdict(set)
    for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, _ = line.split("\t")
        gold[query].add(document)
    places = {
        parsed.document.id: str(parsed.document.metadata["entity"])
        for parsed in documents
        if "entity" in parsed.document.metadata
    }
    rows = [json.loads(line) for line in (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    group = groups({row["id"]: gold.get(row["id"], set()) for row in rows})
    queries = []
    for row in rows:
        known = frozenset(gold.get(row["id"], ()))
        kind = str(row.get("kind") or row.get("answerability", "")).lower()
        texts = {kind: row["text"], f"{kind} rewritten": row.get("rewrite") or row["text"]}
        place = next((places[document] for document in sorted(known) if document in places), None)
        if place and place.casefold() not in row["text"].casefold():
            texts = {f"{kind} with its place": f"{row['text']} ({place.title()})"}
        queries += [
            Query(
                id=f"{row['id']}{'' if text == row['text'] else '+'}",
                kind=label,
                text=text,
                gold=known,
                group=group[row["id"]],
            )
            for label, text in texts.items()
            if label == kind or text != row["text"]
        ]
    return queries


# ---- made questions ------------------------------------------------------------------------------

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_PERSON = {"you": "i", "your": "my", "yours": "mine", "yourself": "myself", "you're": "i'm"}
_ASKS = ("how ", "what ", "when ", "where ", "why ", "who ", "can ", "do ", "does ", "is ", "are ")
_HEADING_FORMS = (
    "{0}",
    "{0}?",
    "what about {0}",
    "question about {0}",
    "i need help with {0}",
    "tell me about {0}",
)
#: Statement -> question, the first that matches.
_WHO = r"^(?:customers|users|you) "
_FORMS = tuple(
    (kind, re.compile(shape, re.IGNORECASE), form)
    for kind, shape, form in (
        ("how", r"^to ([a-z][^,]{8,80}),", "how do i {0}"),
        ("can", _WHO + r"can(?: also)? ([a-z][^.;(]{8,90})", "can i {0}"),
        ("must", _WHO + r"(?:must|need to|have to) ([a-z][^.;(]{8,90})", "do i have to {0}"),
        ("cannot", _WHO + r"(?:cannot|can't|may not) ([a-z][^.;(]{8,90})", "can i {0}"),
        ("if", r"^if ([a-z][^,]{8,90}),", "what happens if {0}"),
        ("when", r"^when ([a-z][^,]{8,90}),", "what happens when {0}"),
        ("is", r"^(?:the |an? )?([a-z][\w -]{3,50}?) (?:is|are) (?:an?|the|used|available)\b", "what is {0}"),
        (
            "does",
            r"^(?:the )?([a-z][\w -]{3,40}?) (?:lets|allows|enables|provides|includes|supports) ",
            "what does {0} do",
        ),
    )
)


def made_questions(pieces: Sequence[Piece], dice: random.Random) -> Iterator[Made]:
    """Questions made from chunks. The passage lacks what would give the answer away."""
    for index, piece in enumerate(pieces):
        faq = re.match(r"Q: (.+?)\s+A: (.+)", piece.body)
        if faq:
            place = piece.title.partition(" - ")[0].title()
            passage = piece.text.replace(faq[1], " ")
            yield Made(kind=f"{MADE}faq", text=f"{faq[1]} ({place})", piece=index, passage=passage)
        else:
            yield from _from_headings(index, piece, dice)
            yield from _from_sentences(index, piece, dice)


def _from_headings(index: int, piece: Piece, dice: random.Random) -> Iterator[Made]:
    parts = [piece.title, *piece.path[-1:]] if dice.random() < 0.5 else [*(piece.path[-1:] or [piece.title])]
    name = " ".join(re.sub(r"[\[\]*#`]|\(https?\S*\)|^Internal: ", " ", " ".join(parts)).split())
    if not 2 <= len(name.split()) <= 14 or len(piece.body.split()) < 25:
        return
    form = "{0}" if name.lower().startswith(_ASKS) else dice.choice(_HEADING_FORMS)
    yield Made(
        kind=f"{MADE}heading",
        text=form.format(name if dice.random() < 0.4 else name.lower()),
        piece=index,
        passage=piece.body if dice.random() < 0.6 else piece.text,
    )


def _from_sentences(index: int, piece: Piece, dice: random.Random) -> Iterator[Made]:
    sentences = [" ".join(each.split()) for each in _SENTENCE.split(piece.body)]
    plain = [re.sub(r"^[-*+\d.) ]+|[*`#]", "", each) for each in sentences]
    usable = [
        i
        for i, each in enumerate(plain)
        if 6 <= len(each.split()) <= 40 and "|" not in each and "http" not in each
    ]
    if len(sentences) < 3 or not usable:
        return
    asked = [
        (kind, form.format(match[1]))
        for i in usable
        for kind, shape, form in _FORMS
        if (match := shape.match(plain[i]))
    ]
    if asked:
        kind, text = dice.choice(asked)
        yield Made(kind=MADE + kind, text=_first_person(text), piece=index, passage=piece.text)
    i = dice.choice(usable)
    words = plain[i].rstrip(".").split()
    passage = piece.text.replace(sentences[i], " ")
    if dice.random() < 0.5:
        # Some words of a sentence do not give the passage away, so it may keep them.
        keep = max(3, round(len(words) * dice.uniform(0.3, 0.7)))
        start = dice.randrange(len(words) - keep + 1)
        words = words[start : start + keep]
        passage = passage if dice.random() < 0.5 else piece.text
    yield Made(kind=f"{MADE}cloze", text=_first_person(" ".join(words)), piece=index, passage=passage)


def _first_person(text: str) -> str:
    return " ".join(_PERSON.get(word.lower(), word) for word in text.split())


# ---- folds ---------------------------------------------------------------------------------------


def groups(gold: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Question -> group of those that share a gold document with it, however far."""
    parent = {key: key for key in gold}

    def root(key: str) -> str:
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    first: dict[str, str] = {}
    for query in sorted(gold):
        for document in sorted(gold[query]):
            low, high = sorted((root(query), root(first.setdefault(document, query))))
            parent[high] = low
    return {key: root(key) for key in gold}


def fold_of(group: str) -> int:
    """The fold of five that a group is in."""
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % 5
