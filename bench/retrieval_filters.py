"""How much of the truth a search finds when it may only look at one tenant.

    python -m bench.retrieval_filters [--chunks 50000] [--questions 100]

Real questions over a generated corpus (see bench/corpora.py) of 200 tenants, and over one of a single tenant for 100 %.
The truth is an exact scan. Beside our search through the real function: pgvector as it is by default (HNSW, filter after
the index, no iterative scan), pgvector as it is best set up (iterative scan, ef_search 100, a B-tree on the tenant), and
langchain-postgres with its own table, indexes and filter, at its defaults. All rows are the same and in one server; each tenant speaks of the same things, which is the hard case. For the fused order there is no
truth to be exact about, so hybrid shows only how many rows came back and how long it took. Times are told for
orientation; bench/retrieval_scale.py is where they are measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.corpora import REPOSITORY, add_places, seeds_of
from bench.machine import describe_machine
from bench.scale.comparing import (
    Answers,
    K,
    ask_ours,
    ask_peer,
    ask_sql,
    asked_by,
    fill_peer,
    place_of_share,
)
from bench.scale.corpus import Shape
from bench.scale.database import open_database
from bench.scale.peer import running_peer
from bench.scale.seeds import Seeds

SHARES = (0.32, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0005)
#: What a search must find of the exact answer, at every share.
AIM = 0.95


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and write bench/results/retrieval_filters.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_places(parser)
    parser.add_argument("--chunks", type=int, default=50_000)
    parser.add_argument("--questions", type=int, default=100, help="per share")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "bench/results/retrieval_filters.json")
    args = parser.parse_args(argv)
    machine = describe_machine()
    seeds = seeds_of(args)
    found = measure(args.home, seeds, Shape(chunks=args.chunks, tenants=1), (1.0,), args.questions)
    found += measure(args.home, seeds, Shape(chunks=args.chunks), SHARES, args.questions)
    show(found)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"machine": machine, "chunks": args.chunks, "questions": args.questions, "rows": found}
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(
    home: Path, seeds: Seeds, shape: Shape, shares: Sequence[float], questions: int
) -> list[dict[str, Any]]:
    """All methods at each share, largest first."""
    postgres, loaded = open_database(home, seeds, shape)
    found = []
    try:
        with running_peer(home, loaded.url) as peer:
            fill_peer(peer, loaded, seeds.vectors.shape[1])
            for place in dict.fromkeys(place_of_share(loaded.sizes, share) for share in shares):
                asked = asked_by(seeds, [place], count=questions)
                truth = asyncio.run(ask_sql("exact", loaded, asked)).ids
                methods = {
                    "ours, dense": asyncio.run(ask_ours(loaded, seeds, asked, legs="dense")),
                    "ours, hybrid": asyncio.run(ask_ours(loaded, seeds, asked)),
                    "pgvector default": asyncio.run(ask_sql("default", loaded, asked)),
                    "pgvector iterative": asyncio.run(
                        ask_sql("iterative", loaded, asked, settings="iterative_settings")
                    ),
                    "langchain-postgres": ask_peer(peer, asked, hybrid=False, ef_search=None),
                }
                for method, answers in methods.items():
                    found.append(line(method, answers, truth, loaded.sizes[place], shape.chunks))
    finally:
        postgres.stop()
    return found


def line(
    method: str, answers: Answers, truth: Sequence[Sequence[int]], rows: int, chunks: int
) -> dict[str, Any]:
    """One method at one share. Recall is None where the order is not that of the truth."""
    return {
        "share": round(rows / chunks, 5),
        "tenant_rows": rows,
        "method": method,
        "recall_at_10": None if method == "ours, hybrid" else answers.recall(truth),
        "rows_returned": round(answers.rows, 3),
        "rows_possible": min(K, rows),
        "questions_short": answers.short(min(K, rows)),
        "p50_ms": answers.p50_ms,
        "p95_ms": answers.p95_ms,
    }


def show(found: Sequence[dict[str, Any]]) -> None:
    """The table, and whether the aim is met."""
    print(
        f"\n{'share':>8} {'rows':>8}  {'method':20} {'recall@10':>9} {'returned':>9} {'p50 ms':>8} {'p95 ms':>8}"
    )
    for row in found:
        recall = "-" if row["recall_at_10"] is None else f"{row['recall_at_10']:.3f}"
        print(
            f"{row['share']:8.2%} {row['tenant_rows']:8}  {row['method']:20} {recall:>9} {row['rows_returned']:9.1f}"
            f" {row['p50_ms']:8.1f} {row['p95_ms']:8.1f}"
        )
    ours = [row for row in found if row["method"].startswith("ours")]
    recalls = [row["recall_at_10"] for row in ours if row["recall_at_10"] is not None]
    short = sum(row["questions_short"] for row in ours)
    print(
        f"\nlowest recall of ours {min(recalls):.3f}, aim {AIM}: {'met' if min(recalls) >= AIM else 'MISSED'}; "
        f"questions that got fewer rows than there are: {short}, aim 0: {'MISSED' if short else 'met'}"
    )
    for peer in ("pgvector default", "pgvector iterative", "langchain-postgres"):
        rows = [row for row in found if row["method"] == peer]
        worst = min(rows, key=lambda row: row["recall_at_10"])
        print(f"lowest recall of {peer}: {worst['recall_at_10']:.3f} at {worst['share']:.2%}")


if __name__ == "__main__":
    sys.exit(main())
