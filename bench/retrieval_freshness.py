"""How long a change takes to be found, and what looking through an unchanged source costs.

    python -m bench.retrieval_freshness [--documents 2000] [--changes 60]

A folder of articles is ingested once. Then one file at a time is changed, and the clock runs from its writing to the first
search that finds the new text: as a sync of the whole folder brings it (read, compare, embed, publish, search), and as a
single document sent to `apply`, which is what a job of `PUT /v1/documents/{id}` does once a worker has it. Each search is
one real round trip; they begin when the publish returns. The embedder costs nothing, so that the figure is the rail's;
embedding adds its own time for each changed passage (MiniLM: about 40 ms). The peer's figure is stated and not measured:
pgai's vectorizer polls every five minutes by default (reference/retrieval.md), so half of that at the median.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.fresh_rail import WordVectors, fresh_rail
from bench.machine import describe_machine
from retrieval.connections import Pool
from retrieval.documents import Access
from retrieval.freshness import freshness
from retrieval.ingest import Changes, IngestReport, apply, ingest
from retrieval.parsing import parse_row
from retrieval.store import KnowledgeStore

OUT = Path(__file__).with_name("results") / "retrieval_freshness.json"
TENANT, SOURCE = "bench", "articles"
#: Stated: default interval of pgai's vectorizer worker in its cloud.
PGAI_POLL_S = 300.0
WORDS = (
    "account invoice refund sync folder share guest plan price upgrade device upload restore version history link "
    "password login team admin storage quota export import calendar mail filter rule label archive search"
)
#: Tables whose writes an unchanged sync must not make; `source` notes when it was looked through.
_WRITES = """
    SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del) FILTER (WHERE relname <> 'source'), 0),
           coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del) FILTER (WHERE relname = 'source'), 0)
    FROM pg_stat_user_tables WHERE schemaname = 'retrieval'"""
_FLUSH = "SELECT pg_stat_force_next_flush()"


class Bench:
    """A folder, the rail that it is ingested into, and the clock."""

    def __init__(self, pool: Pool, folder: Path, seed: int) -> None:
        self._pool = pool
        self._folder = folder
        self._store = KnowledgeStore(pool)
        self._embedder = WordVectors()
        self._random = random.Random(seed)
        self._edition = 0

    async def fill(self, documents: int) -> IngestReport:
        """The first import."""
        for number in range(documents):
            self._path(number).write_text(self._article(number, "first"), encoding="utf-8")
        return await self._sync()

    async def changed_file(self, number: int) -> float:
        """Seconds from writing a file to finding its new text, by a sync of the folder."""
        mark = self._mark()
        article = self._article(number, mark)
        began = time.perf_counter()
        self._path(number).write_text(article, encoding="utf-8")
        report = await self._sync()
        await self._found(mark, number)
        took = time.perf_counter() - began
        if (report.added, report.changed) != (0, 1):
            raise RuntimeError(f"one file was changed, and the report says {report}")
        return took

    async def sent_document(self, number: int) -> float:
        """The same for a single document that is sent; its file is made equal afterwards, off the clock."""
        mark = self._mark()
        article = self._article(number, mark)
        row = {"id": f"article-{number}", "title": f"Article {number}", "text": article}
        began = time.perf_counter()
        parsed = parse_row("sent", row)
        changes = Changes(upserts=(parsed,))
        await apply(self._store, [self._embedder], changes, tenant=TENANT, source=SOURCE)
        await self._found(mark, number)
        return time.perf_counter() - began

    async def unchanged(self) -> dict[str, float]:
        """A sync in which nothing has changed: time, embeddings, rows written."""
        await self._sync()
        before, made = await self._writes(), self._embedder.made
        began = time.perf_counter()
        report = await self._sync()
        seconds = time.perf_counter() - began
        after = await self._writes()
        return {
            "seconds": seconds,
            "documents": report.documents,
            "embeddings": self._embedder.made - made,
            "rows_written": after[0] - before[0],
            "rows_noting_the_look": after[1] - before[1],
        }

    async def noted_lag_s(self) -> float | None:
        """What the rail itself says of the last change."""
        (source,) = await freshness(self._store, TENANT)
        return source.lag_s

    async def _sync(self) -> IngestReport:
        return await ingest(self._store, self._embedder, self._folder, tenant=TENANT, source_name=SOURCE)

    async def _found(self, mark: str, number: int) -> None:
        found = await self._store.search(
            Access(tenant=TENANT, principals=("public",)),
            version=(await self._store.pointer()).stable,
            question=mark,
            embedding=await self._embedder.embed_query(mark),
            k=8,
            # The vectors of this bench mean nothing, and would only rank other articles before it.
            legs="lexical",
            timeout_s=60.0,
        )
        if not any(mark in hit.text and hit.document_id == f"article-{number}" for hit in found.hits):
            raise RuntimeError(f"article-{number} was published and its new text is not found")

    async def _writes(self) -> tuple[int, int]:
        """Rows written until now; every connection hands in its counts first."""
        for _ in range(self._pool.max_size):
            async with self._pool.connection() as conn:
                await conn.execute(_FLUSH)
        await asyncio.sleep(1.5)
        async with self._pool.connection() as conn:
            row = await (await conn.execute(_WRITES)).fetchone()
        if row is None:
            raise RuntimeError("no statistics")
        return int(row[0]), int(row[1])

    def _path(self, number: int) -> Path:
        return self._folder / f"article-{number}.md"

    def _mark(self) -> str:
        self._edition += 1
        return f"edition{self._edition}x{self._random.randrange(10**6)}"

    def _article(self, number: int, mark: str) -> str:
        chance, words = random.Random(number), WORDS.split()
        parts = [f"# Article {number}", f"This is {mark}."]
        for section in range(2):
            body = " ".join(chance.choice(words) for _ in range(150))
            parts += [f"## Part {section}", body + "."]
        return "\n\n".join(parts) + "\n"


async def measure(documents: int, changes: int, seed: int) -> dict[str, Any]:
    """Everything, on a rail of its own."""
    with tempfile.TemporaryDirectory(prefix="twinrail-bench-") as folder:
        async with fresh_rail(connections=2) as pool:
            bench = Bench(pool, Path(folder), seed)
            filled = await bench.fill(documents)
            chance = random.Random(seed)
            # Files and sent documents apart: a sync would take back what was sent and is not in the folder.
            synced = [await bench.changed_file(chance.randrange(documents)) for _ in range(changes)]
            noted = await bench.noted_lag_s()
            unchanged = await bench.unchanged()
            sent = [await bench.sent_document(chance.randrange(documents)) for _ in range(changes)]
    return {
        "documents": documents,
        "chunks": filled.chunks,
        "sync_s": summary(synced),
        "sent_s": summary(sent),
        "last_lag_noted_s": noted,
        "unchanged": unchanged,
        "stated": {"pgai_poll_s": PGAI_POLL_S},
    }


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile and worst."""
    ordered = sorted(seconds)
    return {
        "p50": statistics.median(ordered),
        "p95": ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))],
        "max": ordered[-1],
    }


def show(found: dict[str, Any]) -> None:
    """The table."""
    print(f"{found['documents']} documents, {found['chunks']} passages")
    print(f"{'change to searchable':38s} {'p50':>8s} {'p95':>8s} {'max':>8s}  stated poll / p95")
    for name, what in (("sync_s", "sync of the whole folder"), ("sent_s", "one document sent")):
        row = found[name]
        ratio = PGAI_POLL_S / row["p95"]
        print(f"{what:38s} {row['p50']:7.3f}s {row['p95']:7.3f}s {row['max']:7.3f}s  {ratio:8.0f} x")
    print(f"{'pgai vectorizer (stated, not measured)':38s} {PGAI_POLL_S / 2:7.0f}s {PGAI_POLL_S:7.0f}s")
    still = found["unchanged"]
    print(
        f"unchanged sync: {still['seconds']:.2f} s, {still['embeddings']} embeddings, "
        f"{still['rows_written']} rows written, {still['rows_noting_the_look']} noting when it was looked at"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--changes", type=int, default=60, help="of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args(argv)
    machine = describe_machine()
    began = datetime.now(UTC)
    found = asyncio.run(measure(args.documents, args.changes, args.seed))
    show(found)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(
        json.dumps({"machine": machine, "began": began.isoformat(), **found}, indent=2) + "\n",
        encoding="utf-8",
    )
    return 0 if not (found["unchanged"]["embeddings"] or found["unchanged"]["rows_written"]) else 1


if __name__ == "__main__":
    sys.exit(main())
