"""Retrieval quality through the real store: hybrid next to BM25 alone and dense alone, per kind of question.

    python -m bench.retrieval_quality [--home .twinrail/bench] [--data ../shared/data]

Each method proposes its own candidates: "BM25" never sees what only the dense leg found, nor the other way round.
Chunks are ranked, a document counts at its best chunk; nDCG@10 with binary gains and hit@1 over questions that
have a gold document. The fusion weight is chosen on the demo's train and dev questions and on folds 1 to 4 of the
others (questions that share a gold document are in one fold); the demo's holdout and fold 0 are never looked at
for it. Role-play `scenario` rows of bank_support stand apart. The last column is hybrid minus the better leg on
the same questions, with the 95 % interval of a paired bootstrap over topics (of the others: over groups of
questions that share a gold document), since ten wordings of one question win or lose together.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from psycopg_pool import AsyncConnectionPool

from bench.machine import describe_machine
from deploy.migrate import migrate
from deploy.postgres import EmbeddedPostgres
from eval.stats import Pair, cluster_interval
from retrieval.documents import Access
from retrieval.embedding import OnnxEmbedder, prepare_minilm
from retrieval.hits import SearchRequest
from retrieval.ingest import first_version, ingest
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore, Legs

REPOSITORY = Path(__file__).parent.parent
EVERYBODY = ("public", "staff")
WEIGHTS = (0.0, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8, 0.9, 1.0)
RESAMPLES = 5_000
METHODS: Mapping[str, Legs] = {"hybrid": "both", "BM25": "lexical", "dense": "dense"}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A source to ingest under its own tenant, and its questions."""

    name: str
    source: Path
    questions: tuple[Question, ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables and write bench/results/retrieval_quality.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, default=REPOSITORY / ".twinrail/bench")
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared/data")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "bench/results/retrieval_quality.json")
    args = parser.parse_args(argv)
    corpora = [demo(REPOSITORY / "deploy/demo")]
    for name in ("bank_support", "mtrag_support"):
        folder = args.data / name
        if folder.exists():
            corpora.append(shared(folder))
        else:
            print(f"skipped: {folder} is not here")
    prepare_minilm(args.home / "minilm")
    postgres = EmbeddedPostgres(args.home / "postgres")
    url = postgres.start()
    try:
        result = asyncio.run(measure(url, args.home / "minilm", corpora))
    finally:
        postgres.stop()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(
        json.dumps({"machine": describe_machine(), **result}, indent=1) + "\n", encoding="utf-8"
    )
    return 0


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
            kind=f"{row['kind']} ({'holdout' if row['split'] == 'holdout' else 'train, dev'})",
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
            tuning=fold_of(group[row["id"]]) != 0,
            cluster=group[row["id"]],
        )
        for row in rows
    )
    return Corpus(name=folder.name, source=folder / "corpus.jsonl", questions=questions)


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


async def measure(url: str, model: Path, corpora: Sequence[Corpus]) -> dict[str, object]:
    """Ingest, choose the weight, and measure the stable version as it is."""
    await migrate(url)
    embedder = OnnxEmbedder(model)
    async with AsyncConnectionPool(url, min_size=1, max_size=2, open=False) as pool:
        store = KnowledgeStore(pool)
        wanted = first_version(embedder)
        await store.register(wanted)
        ingested = {}
        for corpus in corpora:
            began = time.perf_counter()
            report = await ingest(store, embedder, corpus.source, tenant=corpus.name, source_name=corpus.name)
            ingested[corpus.name] = {
                "documents": report.documents,
                "chunks": report.chunks,
                "embedded": report.embedded,
                "seconds": round(time.perf_counter() - began, 1),
            }
            print(f"ingested {corpus.name}: {ingested[corpus.name]}")
        if (await store.pointer()).stable != wanted.id:
            await store.promote(wanted.id)
        stable, version = wanted.id, wanted
        retriever = Retriever(store=store, embedders={embedder.id: embedder})
        questions = [question for corpus in corpora for question in corpus.questions]
        weights = await tune(
            store, embedder, stable, [each for each in questions if each.tuning and each.gold]
        )
        print(
            f"\nweight of the dense leg, nDCG@10 on tuning questions ({stable} has {version.dense_weight}):"
        )
        for corpus_name, row in weights.items():
            print(
                f"  {corpus_name:14} " + "  ".join(f"{weight}: {value:.3f}" for weight, value in row.items())
            )
        quality, timings = await compare(retriever, stable, questions)
        abstention = await refusals(retriever, stable, questions, version.abstain_below)
    return {
        "version": stable,
        "dense_weight": version.dense_weight,
        "ingested": ingested,
        "tuning": weights,
        "quality": quality,
        "timings_ms": timings,
        "abstention": abstention,
    }


async def tune(
    store: KnowledgeStore, embedder: OnnxEmbedder, version: str, questions: Sequence[Question]
) -> dict[str, dict[str, float]]:
    """nDCG@10 by weight, from the exact scores of one search's candidates."""
    sums: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for question in questions:
        if question.kind == "scenario":
            continue
        found = await store.search(
            Access(tenant=question.corpus, principals=question.principals),
            version=version,
            question=question.text,
            embedding=await embedder.embed_query(question.text),
            k=100,
            filters={},
            as_of=None,
            effective_on=None,
            timeout_s=30,
            candidates=50,
        )
        dense = placed([hit.dense_score for hit in found.hits])
        lexical = [hit.lexical_score**2 / found.lexical_unit for hit in found.hits]
        for weight in WEIGHTS:
            scores = [weight * d + (1 - weight) * s for d, s in zip(dense, lexical, strict=True)]
            order = sorted(range(len(scores)), key=lambda index: -scores[index])
            ranked = documents(found.hits[index].document_id for index in order)
            sums[question.corpus][weight].append(ndcg(ranked, question.gold))
    table = {
        corpus: {str(weight): round(fmean(values), 4) for weight, values in row.items()}
        for corpus, row in sums.items()
    }
    table["mean"] = {
        str(weight): round(fmean(row[str(weight)] for row in table.values()), 4) for weight in WEIGHTS
    }
    return table


async def compare(
    retriever: Retriever, version: str, questions: Sequence[Question]
) -> tuple[dict[str, dict[str, object]], dict[str, float]]:
    """nDCG@10 and hit@1 of each method by kind, and the stages' medians of the hybrid."""
    cells: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    clusters: dict[tuple[str, str], list[str]] = defaultdict(list)
    stages: dict[str, list[float]] = defaultdict(list)
    for question in questions:
        if not question.gold:
            continue
        request = SearchRequest(
            question=question.text,
            access=Access(tenant=question.corpus, principals=question.principals),
            version=version,
            k=30,
            timeout_s=30,
        )
        kinds = [question.kind]
        if question.corpus != "demo" and question.kind != "scenario":
            kinds.append("all but scenario, fold 0" if not question.tuning else "all but scenario, folds 1-4")
        if question.corpus == "demo":
            kinds.append("all (train, dev)" if question.tuning else "all (holdout)")
        for kind in kinds:
            clusters[question.corpus, kind].append(question.cluster)
        for method, legs in METHODS.items():
            found = await retriever.search(request, legs=legs)
            ranked = documents(hit.document_id for hit in found.hits)
            score = (ndcg(ranked, question.gold), float(bool(ranked) and ranked[0] in question.gold))
            for kind in kinds:
                cells[question.corpus, kind][method].append(score)
            if method == "hybrid":
                for stage, spent_ms in found.timings_ms.items():
                    stages[stage].append(spent_ms)
    table: dict[str, dict[str, object]] = {}
    print(
        f"\n{'questions':46} {'n':>4}   "
        + "   ".join(f"{method:>6} nDCG hit@1" for method in METHODS)
        + "   hybrid minus better leg"
    )
    for (corpus, kind), methods in sorted(cells.items()):
        row: dict[str, object] = {"n": len(methods["hybrid"])}
        figures = []
        for method, scores in methods.items():
            row[method] = {
                "ndcg10": round(fmean(score[0] for score in scores), 4),
                "hit1": round(fmean(score[1] for score in scores), 4),
            }
            figures.append(f"{row[method]['ndcg10']:11.3f} {row[method]['hit1']:5.3f}")  # type: ignore[index]
        better, leg = max((fmean(score[0] for score in methods[leg]), leg) for leg in ("BM25", "dense"))
        pairs = [
            Pair(cluster=cluster, first=alone[0], second=hybrid[0])
            for cluster, alone, hybrid in zip(
                clusters[corpus, kind], methods[leg], methods["hybrid"], strict=True
            )
        ]
        gained = fmean(pair.second - pair.first for pair in pairs)
        interval = cluster_interval(pairs, resamples=RESAMPLES, seed=0)
        row["better_leg"] = leg
        row["ratio_to_better_leg"] = round(1 + gained / better, 3) if better else None
        row["minus_better_leg"] = round(gained, 4)
        row["interval_95"] = [round(interval.low, 4), round(interval.high, 4)] if interval else None
        table[f"{corpus}: {kind}"] = row
        print(
            f"{corpus + ': ' + kind:46} {row['n']:>4}   "
            + "   ".join(figures)
            + f"   {gained:+.3f} {row['interval_95'] or ''}"
        )
    timings = {stage: round(median(values), 2) for stage, values in stages.items()}
    print(f"\nmedian ms a question: {timings}")
    return table, timings


async def refusals(
    retriever: Retriever, version: str, questions: Sequence[Question], abstain_below: float
) -> dict[str, object]:
    """Confidence of questions with and without an answer, and what each threshold would refuse."""
    confidences: dict[str, list[float]] = defaultdict(list)
    for question in questions:
        if question.kind == "scenario":
            continue
        request = SearchRequest(
            question=question.text,
            access=Access(tenant=question.corpus, principals=question.principals),
            version=version,
            timeout_s=30,
        )
        kind = "with an answer" if question.gold else question.kind.partition(" (")[0]
        confidences[f"{question.corpus}: {kind}"].append((await retriever.search(request)).confidence)
    steps = sorted({0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, abstain_below})
    print(f"\nshare below a confidence of ({version} abstains below {abstain_below}):")
    print(f"{'questions':46} {'n':>4} {'median':>7}  " + " ".join(f"{step:>6}" for step in steps))
    table: dict[str, object] = {"abstain_below": abstain_below}
    for name, values in sorted(confidences.items()):
        shares = {str(step): round(sum(value < step for value in values) / len(values), 3) for step in steps}
        table[name] = {"n": len(values), "median": round(median(values), 3), "below": shares}
        print(
            f"{name:46} {len(values):>4} {median(values):>7.3f}  "
            + " ".join(f"{each:>6.1%}" for each in shares.values())
        )
    return table


def documents(ids: Iterable[str]) -> list[str]:
    """Documents in the order of their best chunks."""
    return list(dict.fromkeys(ids))


def ndcg(ranked: Sequence[str], gold: frozenset[str]) -> float:
    """nDCG@10 with binary gains."""
    gain = sum(1 / math.log2(place + 2) for place, document in enumerate(ranked[:10]) if document in gold)
    return gain / sum(1 / math.log2(place + 2) for place in range(min(10, len(gold))))


def placed(values: Sequence[float]) -> list[float]:
    """Each value's place between the least and the greatest, as the search function has it for cosines."""
    low, high = min(values), max(values)
    return [(value - low) / (high - low) if high > low else 1.0 for value in values]


if __name__ == "__main__":
    raise SystemExit(main())
