"""The shipped reranker beside the fused order: quality on questions that it has not seen, and what it costs.

    python -m bench.retrieval_reranking [--model deploy/demo/reranker] [--home .twinrail/bench] [--data ../shared/data]

Fold 0 of the sets that it was trained on, aws_docs whole, and the demo's holdout questions (no word of the last two
was trained on). The first stage is the store's (chunker, embedder, BM25, fusion), in memory; its 20 best chunks are
reranked. `blend` is what a search does with it: weight and number of candidates come from the model's manifest,
which has them from the dev fold. The interval is of the paired bootstrap over groups of questions that share a gold
document (the demo's: topics). --embed-only fills the cache of vectors and stops (a quarter of an hour).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from bench.load import percentile
from bench.machine import describe_machine
from bench.question_sets import REPOSITORY, UNSEEN
from bench.question_sets import demo as demo_questions
from bench.retrieval_quality import documents, ndcg
from eval.stats import Pair, cluster_interval
from retrieval.embedding import OnnxEmbedder, prepare_minilm
from retrieval.parsing import ParsedDocument
from retrieval.rerank_corpus import Corpus, load_corpus
from retrieval.rerank_questions import Query, read_queries
from retrieval.reranking import OnnxReranker, blend
from retrieval.sources import read_source

TRAINED = ("bank_support", "mtrag_support", "concierge_faq")
CANDIDATES = (10, 20)
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
RESAMPLES = 5_000
#: Questions of one kind, at most: of concierge_faq there are many.
MOST = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question and the documents that who asks it may not see."""

    query: Query
    hidden: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A question with what the first stage found for it, best first, and the reranker's logits."""

    query: Query
    found: tuple[str, ...]
    fused: tuple[float, ...]
    logits: tuple[float, ...]
    milliseconds: float
    #: Of the processor, which other programs do not lengthen by waiting.
    busy_milliseconds: float


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables and write bench/results/retrieval_reranking.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=REPOSITORY / "deploy/demo/reranker")
    parser.add_argument("--home", type=Path, default=REPOSITORY / ".twinrail/bench")
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared/data")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "bench/results/retrieval_reranking.json")
    parser.add_argument("--dev-fold", type=int, help="show weights on this fold and judge nothing")
    parser.add_argument("--embed-only", action="store_true")
    args = parser.parse_args(argv)
    machine = describe_machine()
    prepare_minilm(args.home / "minilm")
    result = asyncio.run(measure(args))
    if result:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({"machine": machine, **result}, indent=1) + "\n", "utf-8")
    return 0


async def measure(args: argparse.Namespace) -> dict[str, object]:
    """Search, rerank and compare, set by set."""
    embedder = OnnxEmbedder(args.home / "minilm")
    judged: dict[str, list[Judged]] = {}
    reranker = None if args.embed_only else OnnxReranker(args.model)
    for name, source, questions in sources(args):
        corpus = await load_corpus(name, source, embedder, args.home / "vectors")
        if reranker is None:
            continue
        kinds: dict[str, list[Question]] = defaultdict(list)
        for question in questions:
            kinds[f"{name}: {question.query.kind}"].append(question)
        for kind, members in kinds.items():
            judged[kind] = [await judge(each, corpus, embedder, reranker) for each in members[:MOST]]
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {kind}: {len(judged[kind])} questions\n")
    if reranker is None:
        return {}
    if args.dev_fold is not None:
        tune(judged)
        return {}
    manifest = json.loads((args.model / "manifest.json").read_text(encoding="utf-8"))
    weight, candidates = manifest["weight"], manifest["candidates"]
    print(f"{reranker.id}: weight {weight}, {candidates} candidates\n")
    return {
        "model": reranker.id,
        "weight": weight,
        "candidates": candidates,
        "quality": compare(judged, weight, candidates),
        "latency": await latency(judged, reranker, embedder),
    }


def sources(args: argparse.Namespace) -> list[tuple[str, list[ParsedDocument], list[Question]]]:
    """Name, documents and questions of each set: those to judge on, or with --dev-fold those to choose on."""
    found = []
    for name in (*TRAINED, *(() if args.dev_fold is not None else (UNSEEN,))):
        folder = args.data / name
        if not folder.exists():
            print(f"skipped: {folder} is not here")
            continue
        source = list(read_source(next(folder.glob("corpus.jsonl*"))).documents)
        fold = args.dev_fold or 0
        questions = [
            Question(query=query)
            for query in read_queries(folder, source)
            if query.gold and (name == UNSEEN or query.fold == fold)
        ]
        found.append((name, source, questions))
    if args.dev_fold is None:
        found.append(demo(REPOSITORY / "deploy/demo"))
    return found


def demo(folder: Path) -> tuple[str, list[ParsedDocument], list[Question]]:
    """The demo help centre: customers do not see the staff's articles."""
    corpus = demo_questions(folder)
    source = list(read_source(corpus.source).documents)
    questions = []
    for each in corpus.questions:
        query = Query(
            id=each.id,
            kind="train and dev (not trained on either)" if each.tuning else "holdout",
            text=each.text,
            gold=each.gold,
            group=each.cluster,
        )
        hidden = (
            one.document.id for one in source if not set(one.document.principals) & set(each.principals)
        )
        if query.gold:
            questions.append(Question(query=query, hidden=frozenset(hidden)))
    return corpus.name, source, questions


async def judge(question: Question, corpus: Corpus, embedder: OnnxEmbedder, reranker: OnnxReranker) -> Judged:
    """One search and one reranking."""
    text = question.query.text
    hits = corpus.search(text, await embedder.embed_query(text), k=max(CANDIDATES), hidden=question.hidden)
    began, busy = time.perf_counter(), time.process_time()
    logits = await reranker.scores(text, [corpus.pieces[i].text for i, _ in hits])
    return Judged(
        query=question.query,
        found=tuple(corpus.pieces[i].document for i, _ in hits),
        fused=tuple(score / (1 + score) for _, score in hits),  # as callers of the search see it
        logits=tuple(logits),
        milliseconds=(time.perf_counter() - began) * 1000,
        busy_milliseconds=(time.process_time() - busy) * 1000,
    )


def score(each: Judged, weight: float, candidates: int) -> tuple[float, float]:
    """nDCG@10 and hit@1; what is not a candidate keeps its place behind them."""
    final = blend(each.fused[:candidates], each.logits[:candidates], weight)
    order = sorted(range(len(final)), key=lambda index: -final[index])
    ranked = documents([each.found[index] for index in order] + list(each.found[candidates:]))
    return ndcg(ranked, each.query.gold), float(bool(ranked) and ranked[0] in each.query.gold)


def tune(judged: dict[str, list[Judged]]) -> None:
    """nDCG@10 by weight and number of candidates, on questions that may be chosen on."""
    for candidates in CANDIDATES:
        print(f"\nnDCG@10 by weight, {candidates} candidates")
        for kind, members in sorted(judged.items()):
            means = [fmean(score(each, weight, candidates)[0] for each in members) for weight in WEIGHTS]
            figures = "  ".join(f"{weight}: {mean:.3f}" for weight, mean in zip(WEIGHTS, means, strict=True))
            print(f"{kind:52} {len(members):>4}  {figures}")


def compare(judged: dict[str, list[Judged]], weight: float, candidates: int) -> dict[str, object]:
    """Fused, blended and reranker alone, by kind of question, and the blend's gain with its interval."""
    print(
        f"{'questions':52} {'n':>4}   {'fused':>14}   {'blend':>14}   {'logits alone':>14}   blend minus fused, ratio"
    )
    groups: dict[str, list[Judged]] = defaultdict(list)
    for kind, members in judged.items():
        name, _, rest = kind.partition(": ")
        groups[kind] += members
        if rest != "scenario" and "rewritten" not in rest and name not in ("demo", UNSEEN):
            groups[f"{name}: all but scenario, fold 0"] += members
        if name == UNSEEN:
            groups[f"{name}: all"] += members
    table: dict[str, object] = {}
    for kind, members in sorted(groups.items()):
        methods = {
            "fused": [score(each, 0.0, candidates) for each in members],
            "blend": [score(each, weight, candidates) for each in members],
            "logits": [score(each, 1.0, candidates) for each in members],
        }
        row: dict[str, object] = {"n": len(members)}
        for method, scores in methods.items():
            row[method] = {
                "ndcg10": round(fmean(each[0] for each in scores), 4),
                "hit1": round(fmean(each[1] for each in scores), 4),
            }
        row["ndcg10_by_weight"] = {
            str(each_weight): round(fmean(score(each, each_weight, candidates)[0] for each in members), 4)
            for each_weight in WEIGHTS
        }
        row["ndcg10_of_10_candidates"] = round(fmean(score(each, weight, 10)[0] for each in members), 4)
        figures = []
        for place, metric in enumerate(("ndcg10", "hit1")):
            pairs = [
                Pair(cluster=each.query.group, first=first[place], second=second[place])
                for each, first, second in zip(members, methods["fused"], methods["blend"], strict=True)
            ]
            interval = cluster_interval(pairs, resamples=RESAMPLES, seed=0)
            gain, before = (
                fmean(pair.second - pair.first for pair in pairs),
                fmean(pair.first for pair in pairs),
            )
            row[f"{metric}_gain"] = round(gain, 4)
            row[f"{metric}_interval_95"] = (
                [round(interval.low, 4), round(interval.high, 4)] if interval else None
            )
            row[f"{metric}_ratio"] = round(1 + gain / before, 3) if before else None
            figures.append(
                f"{metric} {gain:+.3f} {row[f'{metric}_interval_95'] or ''} x{row[f'{metric}_ratio']}"
            )
        table[kind] = row
        cells = "   ".join(f"{row[m]['ndcg10']:8.3f} {row[m]['hit1']:5.3f}" for m in methods)  # type: ignore[index]
        print(f"{kind:52} {len(members):>4}   {cells}   {'; '.join(figures)}")
    return table


async def latency(
    judged: dict[str, list[Judged]], reranker: OnnxReranker, embedder: OnnxEmbedder
) -> dict[str, object]:
    """Milliseconds for the candidates of a question on one core, beside what its own embedding costs."""
    full = [each for members in judged.values() for each in members if len(each.found) == max(CANDIDATES)]
    spent, busy = [each.milliseconds for each in full], [each.busy_milliseconds for each in full]
    embedding = []
    for members in judged.values():
        for each in members[:20]:
            began = time.perf_counter()
            await embedder.embed_query(each.query.text)
            embedding.append((time.perf_counter() - began) * 1000)
    row: dict[str, object] = {
        "passages": max(CANDIDATES),
        "questions": len(spent),
        "p50_ms": round(median(spent), 1),
        "p95_ms": round(percentile(spent, 0.95), 1),
        "processor_p50_ms": round(median(busy), 1),
        "processor_p95_ms": round(percentile(busy, 0.95), 1),
        "embedding_p50_ms": round(median(embedding), 2),
        "ratio_to_embedding": round(median(spent) / median(embedding), 1),
    }
    print(f"\n{reranker.id}, {max(CANDIDATES)} passages on one thread: {row}")
    return row


if __name__ == "__main__":
    raise SystemExit(main())
