"""Confidence: does it know when the hits hold no answer? Fitted on folds 1 to 4, judged on fold 0.

    python -m bench.retrieval_confidence [--home .twinrail/bench/confidence] [--data ../shared/data] [--reranker DIR]

`gold left out` is the hardest test: the same question with and without its gold documents in the index.
`unanswerable` sets questions with a found answer against the set's own questions without any. Two fits stand beside
the best cosine alone, as a new version has it: on the tenant's own questions (`twinrail knowledge fit --questions`) and
on questions generated from the tenant's documents (without labels). Calibration errors of small samples are never 0:
`floor` is what a perfectly calibrated probability would show on as many questions. The last table is what a default
from other help centres would do (bench/confidence_transfer.py): the set is left out whole.
Abstention is judged at the threshold that the own fit derives from the stated risk.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from psycopg_pool import AsyncConnectionPool

from bench.confidence_transfer import print_transfer, transfer
from bench.machine import describe_machine
from bench.question_sets import EVERYBODY, REPOSITORY, UNSEEN, Corpus, Question, demo, sample, shared
from deploy.migrate import migrate
from deploy.postgres import EmbeddedPostgres
from retrieval.building import build
from retrieval.calibrating import AS_IT_IS, GOLD_LEFT_OUT, UNANSWERABLE, Collected, collect
from retrieval.confidence import COSINE_ONLY, Calibration
from retrieval.documents import Access
from retrieval.embedding import OnnxEmbedder
from retrieval.fitting import (
    Observation,
    auroc,
    cross_fitted,
    fit_calibration,
    fit_weight,
    quality_of,
    threshold_for,
)
from retrieval.ingest import ingest
from retrieval.minilm import prepare_minilm
from retrieval.questions import LabelledQuestion, generated_questions
from retrieval.rerank_questions import fold_of
from retrieval.reranking import OnnxReranker, Reranker
from retrieval.rewriting import LastTurns
from retrieval.search import Retriever
from retrieval.starting import first_version
from retrieval.store import KnowledgeStore
from retrieval.versions import KnowledgeVersion

SHARED = ("bank_support", "mtrag_support", "aws_docs", "concierge_faq")
#: Questions with an answer that are asked of each side of a set.
MOST = 200
GENERATED_QUESTIONS = 150
#: Name of a run in the results; others are named by their reranker.
WITHOUT = "without reranker"
RISK = 0.2
#: Share of questions without an answer for which the threshold is derived.
EXPECTED_UNANSWERABLE = 0.3
#: In place of real labels of fold 0, to see what chance alone does to a calibration error.
WORLDS = 200


#: `cosine` is what a new version has before anything is fitted.
FITS = ("own", "generated", "cosine")


@dataclass(frozen=True, slots=True, kw_only=True)
class Set:
    """Observations of one question set, apart by what may be fitted on and what judges."""

    name: str
    fitting: tuple[Observation, ...]
    judging: tuple[Observation, ...]
    generated: tuple[Observation, ...]
    weights: Mapping[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables and put the run into bench/results/retrieval_confidence.json, beside one with a reranker."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, default=REPOSITORY / ".twinrail/bench/confidence")
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared/data")
    parser.add_argument("--reranker", type=Path, help="folder of a cross-encoder; without one, none is asked")
    parser.add_argument("--rerank-weight", type=float, default=0.3)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "bench/results/retrieval_confidence.json")
    args = parser.parse_args(argv)
    machine = describe_machine()
    corpora = [demo(REPOSITORY / "deploy/demo")]
    for name in SHARED:
        if (args.data / name).exists():
            corpora.append(shared(args.data / name))
        else:
            print(f"skipped: {args.data / name} is not here")
    prepare_minilm(args.home / "minilm")
    reranker = OnnxReranker(args.reranker) if args.reranker else None
    postgres = EmbeddedPostgres(args.home / "postgres")
    url = postgres.start()
    try:
        sets = asyncio.run(observe(url, args.home / "minilm", corpora, reranker, args.rerank_weight))
    finally:
        postgres.stop()
    runs = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {}
    runs[reranker.id if reranker else WITHOUT] = {"machine": machine, **judge(sets)}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    return 0


async def observe(
    url: str, model: Path, corpora: Sequence[Corpus], reranker: Reranker | None, rerank_weight: float
) -> list[Set]:
    """Ingest each corpus under its own tenant, and make every search that the fits need."""
    await migrate(url)
    embedder = OnnxEmbedder(model)
    async with AsyncConnectionPool(url, min_size=1, max_size=2, open=False) as pool:
        store = KnowledgeStore(pool)
        wanted = version_of(embedder, reranker, rerank_weight)
        await store.register(wanted)
        for corpus in corpora:
            report = await ingest(store, embedder, corpus.source, tenant=corpus.name, source_name=corpus.name)
            print(f"ingested {corpus.name}: {report.chunks} chunks, {report.embedded} embedded", flush=True)
        # In a home that is kept, the stable version is that of an earlier run.
        await build(store, {embedder.id: embedder}, wanted.id)
        rerankers = {reranker.id: reranker} if reranker else {}
        retriever = Retriever(
            store=store,
            embedders={embedder.id: embedder},
            rerankers=rerankers,
            rerank_timeout_s=60.0,
            rewriters={LastTurns.id: LastTurns()},
        )
        return [await observed(retriever, store, corpus, wanted) for corpus in corpora]


def version_of(embedder: OnnxEmbedder, reranker: Reranker | None, weight: float) -> KnowledgeVersion:
    """The index version that a new rail begins with, with a reranker if one is given."""
    first = first_version(embedder)
    if reranker is None:
        return first
    return first.derived(name="reranked", reranker=reranker.id, rerank_weight=weight)


async def observed(
    retriever: Retriever, store: KnowledgeStore, corpus: Corpus, version: KnowledgeVersion
) -> Set:
    """Searches of a set's own questions and of generated ones."""
    labelled = [
        LabelledQuestion(
            text=each.text,
            gold=each.gold,
            # Folds are told from the group, so what judges is marked in its name.
            group=f"{'fit' if may_fit(each) else 'judge'} {each.cluster}",
            history=each.history,
            principals=each.principals,
        )
        for each in asked_of(corpus)
    ]
    access = Access(tenant=corpus.name, principals=EVERYBODY)
    found = await collect(retriever, labelled, access=access, version=version.id)
    made = await generated_questions(store, tenant=corpus.name, version=version.id, limit=GENERATED_QUESTIONS)
    generated = await collect(retriever, made, access=access, version=version.id)
    print(f"searched {corpus.name}: {len(labelled)} questions, {len(made)} generated", flush=True)
    named = [replace(each, group=f"{corpus.name} {each.group}") for each in found.observations]
    return Set(
        name=corpus.name,
        fitting=tuple(each for each in named if " fit " in each.group),
        judging=tuple(each for each in named if " judge " in each.group),
        generated=generated.observations,
        weights=weights_of(found, generated, version.dense_weight),
    )


def asked_of(corpus: Corpus) -> list[Question]:
    """A sample of the answerable, and all that nothing in the corpus answers. No role play of hundreds of words,
    and no turns that need no search."""
    asked = [each for each in corpus.questions if each.kind not in ("scenario", "not_knowledge_seeking")]
    return sample(asked, MOST) + [each for each in asked if not each.gold]


def may_fit(question: Question) -> bool:
    """Whether a fit may see it: folds 1 to 4, those of the set too that chose nothing else."""
    return question.tuning or (question.corpus == UNSEEN and fold_of(question.cluster) != 0)


def weights_of(labelled: Collected, generated: Collected, current: float) -> dict[str, Any]:
    """The fitted weight of either kind of questions, and what it ranks like on those that judge."""
    fitting = [each for each in labelled.rankings if each.group.startswith("fit ")]
    judging = [each for each in labelled.rankings if each.group.startswith("judge ")]
    result: dict[str, Any] = {"current": current}
    # The table of nDCG by weight over the questions that judge; its choice is not looked at.
    table = fit_weight(judging * (1 + 50 // max(1, len(judging))), current=current).ndcg
    for kind, rankings in (("own", fitting), ("generated", generated.rankings)):
        fit = fit_weight(rankings, current=current)
        result[kind] = {
            "weight": fit.dense_weight,
            "reason": fit.reason,
            "pairs": fit.pairs,
            "gain": fit.gain,
            "interval_95": fit.interval,
            "judged_ndcg10": table[fit.dense_weight],
            "judged_minus_current": round(table[fit.dense_weight] - table[current], 4),
            "judged_minus_better_leg": round(table[fit.dense_weight] - max(table[0.0], table[1.0]), 4),
        }
    return result


def judge(sets: Sequence[Set]) -> dict[str, Any]:
    """Every table."""
    result: dict[str, Any] = {"sets": {}}
    head = f"{'set':14} {'test':14} {'n':>4} {'cosine':>7} " + " ".join(f"{name:>22}" for name in FITS)
    print(f"\nAUROC / calibration error on fold 0 (floor by chance), beside the best cosine's AUROC\n{head}")
    for part in sets:
        fits = {
            "own": fit_calibration(part.fitting),
            "generated": fit_calibration(part.generated),
            "cosine": COSINE_ONLY,
        }
        tests = {
            "gold left out": kinds(part.judging, AS_IT_IS, GOLD_LEFT_OUT),
            "unanswerable": [
                each
                for each in part.judging
                if each.kind == UNANSWERABLE or (each.kind == AS_IT_IS and each.sufficient)
            ],
        }
        row: dict[str, Any] = {"weight": part.weights, "abstention": abstention(part, fits["own"])}
        for test, judged in tests.items():
            if len({each.sufficient for each in judged}) < 2:
                continue  # a set without unanswerable questions
            row[test] = compared(judged, fits)
            print_row(part.name, test, row[test])
        held_out = cross_fitted(list(kinds(part.fitting + part.judging, AS_IT_IS, GOLD_LEFT_OUT)))
        every = kinds(part.fitting + part.judging, AS_IT_IS, GOLD_LEFT_OUT)
        truth = [each.sufficient for each in every]
        row["all folds, cross-fitted"] = {
            **asdict(quality_of(held_out, truth)),
            "floor": floor(held_out),
        }
        cell = row["all folds, cross-fitted"]
        print(
            f"{part.name:14} {'all folds':14} {len(every):>4} {'':7} "
            f"{cell['auroc']:>7.3f} / {cell['ece']:.3f} ({cell['floor']:.3f})   cross-fitted, gold left out"
        )
        result["sets"][part.name] = row
    print_abstention(result["sets"])
    print_weights(result["sets"])
    result["left_out"] = transfer({part.name: part.fitting + part.judging for part in sets})
    print_transfer(result["left_out"])
    return result


def kinds(observations: Sequence[Observation], *wanted: str) -> list[Observation]:
    """Observations of some kinds."""
    return [each for each in observations if each.kind in wanted]


def compared(judged: Sequence[Observation], fits: Mapping[str, Calibration]) -> dict[str, Any]:
    """Quality of each fit on the same questions, beside the cosine."""
    truth = [each.sufficient for each in judged]
    cosine = auroc([each.features.get("top_dense", 0.0) for each in judged], truth)
    row: dict[str, Any] = {"n": len(judged), "auroc_of_cosine_alone": cosine}
    for name, calibration in fits.items():
        given = np.array([calibration.probability(each.features) for each in judged])
        quality = quality_of(given, truth)
        row[name] = {
            **asdict(quality),
            "floor": floor(given),
            "auroc_ratio_to_cosine": round(quality.auroc / cosine, 3) if quality.auroc and cosine else None,
        }
    return row


def floor(probabilities: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Calibration error that these probabilities would show by chance if they were exactly right."""
    chance = np.random.default_rng(0)
    worlds = [
        quality_of(probabilities, chance.random(len(probabilities)) < probabilities).ece
        for _ in range(WORLDS)
    ]
    return round(median(worlds), 4)


def abstention(part: Set, calibration: Calibration) -> dict[str, Any]:
    """What the threshold of the own fit does on fold 0: all questions, with and without gold, unanswerable."""
    truth = [each.sufficient for each in part.fitting]
    threshold = threshold_for(
        cross_fitted(part.fitting), truth, risk=RISK, unanswerable=EXPECTED_UNANSWERABLE
    )
    if threshold is None:
        return {"risk": RISK, "threshold": None}
    refused: list[bool] = []
    answered: list[bool] = []
    for each in part.judging:
        sure = calibration.probability(each.features) >= threshold.abstain_below
        (answered if sure else refused).append(each.sufficient)
    ups = sum(answered) + sum(refused)
    downs = len(part.judging) - ups
    right, wrong = sum(answered) / ups, (len(answered) - sum(answered)) / downs
    missed = EXPECTED_UNANSWERABLE * wrong
    passed = missed + (1 - EXPECTED_UNANSWERABLE) * right
    return {
        "risk": RISK,
        "expected_unanswerable": EXPECTED_UNANSWERABLE,
        "threshold": threshold.abstain_below,
        "stated_bound": threshold.risk_bound,
        "risk_on_fold_0": round(missed / passed, 4) if passed else None,
        "answered_of_sufficient": round(right, 4),
        "abstention_precision": round(EXPECTED_UNANSWERABLE * (1 - wrong) / (1 - passed), 4)
        if passed < 1
        else None,
        "abstention_recall": round(1 - wrong, 4),
        "n": len(part.judging),
    }


def print_row(name: str, test: str, row: Mapping[str, Any]) -> None:
    """One line of the first table."""
    cells = " ".join(
        f"{row[fit]['auroc']:>7.3f} / {row[fit]['ece']:.3f} ({row[fit]['floor']:.3f})" for fit in FITS
    )
    print(f"{name:14} {test:14} {row['n']:>4} {row['auroc_of_cosine_alone']:>7.3f} {cells}")


def print_abstention(sets: Mapping[str, Mapping[str, Any]]) -> None:
    """The second table."""
    print(
        f"\nabstaining at a stated risk of {RISK} with {EXPECTED_UNANSWERABLE:.0%} unanswerable, on fold 0\n"
        f"{'set':14} {'n':>4} {'threshold':>9} {'risk seen':>9} {'answered':>8} {'precision':>9} {'recall':>7}"
    )
    for name, row in sets.items():
        cell = row["abstention"]
        if cell["threshold"] is None:
            print(f"{name:14} no threshold keeps that risk")
            continue
        print(
            f"{name:14} {cell['n']:>4} {cell['threshold']:>9.3f} {cell['risk_on_fold_0']:>9.3f} "
            f"{cell['answered_of_sufficient']:>8.1%} {cell['abstention_precision']:>9.3f} "
            f"{cell['abstention_recall']:>7.3f}"
        )


def print_weights(sets: Mapping[str, Mapping[str, Any]]) -> None:
    """The third table."""
    print(f"\nfitted dense weight, judged by nDCG@10 on fold 0\n{'set':14} {'from':10} weight  minus current")
    for name, row in sets.items():
        for kind in ("own", "generated"):
            cell = row["weight"][kind]
            print(
                f"{name:14} {kind:10} {cell['weight']:>6}  {cell['judged_minus_current']:+.4f}  "
                f"(minus better leg {cell['judged_minus_better_leg']:+.4f}; {cell['reason']})"
            )


if __name__ == "__main__":
    raise SystemExit(main())
