"""What readers feel of a cut-over, its undo, a build and a retirement: the same load without and with them.

    python -m bench.retrieval_cutover [--documents 3000] [--seconds 20] [--readers 8]

Eight readers search all the time, each as a gateway does: pointer, then one search at the stable version. First nothing
else happens; then the pointer goes over and back, four times a second; then a third version is built, promoted and undone,
and a version that nobody reaches is retired (detached and dropped). A read that raises, or finds nothing, counts as failed.
The documents are more than a search compares one by one, so that reads go through the vector index; if none did, the run
fails. The embedder costs nothing, so that all the time is the rail's. The aims are no failed read, and no move and no read beyond 50 ms.

Moves are timed from a process of their own, as a command or another gateway makes them, by three clocks: the caller's, for
`promote` and `undo`; the caller's for the same statements sent one by one, as before they shared a round trip; and the
server's, from the first statement of a move until its commit is on disk. The same calls in the readers' own event loop,
where each answer of PostgreSQL waits for its turn among the readers, stand beside them, and so do all without load.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg_pool import AsyncConnectionPool

from bench.fresh_rail import WordVectors, fresh_rail
from bench.load import percentile
from bench.machine import describe_machine
from retrieval.building import build
from retrieval.connections import Connection, Pool, borrowed
from retrieval.documents import Access
from retrieval.embedding import Vector
from retrieval.errors import RetrievalError
from retrieval.hits import SearchRequest
from retrieval.ingest import ingest
from retrieval.pointing import QUERIES, VersionStore
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore
from retrieval.versions import KnowledgeVersion

OUT = Path(__file__).with_name("results") / "retrieval_cutover.json"
TENANT = "bench"
WORDS = (
    "account", "invoice", "refund", "sync", "folder", "share", "guest", "plan", "price", "upgrade", "device", "upload",
    "restore", "version",
)  # fmt: skip
#: Between two moves of the pointer.
EVERY_S = 0.25
#: For the longest read and the longest move.
AIM_MS = 50.0


@dataclass(slots=True)
class Load:
    """What the readers saw while something else went on."""

    reads_ms: list[float] = field(default_factory=list)
    failed: int = 0
    versions: set[str] = field(default_factory=set)
    #: How each search went about its dense leg.
    modes: Counter[str] = field(default_factory=Counter)

    def figures(self) -> dict[str, Any]:
        """Count, failures, median, 99th of a hundred, longest."""
        return {
            "reads": len(self.reads_ms),
            "failed": self.failed,
            "p50_ms": round(statistics.median(self.reads_ms), 2),
            "p99_ms": round(percentile(self.reads_ms, 0.99), 2),
            "longest_ms": round(max(self.reads_ms), 2),
            "versions_seen": len(self.versions),
            "modes": dict(self.modes),
        }


class RememberedVectors(WordVectors):
    """Makes the vector of a question once: the readers share one process with the clock."""

    def __init__(self) -> None:
        super().__init__()
        self._questions: dict[str, Vector] = {}

    async def embed_query(self, text: str) -> Vector:
        """The vector of one text."""
        if text not in self._questions:
            self._questions[text] = self._vector(text)
        return self._questions[text]


CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"


class Mover:
    """Moves the pointer over and back in every way that is timed."""

    def __init__(self, pool: Pool, first: str, second: str) -> None:
        self._store = VersionStore(pool)
        self._first, self._second = first, second
        self.times_ms: dict[str, list[float]] = {}

    async def run(self, seconds: float) -> None:
        """Until the time is over; ends at the first version."""
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            await self._timed("promote", self._store.promote(self._second))
            await self._timed("undo", self._store.undo(TENANT, "version"))
            await self._timed("one_by_one", self._one_by_one(self._second))
            self._note("server", await self._on_the_server(self._first))
            await asyncio.sleep(EVERY_S)

    async def _timed(self, name: str, move: Awaitable[object]) -> None:
        began = time.perf_counter()
        await move
        self._note(name, (time.perf_counter() - began) * 1000)
        await asyncio.sleep(EVERY_S)

    def _note(self, name: str, took_ms: float) -> None:
        self.times_ms.setdefault(name, []).append(took_ms)

    async def _one_by_one(self, version: str) -> None:
        async with borrowed(self._store.pool, timeout_s=2.0) as conn, conn.transaction():
            await self._statements(conn, version)

    async def _on_the_server(self, version: str) -> float:
        """Milliseconds by the server's clock; everything is sent at once, so that it waits for nobody."""
        async with borrowed(self._store.pool, timeout_s=2.0) as conn:
            async with conn.pipeline() as pipeline:
                began = await conn.execute(CLOCK)
                await self._statements(conn, version)
                await pipeline.sync()  # commits
                ended = await conn.execute(CLOCK)
            first, last = await began.fetchone(), await ended.fetchone()
        assert first is not None
        assert last is not None
        return float(last[0] - first[0]) * 1000

    async def _statements(self, conn: Connection, version: str) -> None:
        await conn.execute(QUERIES["lock_pointer"])
        await conn.execute(QUERIES["operation"], {"operation": "promote"})
        await conn.execute(QUERIES["promote"], {"version": version})


async def moved_from_elsewhere(pool: Pool, first: str, second: str, seconds: float) -> dict[str, list[float]]:
    """What a mover in a process of its own measured."""
    order = {"url": pool.conninfo, "first": first, "second": second, "seconds": seconds}
    mover = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.retrieval_cutover", "--mover"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[1],
        env=dict(os.environ),
    )
    told, _ = await mover.communicate(json.dumps(order).encode())
    times: dict[str, list[float]] = json.loads(told)
    return times


async def mover_process() -> None:
    """The process: an order on stdin, times on stdout."""
    order = json.load(sys.stdin)
    async with AsyncConnectionPool(order["url"], min_size=1, max_size=1, open=False) as pool:
        mover = Mover(pool, order["first"], order["second"])
        await mover.run(order["seconds"])
    print(json.dumps(mover.times_ms))


def of_moves(times_ms: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Count, median and longest of each way."""
    return {
        name: {
            "moves": len(each),
            "p50_ms": round(statistics.median(each), 2),
            "longest_ms": round(max(each), 2),
        }
        for name, each in times_ms.items()
    }


class Bench:
    """A rail with two versions, and readers of it."""

    def __init__(self, store: KnowledgeStore, readers: int) -> None:
        self.store = store
        self._embedder = RememberedVectors()
        self.embedders = {self._embedder.id: self._embedder}
        self._retriever = Retriever(store=store, embedders=self.embedders)
        self._readers = readers

    async def fill(self, documents: int) -> None:
        """One publish."""
        with tempfile.TemporaryDirectory() as folder:
            corpus = Path(folder) / "corpus.jsonl"
            rows = (
                {
                    "id": f"d{n}",
                    "title": f"Article {n}",
                    "text": " ".join(random.Random(n).choices(WORDS, k=60)),
                }
                for n in range(documents)
            )
            corpus.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
            await ingest(self.store, self._embedder, corpus, tenant=TENANT, source_name="articles")

    async def version(self, name: str, dense_weight: float) -> str:
        """Register and build one that differs in its weight."""
        base = await self.store.version((await self.store.pointer()).stable)
        version: KnowledgeVersion = base.derived(name=name, dense_weight=dense_weight)
        await self.store.register(version)
        await build(self.store, self.embedders, version.id)
        return version.id

    async def under_load(self, meanwhile: Callable[[], Awaitable[None]]) -> Load:
        """Read until something else has ended."""
        load, stop = Load(), asyncio.Event()

        async def read(reader: int) -> None:
            turn = reader
            while not stop.is_set():
                turn += 1
                began = time.perf_counter()
                try:
                    version = (await self.store.pointer()).stable
                    question = f"{WORDS[turn % len(WORDS)]} {WORDS[(turn * 5 + 3) % len(WORDS)]}"
                    access = Access(tenant=TENANT, principals=("public",))
                    request = SearchRequest(question=question, access=access, version=version)
                    found = await self._retriever.search(request)
                    load.failed += not found.hits
                    load.versions.add(version)
                    load.modes[found.mode.partition("+")[0]] += 1
                except RetrievalError:
                    load.failed += 1
                load.reads_ms.append((time.perf_counter() - began) * 1000)

        readers = [asyncio.create_task(read(number)) for number in range(self._readers)]
        try:
            await meanwhile()
        finally:
            stop.set()
            await asyncio.gather(*readers)
        return load


async def measure(documents: int, seconds: float, readers: int) -> dict[str, Any]:
    """All three loads, one after the other."""
    async with fresh_rail(connections=readers + 4) as pool:
        bench = Bench(KnowledgeStore(pool), readers)
        await bench.fill(documents)
        first = (await bench.store.pointer()).stable
        second = await bench.version("second", 0.8)
        moves: dict[str, dict[str, list[float]]] = {}
        steps: dict[str, float] = {}

        async def timed(move: Awaitable[object]) -> float:
            began = time.perf_counter()
            await move
            return (time.perf_counter() - began) * 1000

        async def nothing() -> None:
            await asyncio.sleep(seconds)

        async def cut_over() -> None:
            moves["own_process"] = await moved_from_elsewhere(pool, first, second, seconds)

        async def cut_over_here() -> None:
            mover = Mover(pool, first, second)
            await mover.run(seconds)
            moves["readers_loop"] = mover.times_ms

        async def whole_life() -> None:
            began = time.perf_counter()
            third = await bench.version("third", 0.3)
            steps["build_ms"] = round((time.perf_counter() - began) * 1000)
            for stable in (second, third, first, third):
                await bench.store.promote(stable)
            steps["retire_ms"] = round(await timed(bench.store.retire(second)), 1)

        await bench.under_load(lambda: asyncio.sleep(min(2.0, seconds)))  # caches
        moves["no_load"] = await moved_from_elsewhere(pool, first, second, seconds / 2)
        baseline = (await bench.under_load(nothing)).figures()
        moving = (await bench.under_load(cut_over)).figures()
        moving_here = (await bench.under_load(cut_over_here)).figures()
        living = (await bench.under_load(whole_life)).figures()
    return {
        "documents": documents,
        "readers": readers,
        "no_move": baseline,
        "cut_over_and_undo": moving,
        "the_same_in_the_readers_loop": moving_here,
        "moves": {where: of_moves(times) for where, times in moves.items()},
        "build_promote_retire": {**living, **steps},
    }


def main() -> int:
    """Print the table and write bench/results/retrieval_cutover.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=3000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--mover", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.mover:
        asyncio.run(mover_process())
        return 0
    machine = describe_machine()
    result = asyncio.run(measure(args.documents, args.seconds, args.readers))
    baseline = result["no_move"]
    print(
        f"{'load':<28} {'reads':>7} {'failed':>7} {'p50 ms':>8} {'p99 ms':>8} {'longest':>9} {'p99 / no move':>14}"
    )
    loads = ("no_move", "cut_over_and_undo", "the_same_in_the_readers_loop", "build_promote_retire")
    for name in loads:
        row = result[name]
        ratio = row["p99_ms"] / baseline["p99_ms"]
        print(
            f"{name:<28} {row['reads']:>7} {row['failed']:>7} {row['p50_ms']:>8} {row['p99_ms']:>8}"
            f" {row['longest_ms']:>9} {ratio:>14.2f}"
        )
    ways = ("promote", "undo", "one_by_one", "server")
    print("\nmoves, median ms".ljust(29) + "".join(f" {way:>12}" for way in ways) + "  one by one / promote")
    for where, times in result["moves"].items():
        medians = [times[way]["p50_ms"] for way in ways]
        print(
            f"{where:<28}"
            + "".join(f" {each:>12}" for each in medians)
            + f" {medians[2] / medians[0]:>21.2f}"
        )
    lived = result["build_promote_retire"]
    print(f"under load: build {lived['build_ms']} ms, retire (detach and drop) {lived['retire_ms']} ms")
    failed = sum(result[name]["failed"] for name in loads)
    longest_move = max(
        times[way]["longest_ms"] for times in result["moves"].values() for way in ("promote", "undo")
    )
    longest_read = max(result[name]["longest_ms"] for name in loads if name != "no_move")
    print(f"\nfailed reads: {failed}, aim 0: {'MISSED' if failed else 'met'}")
    for what, took in (("move", longest_move), ("read", longest_read)):
        print(f"longest {what}: {took} ms, aim {AIM_MS:g}: {'met' if took <= AIM_MS else 'MISSED'}", end="")
        print(f" (without moves {baseline['longest_ms']} ms)" if what == "read" else "")
    modes: Counter[str] = sum((Counter(result[name]["modes"]) for name in loads), Counter())
    print(f"searches by their dense leg: {dict(modes)}")
    if not modes["index"]:
        print("no search went through the vector index: give more --documents")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"machine": machine, **result}, indent=1) + "\n", encoding="utf-8")
    return 1 if failed or not modes["index"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
