"""How long a search takes as the corpus grows, what it weighs, and what that means for other sizes.

    python -m bench.retrieval_scale [--chunks 50000 1000000] [--questions 200] [--rounds 3]

Generated corpora of 200 tenants (bench/corpora.py), real questions, all in memory, row-level security on. One client for
latency, eight that never wait for throughput. Beside our hybrid search (one round trip, both legs, texts of the hits):

Beside each time stands recall@10 against an exact scan of the same questions: of ours that of the dense leg alone,
since the fused order has no truth. Time without recall says nothing here: the larger the graph, the wider it is searched.

- `pgvector`: `ORDER BY v <#> q LIMIT 10` with the tenant as a filter, on our own table, at pgvector's defaults, as a
  superuser for whom row-level security is off. One leg, and it may return fewer rows than there are: see `rows`.
- `langchain-postgres`: its hybrid search on its own table with its own indexes, tenant as a filter, 50 rows from each leg
  and ef_search 100 as ours, with a fresh configuration for each question (its own keeps the first question).

Questions come as traffic would (a tenant as often as it is large) and from four tenants of chosen size. Methods take
turns in each round; a figure is the median over the rounds. The embedding of a question is measured by itself.
1,000,000 chunks take about 20 minutes on two quiet cores to load, about 10 more for langchain-postgres's table (left out
with --without-peer), and up to 28 GB of disk for both; both are kept for the next run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.corpora import REPOSITORY, add_places, seeds_of
from bench.load import percentile
from bench.machine import describe_machine
from bench.scale.capacity import Measured, capacity_table, formula
from bench.scale.comparing import (
    Answers,
    Asked,
    ask_ours,
    ask_peer,
    ask_sql,
    asked_by,
    fill_peer,
    place_of_share,
    sizes_of_peer,
    traffic,
)
from bench.scale.corpus import Shape
from bench.scale.database import Loaded, open_database, sizes
from bench.scale.peer import Peer, running_peer
from bench.scale.seeds import Seeds
from retrieval.embedding import OnnxEmbedder

SHARES = (0.32, 0.03, 0.005, 0.0005)
CLIENTS = (1, 8)
EF_SEARCH = 100
#: Milliseconds for one client: chunks -> (p50, p95).
AIMS = {50_000: (10.0, 25.0), 1_000_000: (None, 30.0)}
#: What the dense leg must find of the exact answer, whoever asks.
RECALL_AIM = 0.95


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables and write bench/results/retrieval_scale.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_places(parser)
    parser.add_argument("--chunks", type=int, nargs="+", default=[50_000, 1_000_000])
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-peer", action="store_true", help="leave langchain-postgres out")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "bench/results/retrieval_scale.json")
    args = parser.parse_args(argv)
    machine = describe_machine()
    seeds = seeds_of(args)
    embedding = asyncio.run(embedding_times(args.home, seeds))
    print(f"embedding of a question: p50 {embedding['p50_ms']} ms, p95 {embedding['p95_ms']} ms")
    found = [measure(args, seeds, Shape(chunks=chunks)) for chunks in sorted(args.chunks)]
    measured = [Measured(**each["measured"]) for each in found]
    table = capacity_table(measured)
    print("\n" + "\n".join(table) + "\n\n" + formula(measured))
    result = {
        "machine": machine,
        "questions": args.questions,
        "rounds": args.rounds,
        "embedding": embedding,
        "sizes": found,
        "capacity": table,
        "formula": formula(measured),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


async def embedding_times(home: Path, seeds: Seeds, count: int = 100) -> dict[str, float]:
    """Milliseconds of one question after another with the packaged model."""
    embedder = OnnxEmbedder(home / "minilm")
    took = []
    for question in seeds.questions[:count]:
        began = time.perf_counter()
        await embedder.embed_query(question)
        took.append((time.perf_counter() - began) * 1000)
    return {"p50_ms": round(percentile(took, 0.5), 2), "p95_ms": round(percentile(took, 0.95), 2)}


def measure(args: argparse.Namespace, seeds: Seeds, shape: Shape) -> dict[str, Any]:
    """One corpus: times, sizes, and what it took to build."""
    print(f"\n{shape.chunks} chunks")
    postgres, loaded = open_database(args.home, seeds, shape)
    try:
        if args.without_peer:
            return _measure(args, seeds, loaded, shape, None)
        with running_peer(args.home, loaded.url) as peer:
            return _measure(args, seeds, loaded, shape, peer)
    finally:
        postgres.stop()


def _measure(
    args: argparse.Namespace, seeds: Seeds, loaded: Loaded, shape: Shape, peer: Peer | None
) -> dict[str, Any]:
    peer_seconds = fill_peer(peer, loaded, seeds.vectors.shape[1]) if peer else {}
    places = {"traffic": traffic(loaded.sizes, args.questions)}
    for share in SHARES:
        place = place_of_share(loaded.sizes, share)
        places[f"{loaded.sizes[place] / shape.chunks:.2%} tenant"] = [place]
    rows = []
    for who, of_tenants in places.items():
        asked = asked_by(seeds, of_tenants, count=args.questions)
        for clients in CLIENTS if who == "traffic" else CLIENTS[:1]:
            rows += compare(loaded, seeds, asked, peer, who=who, clients=clients, rounds=args.rounds)
    show(rows, shape.chunks)
    parts = sizes(loaded)
    seconds = dict(loaded.seconds)
    ours = next(row for row in rows if (row["who"], row["method"], row["clients"]) == ("traffic", "ours", 1))
    return {
        "chunks": shape.chunks,
        "rows": rows,
        "bytes": parts,
        "bytes_langchain_postgres": sizes_of_peer(loaded) if peer else {},
        "seconds": seconds,
        "seconds_langchain_postgres": peer_seconds,
        "measured": {
            "chunks": shape.chunks,
            "vector_index_bytes": _part(parts, "_embedding"),
            "text_index_bytes": _part(parts, "_tsv"),
            "rows_bytes": parts["rows"],
            "all_bytes": sum(parts.values()),
            "index_seconds": sum(took for step, took in seconds.items() if step.startswith("index")),
            "p95_ms": ours["p95_ms"],
            "recall_at_10": ours["recall_at_10"],
        },
    }


def compare(
    loaded: Loaded, seeds: Seeds, asked: Asked, peer: Peer | None, *, who: str, clients: int, rounds: int
) -> list[dict[str, Any]]:
    """All methods on the same questions, in turns."""
    methods: dict[str, Callable[[], Answers]] = {
        "ours": lambda: asyncio.run(ask_ours(loaded, seeds, asked, clients=clients)),
        "pgvector": lambda: asyncio.run(ask_sql("plain", loaded, asked, clients=clients)),
    }
    if peer:
        methods["langchain-postgres"] = lambda: ask_peer(
            peer, asked, hybrid=True, ef_search=EF_SEARCH, clients=clients
        )
    runs: dict[str, list[Answers]] = {method: [] for method in methods}
    for ask in methods.values():
        ask()  # nobody's first questions count
    for _ in range(rounds):
        for method, ask in methods.items():
            runs[method].append(ask())
    recalls = recalls_of(loaded, seeds, asked, runs["pgvector"][0]) if clients == 1 else {}
    return [
        {
            "who": who,
            "clients": clients,
            "method": method,
            "p50_ms": median(run.p50_ms for run in of_method),
            "p95_ms": median(run.p95_ms for run in of_method),
            "per_second": median(run.per_second for run in of_method),
            "rows_returned": round(of_method[0].rows, 3),
            "recall_at_10": recalls.get(method),
        }
        for method, of_method in runs.items()
    ]


def recalls_of(loaded: Loaded, seeds: Seeds, asked: Asked, pgvector: Answers) -> dict[str, float]:
    """Of what an exact scan finds for the same questions: our dense leg's share, and pgvector's."""
    truth = asyncio.run(ask_sql("exact", loaded, asked)).ids
    dense = asyncio.run(ask_ours(loaded, seeds, asked, legs="dense"))
    return {"ours": dense.recall(truth), "pgvector": pgvector.recall(truth)}


def show(rows: Sequence[dict[str, Any]], chunks: int) -> None:
    """Times, and ours as a ratio to each of the others."""
    print(
        f"\n{'asked by':>15} {'clients':>7}  {'method':20} {'p50 ms':>8} {'p95 ms':>8} {'per s':>7} {'rows':>5}"
        f" {'recall':>6} {'p95 / ours':>10} {'per s / ours':>12}"
    )
    for row in rows:
        ours = next(
            each
            for each in rows
            if (each["who"], each["clients"], each["method"]) == (row["who"], row["clients"], "ours")
        )
        recall = "-" if row["recall_at_10"] is None else f"{row['recall_at_10']:.3f}"
        print(
            f"{row['who']:>15} {row['clients']:7}  {row['method']:20} {row['p50_ms']:8.1f} {row['p95_ms']:8.1f}"
            f" {row['per_second']:7.0f} {row['rows_returned']:5.1f} {recall:>6} {row['p95_ms'] / ours['p95_ms']:10.2f}"
            f" {row['per_second'] / ours['per_second']:12.2f}"
        )
    for aimed, (p50, p95) in AIMS.items():
        if chunks == aimed:
            row = next(each for each in rows if each["method"] == "ours" and each["clients"] == 1)
            met = row["p95_ms"] <= p95 and (p50 is None or row["p50_ms"] <= p50)
            print(f"aim for one client: p50 {p50 or '-'} ms, p95 {p95} ms: {'met' if met else 'MISSED'}")
    lowest = min(row["recall_at_10"] for row in rows if row["method"] == "ours" and row["clients"] == 1)
    print(
        f"recall@10 of our dense leg, lowest {lowest:.3f}, aim {RECALL_AIM}: {'met' if lowest >= RECALL_AIM else 'MISSED'}"
    )


def _part(parts: dict[str, int], ending: str) -> int:
    return next((size for name, size in parts.items() if name.endswith(ending)), 0)


if __name__ == "__main__":
    sys.exit(main())
