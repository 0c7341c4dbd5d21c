"""Rows to train a reranker on: questions with the passages that the first stage would hand it.

    python -m retrieval.rerank_rows --sets DIR [DIR ...] --held-out 0 --out rows.jsonl

A set is a folder of corpus.jsonl, queries.jsonl and qrels.tsv. Its documents are cut, embedded and searched
as the store does it, in memory. Beside the sets' own questions there are some made from their texts; none is
made from a document that is gold in the held-out fold. What it does not do: choose what a training run weighs
or repeats.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from retrieval.embedding import Embedder, OnnxEmbedder
from retrieval.rerank_corpus import Corpus, Piece, load_corpus
from retrieval.rerank_lists import NO_FOLD, Passage, Row
from retrieval.rerank_questions import Made, Query, made_questions, read_queries
from retrieval.sources import read_source

#: Gold documents that the first stage missed, at most so many of them are added to a row.
MISSED = 3


def arguments() -> argparse.ArgumentParser:
    """Every knob."""
    parser = argparse.ArgumentParser(
        prog="python -m retrieval.rerank_rows", description="Make training rows for a reranker."
    )
    parser.add_argument("--sets", type=Path, nargs="+", required=True, help="folders of the retrieval sets")
    parser.add_argument("--embedder", type=Path, required=True, help="folder that prepare_minilm wrote")
    parser.add_argument("--vectors", type=Path, required=True, help="folder that keeps embedded sets")
    parser.add_argument("--held-out", type=int, default=0, help="fold whose gold documents make no questions")
    parser.add_argument("--most", type=int, default=600, help="labelled questions of one set, at most")
    parser.add_argument("--made", type=int, default=2000, help="made questions of one set, at most")
    parser.add_argument("--leave-out", default="aws-distractor:", help="id prefix of documents to leave out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Write the rows; counts go to stderr."""
    args = arguments().parse_args(argv)
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
    corpus = await load_corpus(folder.name, documents, embedder, args.vectors)
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
        fold = fold_of_document.get(document, NO_FOLD)
        rows.append(made_row(f"made-{number}", folder.name, each, fold, corpus, hits))
    # Where all or none of the passages are gold there is nothing to tell apart.
    return [row for row in rows if 0 < sum(passage.gold for passage in row.passages) < len(row.passages)]


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


if __name__ == "__main__":
    raise SystemExit(main())
