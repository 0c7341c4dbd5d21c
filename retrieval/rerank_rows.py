"""Rows to train a reranker on: questions with the passages that the first stage would hand it.

    python -m retrieval.rerank_rows --sets DIR [DIR ...] --held-out 0 --out rows.jsonl

A set is a folder of corpus.jsonl, queries.jsonl and qrels.tsv. Its documents are cut, embedded and searched as
the store does it (same chunker, embedder, BM25 and fusion), in memory, so that no database is needed. Beside the
sets' own questions it makes some from their texts, without a language model: headings and titles, a sentence
against the rest of its chunk, statements turned into questions, and the questions of FAQ pairs against their
answers. Nothing is made from a document that is gold in a held-out fold. What it does not do: choose what a
training run weighs or repeats.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.chunking import StructureChunker
from retrieval.embedding import Embedder, OnnxEmbedder
from retrieval.ingest import first_version
from retrieval.lexing import bm25_weights, lex, term_id
from retrieval.parsing import ParsedDocument
from retrieval.sources import read_source

#: Chunks that each leg proposes, and how many of the fused order a row keeps.
LEG = 50
KEPT = 20
#: Gold documents that the first stage missed, at most so many of them are added to a row.
MISSED = 3
#: Share of a passage's word triples that a positive also has, above which it is no safe negative.
SAME_TEXT = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A chunk as the reranker reads it, with its fused score in this search."""

    document: str
    text: str
    fused: float
    gold: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A question with the first stage's best passages in their order; golds it missed come last, at score 0."""

    id: str
    set: str
    kind: str
    #: Fold of five; questions that share a gold document are in one. Made questions have that of their document.
    fold: int
    group: str
    question: str
    passages: tuple[Passage, ...]
    #: Passages that the first stage found: those after them were added for training.
    found: int
    #: Number of gold documents, found or not.
    golds: int


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
class Piece:
    """A chunk with the parts that questions are made from."""

    document: str
    title: str
    path: tuple[str, ...]
    body: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A question made from a chunk, and the chunk as the question leaves it: without the words it was made of."""

    kind: str
    text: str
    piece: int
    passage: str


class Corpus:
    """The chunks of a set and their first stage: `search` is retrieval/sql/migrations/0002_search.sql in memory."""

    def __init__(
        self, pieces: Sequence[Piece], vectors: NDArray[np.float32], weight: float, avgdl: float
    ) -> None:
        self.pieces = pieces
        self._vectors = vectors
        self._weight = weight
        postings: dict[int, list[tuple[int, float]]] = defaultdict(list)
        self._frequency: Counter[str] = Counter()
        for index, piece in enumerate(pieces):
            tokens = lex(piece.text)
            self._frequency.update(set(tokens))
            for term, value in bm25_weights(tokens, avgdl=avgdl).items():
                postings[term].append((index, value))
        self._postings = {
            term: (np.array([i for i, _ in row], dtype=np.int64), np.array([v for _, v in row]))
            for term, row in postings.items()
        }

    def search(self, question: str, vector: NDArray[np.float32], k: int = KEPT) -> list[tuple[int, float]]:
        """Chunk and fused score, best first."""
        dense = self._vectors @ vector  # (N,)
        count = len(self.pieces)
        lexical, mass, weights = np.zeros(count), 0.0, {}
        for lexeme, times in Counter(lex(question)).items():
            df = self._frequency[lexeme]
            weight = times * math.log(1 + (count - df + 0.5) / (df + 0.5))
            mass += weight
            term = term_id(lexeme)
            weights[term] = max(weights.get(term, 0.0), weight)
        for term, weight in weights.items():
            if term in self._postings:
                where, values = self._postings[term]
                lexical[where] += weight * values
        unit = max(mass * math.log(1 + (count + 0.5) / 0.5), 1e-6)
        best = {
            *np.argsort(-dense)[:LEG].tolist(),
            *(i for i in np.argsort(-lexical)[:LEG].tolist() if lexical[i] > 0),
        }
        candidates = np.array(sorted(best))
        low, high = dense[candidates].min(), dense[candidates].max()
        placed = (dense[candidates] - low) / (high - low) if high > low else np.ones(len(candidates))
        fused = self._weight * placed + (1 - self._weight) * lexical[candidates] ** 2 / unit
        order = np.argsort(-fused, kind="stable")[:k]
        return [(int(candidates[i]), float(fused[i])) for i in order]

    def first_of(self, document: str) -> Piece:
        """The first chunk of a document."""
        return next(piece for piece in self.pieces if piece.document == document)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the rows; counts go to stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m retrieval.rerank_rows", description="Make training rows for a reranker."
    )
    parser.add_argument("--sets", type=Path, nargs="+", required=True, help="folders of the retrieval sets")
    parser.add_argument("--embedder", type=Path, required=True, help="folder that prepare_minilm wrote")
    parser.add_argument("--vectors", type=Path, required=True, help="folder that keeps embedded sets")
    parser.add_argument("--held-out", type=int, default=0, help="fold whose gold documents make no questions")
    parser.add_argument("--most", type=int, default=600, help="labelled questions of one set, at most")
    parser.add_argument("--made", type=int, default=1800, help="made questions of one set, at most")
    parser.add_argument("--leave-out", default="aws-distractor:", help="id prefix of documents to leave out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    embedder = OnnxEmbedder(args.embedder)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w", encoding="utf-8") as out:
        for folder in args.sets:
            counts: Counter[str] = Counter()
            for row in asyncio.run(rows_of(folder, embedder, args)):
                counts[f"{row.kind}{' (held out)' if row.fold == args.held_out else ''}"] += 1
                out.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")
            sys.stderr.write(f"{folder.name}: {dict(sorted(counts.items()))}\n")
    return 0


async def rows_of(folder: Path, embedder: Embedder, args: argparse.Namespace) -> list[Row]:
    """All rows of one set: its labelled questions, then made ones."""
    dice = random.Random(f"{args.seed} {folder.name}")
    documents = [
        parsed
        for parsed in read_source(next(folder.glob("corpus.jsonl*"))).documents
        if not (args.leave_out and parsed.document.id.startswith(args.leave_out))
    ]
    corpus = await _corpus(folder.name, documents, embedder, args.vectors)
    queries = [query for query in read_queries(folder, documents) if query.gold]
    fold_of_document = {document: query.fold for query in queries for document in query.gold}
    dice.shuffle(queries)
    held, open_ = (
        [q for q in queries if q.fold == args.held_out],
        [q for q in queries if q.fold != args.held_out],
    )
    chosen = held + open_[: args.most]
    made = [
        each
        for each in made_questions(corpus.pieces, dice)
        if fold_of_document.get(corpus.pieces[each.piece].document) != args.held_out
    ]
    dice.shuffle(made)
    rows = []
    for query in chosen:
        hits = corpus.search(query.text, await embedder.embed_query(query.text))
        rows.append(labelled_row(folder.name, query, corpus, hits))
    for number, each in enumerate(made[: args.made]):
        hits = corpus.search(each.text, await embedder.embed_query(each.text))
        document = corpus.pieces[each.piece].document
        fold = fold_of_document.get(document, fold_of(document))
        rows.append(made_row(f"made-{number}", folder.name, each, fold, corpus, hits))
    # Where all or none of the passages are gold there is nothing to tell apart.
    return [row for row in rows if 0 < sum(passage.gold for passage in row.passages) < len(row.passages)]


async def _corpus(
    name: str, documents: Sequence[ParsedDocument], embedder: Embedder, vectors: Path
) -> Corpus:
    version = first_version(embedder)
    chunker = StructureChunker.from_id(version.chunker)
    pieces = [
        Piece(
            document=parsed.document.id,
            title=parsed.document.title,
            path=chunk.heading_path,
            body=chunk.text,
            text=chunk.embedded_text,
        )
        for parsed in documents
        for chunk in chunker.chunk(parsed.document.title, parsed.document.text, parsed.blocks)
    ]
    digest = hashlib.sha256("\x00".join(piece.text for piece in pieces).encode()).hexdigest()[:16]
    kept = vectors / f"{name}-{embedder.id}-{digest}.npy"
    if not kept.exists():
        sys.stderr.write(f"{name}: embedding {len(pieces)} chunks\n")
        vectors.mkdir(parents=True, exist_ok=True)
        np.save(kept, await embedder.embed_documents([piece.text for piece in pieces]))
    return Corpus(pieces, np.load(kept), version.dense_weight, version.avgdl)


def read_queries(folder: Path, documents: Sequence[ParsedDocument]) -> list[Query]:
    """The set's questions, stand-alone rewrites beside them, and those of dialogues with the place that they mean."""
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


def labelled_row(name: str, query: Query, corpus: Corpus, hits: Sequence[tuple[int, float]]) -> Row:
    """What the first stage found, and after it the first chunks of gold documents that it missed."""
    found = [_passage(corpus.pieces[i], fused, corpus.pieces[i].document in query.gold) for i, fused in hits]
    missed = sorted(query.gold - {passage.document for passage in found})[:MISSED]
    added = [_passage(corpus.first_of(document), 0.0, True) for document in missed]
    return Row(
        id=query.id,
        set=name,
        kind=query.kind,
        fold=query.fold,
        group=query.group,
        question=query.text,
        passages=tuple(found + added),
        found=len(found),
        golds=len(query.gold),
    )


def made_row(
    id_: str, name: str, made: Made, fold: int, corpus: Corpus, hits: Sequence[tuple[int, float]]
) -> Row:
    """The chunk that the question was made of, against what else was found outside its document."""
    own = corpus.pieces[made.piece].document
    others = [
        _passage(corpus.pieces[i], fused, False) for i, fused in hits if corpus.pieces[i].document != own
    ]
    positive = Passage(document=own, text=made.passage, fused=dict(hits).get(made.piece, 0.0), gold=True)
    return Row(
        id=id_,
        set=name,
        kind=made.kind,
        fold=fold,
        group=own,
        question=made.text,
        passages=(positive, *others),
        found=0,
        golds=1,
    )


def _passage(piece: Piece, fused: float, gold: bool) -> Passage:
    return Passage(document=piece.document, text=piece.text, fused=round(fused, 5), gold=gold)


def repeats(text: str, golds: Iterable[str]) -> bool:
    """Whether a passage shares so much text with a positive that it is one itself, unlabelled."""
    own = _triples(text)
    return any(len(own & _triples(gold)) > SAME_TEXT * max(1, len(own)) for gold in golds)


def _triples(text: str) -> set[tuple[str, ...]]:
    words = text.casefold().split()
    return set(zip(words, words[1:], words[2:], strict=False))


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
_FORMS: Sequence[tuple[str, re.Pattern[str], str]] = (
    ("how", re.compile(r"^to ([a-z][^,]{8,80}),", re.I), "how do i {0}"),
    ("can", re.compile(r"^(?:customers|users|you) can(?: also)? ([a-z][^.;(]{8,90})", re.I), "can i {0}"),
    ("must", re.compile(r"^(?:customers|users|you) (?:must|need to|have to) ([a-z][^.;(]{8,90})", re.I), "do i have to {0}"),
    ("cannot", re.compile(r"^(?:customers|users|you) (?:cannot|can't|may not) ([a-z][^.;(]{8,90})", re.I), "can i {0}"),
    ("if", re.compile(r"^if ([a-z][^,]{8,90}),", re.I), "what happens if {0}"),
    ("when", re.compile(r"^when ([a-z][^,]{8,90}),", re.I), "what happens when {0}"),
    ("is", re.compile(r"^(?:the |an? )?([A-Za-z][\w -]{3,50}?) (?:is|are) (?:an?|the|used|available)\b", re.I), "what is {0}"),
    ("does", re.compile(r"^(?:the )?([A-Za-z][\w -]{3,40}?) (?:lets|allows|enables|provides|includes|supports) ", re.I), "what does {0} do"),
)  # fmt: skip


def made_questions(pieces: Sequence[Piece], dice: random.Random) -> Iterator[Made]:
    """Questions made from chunks. The passage lacks what would give the answer away."""
    for index, piece in enumerate(pieces):
        faq = re.match(r"Q: (.+)\nA: (.+)", piece.body)
        if faq:
            place = piece.title.partition(" - ")[0].title()
            passage = piece.text.replace(faq[1], " ")
            yield Made(kind="made: faq", text=f"{faq[1]} ({place})", piece=index, passage=passage)
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
        kind="made: heading",
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
        yield Made(kind=f"made: {kind}", text=_first_person(text), piece=index, passage=piece.text)
    i = dice.choice(usable)
    words = plain[i].rstrip(".").split()
    passage = piece.text.replace(sentences[i], " ")
    if dice.random() < 0.5:
        # Some words of a sentence do not give the passage away, so it may keep them.
        keep = max(3, round(len(words) * dice.uniform(0.3, 0.7)))
        start = dice.randrange(len(words) - keep + 1)
        words = words[start : start + keep]
        passage = passage if dice.random() < 0.5 else piece.text
    yield Made(kind="made: cloze", text=_first_person(" ".join(words)), piece=index, passage=passage)


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


if __name__ == "__main__":
    raise SystemExit(main())
