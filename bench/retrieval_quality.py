"""Retrieval quality through the real store, set by set: each leg, fused, reranked, and follow-ups rewritten.

    python -m bench.retrieval_quality [--home .twinrail/bench/quality] [--data ../shared/data] [--set NAME ...]

Chunks are ranked, a document counts at its best chunk; nDCG@10 with binary gains, recall@10 and hit@1 over questions
that have a gold document. Each method proposes its own candidates: "BM25" never sees what only the dense leg found.
Questions that share a gold document are in one fold of five. Folds 1 to 4 and the demo's train and dev questions
chose the weight of the fusion; the reranker and its weight come from there too. Judged on fold 0 and the demo's
holdout; aws_docs chose nothing and trained nothing, so all of it judges, and it is the only row on a kind of text
that nothing here has seen, but for the demo. Role-play `scenario` rows of bank_support stand apart.

- fitted: as fused, with the weight that `twinrail knowledge fit` takes from the set's own folds 1 to 4.
- reranked: the 20 best of fused, by the shipped model and the weight of its manifest; only where it is judged.
- rewritten: in sets of conversations, with what was said before; the first columns search the last turn alone. A
  question that begins a conversation is searched as it is under both; the rows `with history` leave those out.

Last of each set, words that stand in one passage only are asked alone ("ABL-204") and as "what is ABL-204": hit@1 of each
leg and of fused.

Every row is of one side. Those that judge say whether the aim is met: fused at most .005 below the better leg.
Of a set's questions at most --most are asked on each side, in the order of their ids' digests. Differences are on the same
questions, with the 95 % interval of a paired bootstrap over groups that share a gold document (the demo's: topics).
The first run embeds every text (a quarter of an hour on two cores); the home keeps them, until the schema changes:
then remove it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from psycopg_pool import AsyncConnectionPool

from bench.machine import describe_machine
from bench.question_sets import REPOSITORY, Corpus, Question, demo, sample, shared, side_of
from bench.rare_words import rare_word_questions, rare_word_table
from deploy.migrate import migrate
from deploy.postgres import EmbeddedPostgres
from eval.stats import Pair, cluster_interval
from retrieval.documents import Access
from retrieval.embedding import OnnxEmbedder
from retrieval.errors import TooFewPairsError
from retrieval.fitting import LEG_TOLERANCE, Ranking, WeightFit, fit_weight, fused_scores, ndcg_at_10
from retrieval.hits import Hit, Said, SearchRequest
from retrieval.ingest import ingest
from retrieval.minilm import prepare_minilm
from retrieval.reordering import RerankStage
from retrieval.reranking import OnnxReranker
from retrieval.rewriting import LastTurns
from retrieval.search import Retriever
from retrieval.starting import first_version
from retrieval.store import KnowledgeStore, Legs
from retrieval.versions import KnowledgeVersion

RESAMPLES = 5_000
RARE_WORDS = 100
SETS = ("demo", "bank_support", "aws_docs", "mtrag_support", "concierge_faq")
LEGS: Mapping[str, Legs] = {"BM25": "lexical", "dense": "dense", "fused": "both"}
METHODS = (*LEGS, "fitted", "reranked", "rewritten", "rewritten, reranked")
#: What is held against what; `better leg` is the one with the higher nDCG@10 on these questions.
DIFFERENCES = (
    ("fused", "better leg"),
    ("fitted", "better leg"),
    ("reranked", "fused"),
    ("rewritten", "fused"),
    ("rewritten, reranked", "rewritten"),
)
#: Kinds with fewer questions are in the file only.
LEAST_SHOWN = 10
#: Chunks of a search, so that ten documents come.
DEPTH = 30
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How well one question was answered."""

    ndcg10: float
    recall10: float
    hit1: float


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables and write bench/results/retrieval_quality.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, default=REPOSITORY / ".twinrail/bench/quality")
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared/data")
    parser.add_argument("--reranker", type=Path, default=REPOSITORY / "deploy/demo/reranker")
    parser.add_argument("--set", dest="sets", action="append", choices=SETS, help="again for more [all]")
    parser.add_argument("--most", type=int, default=200, help="questions of a set on each side [200]")
    parser.add_argument(
        "--out", type=Path, help="[bench/results/retrieval_quality.json, if all sets are run]"
    )
    args = parser.parse_args(argv)
    machine = describe_machine()
    corpora = []
    for name in args.sets or SETS:
        if name == "demo":
            corpora.append(demo(REPOSITORY / "deploy/demo"))
        elif (args.data / name).exists():
            corpora.append(shared(args.data / name))
        else:
            print(f"skipped: {args.data / name} is not here")
    prepare_minilm(args.home / "minilm")
    postgres = EmbeddedPostgres(args.home / "postgres")
    url = postgres.start()
    try:
        result = asyncio.run(measure(url, args, corpora))
    finally:
        postgres.stop()
    whole = REPOSITORY / "bench/results/retrieval_quality.json" if len(corpora) == len(SETS) else None
    if out := args.out or whole:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({"machine": machine, **result}, indent=1) + "\n", "utf-8")
    else:
        print("\nnothing written: not all sets; give --out to keep it")
    return 0


async def measure(url: str, args: argparse.Namespace, corpora: Sequence[Corpus]) -> dict[str, Any]:
    """Ingest and ask set by set, and print as it goes."""
    await migrate(url)
    embedder = OnnxEmbedder(args.home / "minilm")
    async with AsyncConnectionPool(url, min_size=1, max_size=2, open=False) as pool:
        store = KnowledgeStore(pool)
        version = first_version(embedder)
        await store.register(version)
        asking = Asking(
            Retriever(
                store=store,
                embedders={embedder.id: embedder},
                rewriters={LastTurns.id: LastTurns()},
            ),
            version,
            reranker_folder=args.reranker,
        )
        sets: dict[str, Any] = {}
        for corpus in corpora:
            began = time.perf_counter()
            report = await ingest(store, embedder, corpus.source, tenant=corpus.name, source_name=corpus.name)
            ingested = {
                "documents": report.documents,
                "embedded": report.embedded,
                "seconds": round(time.perf_counter() - began, 1),
            }
            asked = sample(corpus.questions, args.most)
            of = sum(bool(question.gold) for question in corpus.questions)
            print(f"\n{corpus.name}: {ingested}; {len(asked)} of {of} questions with a gold document")
            rare = await rare_word_questions(pool, corpus.name, count=RARE_WORDS)
            sets[corpus.name] = {
                "ingested": ingested,
                "questions": of,
                **await asking.ask(asked),
                "rare_words": await asking.ask_rare_words(rare),
            }
    reranker = asking.reranked.reranker if asking.reranked else None
    return {
        "version": version.id,
        "dense_weight": version.dense_weight,
        "reranker": reranker,
        "rerank_weight": asking.reranked.rerank_weight if asking.reranked else None,
        "rewriter": version.rewriter,
        "sets": sets,
    }


class Asking:
    """Asks the questions of a set by every method."""

    def __init__(self, retriever: Retriever, version: KnowledgeVersion, *, reranker_folder: Path) -> None:
        self._retriever = retriever
        self._version = version
        #: What a version with the shipped reranker is; it reads the same chunks.
        self.reranked: KnowledgeVersion | None = None
        if reranker_folder.exists():
            reranker = OnnxReranker(reranker_folder)
            manifest = json.loads((reranker_folder / "manifest.json").read_text(encoding="utf-8"))
            self.reranked = version.derived(
                name="reranked", reranker=reranker.id, rerank_weight=manifest["weight"]
            )
            self._stage = RerankStage({reranker.id: reranker}, timeout_s=TIMEOUT_S)
        else:
            print(f"not reranked: {reranker_folder} is not here")

    async def ask(self, questions: Sequence[Question]) -> dict[str, Any]:
        """The table of a set, printed and returned."""
        scores: dict[str, dict[str, Score]] = {}
        rankings: dict[str, Ranking] = {}
        stages: dict[str, list[float]] = defaultdict(list)
        conversations = any(question.history for question in questions)
        for question in questions:
            scores[question.id] = await self._methods(question, stages)
            if conversations and not question.history:
                scores[question.id] |= unrewritten(scores[question.id])
            rankings[question.id] = await self._ranking(question)
        fit = fitted(
            [rankings[each.id] for each in questions if each.tuning and each.kind != "scenario"],
            self._version,
        )
        if fit:
            for question in questions:
                if not question.tuning:
                    ranked = by_weight(rankings[question.id], fit.dense_weight)
                    scores[question.id]["fitted"] = score(ranked, question.gold)
            print(f"fitted weight of the dense leg {fit.dense_weight} (now {fit.current}): {fit.reason}")
        timings = {stage: round(median(values), 1) for stage, values in stages.items()}
        print(f"median ms: {timings}")
        return {
            "fitted": fit and {"weight": fit.dense_weight, "reason": fit.reason, "ndcg10": dict(fit.ndcg)},
            "timings_ms": timings,
            "rows": tabulate(questions, scores),
        }

    async def ask_rare_words(self, questions: Sequence[Question]) -> dict[str, Any]:
        """hit@1 of each leg and of fused, by how the word was asked; printed and returned."""
        first: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
        for question in questions:
            for method, legs in LEGS.items():
                found = await self._retriever.search(self._request(question), legs=legs)
                first[question.kind][method].append(
                    found.hits[0].document_id in question.gold if found.hits else False
                )
        return rare_word_table(first)

    async def _methods(self, question: Question, stages: dict[str, list[float]]) -> dict[str, Score]:
        found: dict[str, Sequence[Hit]] = {}
        for method, legs in LEGS.items():
            result = await self._retriever.search(self._request(question), legs=legs)
            found[method] = result.hits
        for stage, spent_ms in result.timings_ms.items():
            stages[stage].append(spent_ms)
        if not question.tuning:
            began = time.perf_counter()
            found |= await self._order("reranked", question.text, found["fused"])
            stages["rerank"].append((time.perf_counter() - began) * 1000)
        if question.history:
            result = await self._retriever.search(self._request(question, history=question.history))
            found["rewritten"] = result.hits
            if not question.tuning:
                text = result.rewritten or question.text
                found |= await self._order("rewritten, reranked", text, result.hits)
        return {
            method: score(documents(hit.document_id for hit in hits), question.gold)
            for method, hits in found.items()
        }

    async def _order(self, method: str, text: str, hits: Sequence[Hit]) -> dict[str, Sequence[Hit]]:
        """Hits as a search by a version with the reranker would have them; nothing without one."""
        if self.reranked is None:
            return {}
        deadline = time.monotonic() + TIMEOUT_S
        ordered = await self._stage.order(self.reranked, text, hits, k=DEPTH, deadline=deadline, labels={})
        if ordered.degraded:
            raise RuntimeError(f"the reranker gave no order in {TIMEOUT_S} s; run it on a quieter machine")
        return {method: ordered.hits}

    async def _ranking(self, question: Question) -> Ranking:
        """Every candidate with both scores: what a weight is fitted on."""
        found = await self._retriever.candidates(self._request(question))
        return Ranking(
            documents=tuple(hit.document_id for hit in found.hits),
            dense=tuple(hit.dense_score for hit in found.hits),
            lexical=tuple(hit.lexical_score for hit in found.hits),
            lexical_unit=found.lexical_unit,
            gold=question.gold,
            group=question.cluster,
        )

    def _request(self, question: Question, *, history: tuple[Said, ...] = ()) -> SearchRequest:
        return SearchRequest(
            question=question.text,
            access=Access(tenant=question.corpus, principals=question.principals),
            version=self._version.id,
            k=DEPTH,
            timeout_s=TIMEOUT_S,
            history=history,
        )


# ---- figures -----------------------------------------------------------------------------------


def fitted(rankings: Sequence[Ranking], version: KnowledgeVersion) -> WeightFit | None:
    """The weight of the set's own questions; None where there are too few."""
    try:
        return fit_weight(rankings, current=version.dense_weight)
    except TooFewPairsError:
        return None


def by_weight(ranking: Ranking, weight: float) -> list[str]:
    """Documents as a version of this weight has them."""
    scores = fused_scores(
        ranking.dense, ranking.lexical, lexical_unit=ranking.lexical_unit, dense_weight=weight
    )
    order = sorted(range(len(scores)), key=lambda at: (-scores[at], -ranking.dense[at]))
    return documents(ranking.documents[at] for at in order)


def unrewritten(scores: Mapping[str, Score]) -> dict[str, Score]:
    """What the rewritten methods make of a question that nothing was said before: the same search."""
    same = {"rewritten": "fused", "rewritten, reranked": "reranked"}
    return {method: scores[plain] for method, plain in same.items() if plain in scores}


def score(ranked: Sequence[str], gold: frozenset[str]) -> Score:
    """The three figures of one ranking of documents."""
    return Score(
        ndcg10=ndcg(ranked, gold),
        recall10=len(gold.intersection(ranked[:10])) / len(gold),
        hit1=float(bool(ranked) and ranked[0] in gold),
    )


def tabulate(questions: Sequence[Question], scores: Mapping[str, Mapping[str, Score]]) -> dict[str, Any]:
    """Rows of a set: its sides, and of each side those with a history and the kinds, where there are several."""
    rows: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        side = side_of(question)
        if question.kind != "scenario":
            rows[side].append(question)
            if question.history:
                rows[f"{side}, with history"].append(question)
        rows[f"{side}, {question.kind or 'no kind'}"].append(question)
    table: dict[str, Any] = {}
    print(f"{'nDCG@10 recall@10 hit@1':30} {'n':>4}" + "".join(f"  {method:>19}" for method in METHODS))
    for name, members in sorted(rows.items()):
        if any(members == others for other, others in rows.items() if other in table):
            continue
        table[name] = row = row_of(members, scores)
        if len(members) >= LEAST_SHOWN:
            print_row(name, row)
    return table


def print_row(name: str, row: Mapping[str, Any]) -> None:
    """The figures of a row, and its differences beneath them."""
    cells = (
        " ".join(f"{value:.3f}" for value in row[method].values()) if method in row else "-"
        for method in METHODS
    )
    print(f"{name:30} {row['n']:>4}" + "".join(f"  {cell:>19}" for cell in cells))
    for difference, values in row["differences"].items():
        interval = values["interval_95"] or "(one group: no interval)"
        ratio = f", {values['ratio']:.2f} times" if values["ratio"] else ""
        print(f"{'':35}  {difference}: {values['gained']:+.3f} {interval}{ratio}", flush=True)
    if row["aim_met"] is not None:
        verdict = "met" if row["aim_met"] else "MISSED"
        print(f"{'':35}  aim, fused no more than {LEG_TOLERANCE} below the better leg: {verdict}", flush=True)


def row_of(members: Sequence[Question], scores: Mapping[str, Mapping[str, Score]]) -> dict[str, Any]:
    """Means of the methods that all members were asked by, and their differences."""
    columns = {
        method: [scores[each.id][method] for each in members]
        for method in METHODS
        if all(method in scores[each.id] for each in members)
    }
    row: dict[str, Any] = {"n": len(members)}
    for method, column in columns.items():
        row[method] = {
            figure: round(fmean(getattr(each, figure) for each in column), 4) for figure in Score.__slots__
        }
    better = max(("BM25", "dense"), key=lambda leg: float(row[leg]["ndcg10"]))
    row["better_leg"] = better
    lost = round(row[better]["ndcg10"] - row["fused"]["ndcg10"], 4)
    # Questions that chose the weight say nothing of it.
    row["aim_met"] = None if any(each.tuning for each in members) else lost <= LEG_TOLERANCE
    row["differences"] = {}
    for method, against in DIFFERENCES:
        other = better if against == "better leg" else against
        if method not in columns or other not in columns:
            continue
        pairs = [
            Pair(cluster=each.cluster, first=before.ndcg10, second=after.ndcg10)
            for each, before, after in zip(members, columns[other], columns[method], strict=True)
        ]
        interval = cluster_interval(pairs, resamples=RESAMPLES, seed=0)
        before = row[other]["ndcg10"]
        row["differences"][f"{method} minus {against}"] = {
            "gained": round(fmean(pair.second - pair.first for pair in pairs), 4),
            "interval_95": [round(interval.low, 4), round(interval.high, 4)] if interval else None,
            "ratio": round(row[method]["ndcg10"] / before, 3) if before else None,
        }
    return row


def documents(ids: Iterable[str]) -> list[str]:
    """Documents in the order of their best chunks."""
    return list(dict.fromkeys(ids))


def ndcg(ranked: Sequence[str], gold: frozenset[str]) -> float:
    """nDCG@10 with binary gains."""
    return ndcg_at_10(ranked, gold)


if __name__ == "__main__":
    raise SystemExit(main())
