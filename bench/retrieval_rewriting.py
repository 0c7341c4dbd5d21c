"""Follow-ups: what rewriting finds, beside the last turn alone and the data's own rewrites.

    python -m bench.retrieval_rewriting [--home .twinrail/bench/rewriting] [--data ../shared/data]

Two sets of conversations: in mtrag_support the last turn often stands alone, in concierge_faq the place is
mostly named before it. Hybrid search by the real store, nDCG@10 over questions with a history and a gold
document. The words that are taken were chosen on folds 1 to 4; fold 0 was not looked at for it. `given` is the
rewrite that people wrote for some of mtrag's questions, against the last turn on the same ones.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from psycopg_pool import AsyncConnectionPool

from bench.machine import describe_machine
from bench.question_sets import EVERYBODY, REPOSITORY, shared
from bench.retrieval_quality import RESAMPLES, documents, ndcg
from deploy.migrate import migrate
from deploy.postgres import EmbeddedPostgres
from eval.stats import Pair, cluster_interval
from retrieval.documents import Access
from retrieval.embedding import OnnxEmbedder
from retrieval.hits import Said, SearchRequest
from retrieval.ingest import ingest
from retrieval.minilm import prepare_minilm
from retrieval.rewriting import LastTurns
from retrieval.search import Retriever
from retrieval.starting import first_version
from retrieval.store import KnowledgeStore

SETS = ("mtrag_support", "concierge_faq")
#: Questions of each set and side, in the order of their ids' digests: concierge_faq has 1,824.
MOST = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp:
    """A question with what was said before it."""

    text: str
    history: tuple[Said, ...]
    gold: frozenset[str]
    group: str
    judging: bool
    #: What a person made of it.
    given: str | None


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and write bench/results/retrieval_rewriting.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, default=REPOSITORY / ".twinrail/bench/rewriting")
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared/data")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "bench/results/retrieval_rewriting.json")
    args = parser.parse_args(argv)
    machine = describe_machine()
    prepare_minilm(args.home / "minilm")
    postgres = EmbeddedPostgres(args.home / "postgres")
    url = postgres.start()
    try:
        result = asyncio.run(measure(url, args.home / "minilm", args.data))
    finally:
        postgres.stop()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"machine": machine, "sets": result}, indent=1) + "\n", encoding="utf-8")
    return 0


def follow_ups(folder: Path) -> list[FollowUp]:
    """The questions of a set that have a history and an answer."""
    rows = {
        row["id"]: row
        for row in map(json.loads, (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines())
    }
    found: dict[bool, list[FollowUp]] = {True: [], False: []}
    for question in sorted(shared(folder).questions, key=lambda each: each.id[::-1]):
        row = rows[question.id]
        if not question.gold or not row.get("history"):
            continue
        judging = not question.tuning
        if len(found[judging]) < MOST:
            found[judging].append(
                FollowUp(
                    text=question.text,
                    history=tuple(Said(role=said["role"], text=said["text"]) for said in row["history"]),
                    gold=question.gold,
                    group=question.cluster,
                    judging=judging,
                    given=row.get("rewrite"),
                )
            )
    return found[True] + found[False]


async def measure(url: str, model: Path, data: Path) -> dict[str, Any]:
    """Ingest both sets, search every way, and print as it goes."""
    await migrate(url)
    embedder, rewriter = OnnxEmbedder(model), LastTurns()
    result: dict[str, Any] = {}
    async with AsyncConnectionPool(url, min_size=1, max_size=2, open=False) as pool:
        store = KnowledgeStore(pool)
        version = first_version(embedder)
        await store.register(version)
        retriever = Retriever(store=store, embedders={embedder.id: embedder})
        for name in SETS:
            if not (data / name).exists():
                print(f"skipped: {data / name} is not here")
                continue
            await ingest(store, embedder, data / name / "corpus.jsonl", tenant=name, source_name=name)
            for judging in (True, False):
                asked = [each for each in follow_ups(data / name) if each.judging is judging]
                row = await compared(retriever, rewriter, asked, tenant=name, version=version.id)
                side = "fold 0" if judging else "folds 1-4"
                result[f"{name}, {side}"] = row
                print_row(f"{name}, {side}", row)
    return result


async def compared(
    retriever: Retriever, rewriter: LastTurns, asked: Sequence[FollowUp], *, tenant: str, version: str
) -> dict[str, Any]:
    """nDCG@10 of each way on the same questions."""

    async def score(text: str, gold: frozenset[str]) -> float:
        request = SearchRequest(
            question=text,
            access=Access(tenant=tenant, principals=EVERYBODY),
            version=version,
            k=30,
            timeout_s=60,
        )
        return ndcg(documents(hit.document_id for hit in (await retriever.search(request)).hits), gold)

    scores: dict[str, list[float]] = defaultdict(list)
    spent_us: list[float] = []
    beside_given: list[float] = []
    rewritten_beside_given: list[float] = []
    for each in asked:
        began = time.perf_counter()
        rewritten = await rewriter.rewrite(each.text, each.history, timeout_s=1.0)
        spent_us.append((time.perf_counter() - began) * 1e6)
        alone, better = await score(each.text, each.gold), await score(rewritten, each.gold)
        scores["last turn alone"].append(alone)
        scores[rewriter.id].append(better)
        if each.given:
            scores["given"].append(await score(each.given, each.gold))
            beside_given.append(alone)
            rewritten_beside_given.append(better)
    pairs = [
        Pair(cluster=each.group, first=alone, second=better)
        for each, alone, better in zip(asked, scores["last turn alone"], scores[rewriter.id], strict=True)
    ]
    interval = cluster_interval(pairs, resamples=RESAMPLES, seed=0)
    before, after = fmean(scores["last turn alone"]), fmean(scores[rewriter.id])
    return {
        "n": len(asked),
        "ndcg10": {"last turn alone": round(before, 4), rewriter.id: round(after, 4)},
        "ratio": round(after / before, 3) if before else None,
        "gained": round(after - before, 4),
        "interval_95": [round(interval.low, 4), round(interval.high, 4)] if interval else None,
        "rewrite_us_median": round(median(spent_us), 1),
        "given": {
            "n": len(beside_given),
            "given": round(fmean(scores["given"]), 4),
            "last turn alone": round(fmean(beside_given), 4),
            rewriter.id: round(fmean(rewritten_beside_given), 4),
        }
        if beside_given
        else None,
    }


def print_row(name: str, row: Mapping[str, Any]) -> None:
    """One line of the table."""
    (first, before), (second, after) = row["ndcg10"].items()
    print(
        f"{name:26} n={row['n']:<4} nDCG@10 {first} {before:.3f}, {second} {after:.3f} "
        f"({row['ratio']:.2f} times, {row['gained']:+.3f} {row['interval_95']}, {row['rewrite_us_median']} us)",
        flush=True,
    )
    if given := row["given"]:
        print(f"{'':26} on the {given['n']} with a rewrite by people: {given}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
