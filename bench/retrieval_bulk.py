"""Chunks written a second, into an empty index version and into one that answers, and what an unchanged corpus costs.

    python -m bench.retrieval_bulk [--chunks 10000] [--live 2000] [--peer-chunks 2000] [--repeats 3]

Generated documents with vectors at hand (an embedder that only hands them out), through the whole path that an ingest
takes: compare, cut, keep the vectors, publish in one transaction.

- `bulk`: the first load of an empty rail, until the version answers: its indexes are made at the end.
- `live`: further documents in publishes of --batch, while HNSW and GIN indexes are kept up.
- `unchanged`: the same documents once more: texts embedded and rows written, by the server's own counters.

langchain-postgres gets the same texts and vectors through its add_embeddings, which commits row by row: first without
indexes, which it then builds (bulk), then with them (live). It gets --peer-chunks of them, as many more would only take
longer. The server's statements are listed by the time that they took.

Everything is done --repeats times, each time on a new database; a figure is that of the run with the median time.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import pstats
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np
import psycopg
from psycopg_pool import AsyncConnectionPool

from bench.corpora import REPOSITORY, add_places, seeds_of
from bench.machine import describe_machine
from bench.scale.corpus import Corpus, GeneratedDocument, Shape
from bench.scale.peer import Peer, running_peer
from bench.scale.seeds import Seeds
from deploy.migrate import migrate
from deploy.postgres import DATABASE, EmbeddedPostgres
from retrieval.chunking import plain_blocks
from retrieval.documents import Document
from retrieval.embedding import Vector
from retrieval.ingest import apply
from retrieval.ingest_report import Changes
from retrieval.parsing import ParsedDocument
from retrieval.sql import named_queries
from retrieval.store import KnowledgeStore

QUERIES = named_queries("bench.scale.sql", "writing.sql")
TENANT = "bulk"
SOURCE = "generated"
#: Chunks a second, and how many times as many as langchain-postgres.
AIMS = {"bulk": (4_000.0, 5.0), "live": (850.0, 1.0)}
SETTINGS = {
    "shared_buffers": "1GB",
    "maintenance_work_mem": "1GB",
    "max_wal_size": "4GB",
    "shared_preload_libraries": "pg_stat_statements",
}


@dataclass(slots=True)
class ReadyVectors:
    """An embedder that hands out vectors which were made before, and remembers what it was asked."""

    id: str
    vectors: Vector
    texts: list[str] = field(default_factory=list)

    @property
    def dims(self) -> int:
        return int(self.vectors.shape[1])

    async def embed_query(self, text: str) -> Vector:
        """Asked for by no ingest: raises, so that a figure with a question in it is an error."""
        raise NotImplementedError(text)

    async def embed_documents(self, texts: Sequence[str]) -> Vector:
        """The next vectors."""
        start = len(self.texts)
        self.texts.extend(texts)
        ready: Vector = self.vectors[start : len(self.texts)]
        return ready


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables and write bench/results/retrieval_bulk.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_places(parser)
    parser.add_argument("--chunks", type=int, default=10_000, help="of the first load")
    parser.add_argument("--live", type=int, default=2_000, help="chunks written afterwards")
    parser.add_argument("--batch", type=int, default=100, help="documents of one live publish")
    parser.add_argument("--peer-chunks", type=int, default=2_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", type=int, default=0, help="show so many of our slowest functions, too")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "bench/results/retrieval_bulk.json")
    args = parser.parse_args(argv)
    machine = describe_machine()
    seeds = seeds_of(args)
    runs = []
    for repeat in range(args.repeats):
        runs.append(measure_anew(args, seeds))
        rates = {
            who: {name: row["per_second"] for name, row in rows.items()} for who, rows in runs[-1].items()
        }
        print(f"run {repeat + 1} of {args.repeats}, chunks/s: {rates}", flush=True)
    result = {who: medians([run[who] for run in runs]) for who in runs[0]}
    show(result)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(
        json.dumps({"machine": machine, "repeats": args.repeats, **result}, indent=1) + "\n", encoding="utf-8"
    )
    return 0


def medians(runs: Sequence[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Of each way to write the run with the median time, whole, and the rates of all."""
    found = {}
    for name in runs[0]:
        rates = [run[name]["per_second"] for run in runs]
        seconds = [run[name]["seconds"] for run in runs]
        found[name] = {**runs[seconds.index(median_low(seconds))][name], "per_second_of_runs": rates}
    return found


def measure_anew(args: argparse.Namespace, seeds: Seeds) -> dict[str, Any]:
    """One run on a database of its own."""
    home = args.home / "bulk"
    shutil.rmtree(home, ignore_errors=True)
    postgres = EmbeddedPostgres(home, settings=SETTINGS)
    url = postgres.start()
    try:
        return measure(args, seeds, url, psycopg.conninfo.make_conninfo(postgres.admin_url, dbname=DATABASE))
    finally:
        postgres.stop()
        shutil.rmtree(home, ignore_errors=True)


def measure(args: argparse.Namespace, seeds: Seeds, url: str, admin_url: str) -> dict[str, Any]:
    """Ours, then the peer with the same texts and vectors."""
    corpus = Corpus(seeds, Shape(chunks=args.chunks + args.live, tenants=1))
    generated = [document for _, batch in corpus.documents() for document in batch]
    vectors = np.stack([chunk.vector for document in generated for chunk in document.chunks])
    # Our chunker may cut a generated chunk in two: spare vectors, in the same order.
    embedder = ReadyVectors(id=seeds.embedder, vectors=np.concatenate([vectors, vectors]))
    documents = [parsed(document) for document in generated]
    first = _count_until(generated, args.chunks)
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(QUERIES["watch"])
        ours = asyncio.run(_ours(args, url, admin, embedder, documents, first))
    texts = embedder.texts[: args.peer_chunks + args.live]
    with running_peer(args.home, url) as peer:
        theirs = measure_peer(peer, texts, embedder.vectors[: len(texts)], args.peer_chunks)
    return {"ours": ours, "langchain_postgres": theirs}


async def _ours(
    args: argparse.Namespace,
    url: str,
    admin: psycopg.Connection[Any],
    embedder: ReadyVectors,
    documents: Sequence[ParsedDocument],
    first: int,
) -> dict[str, Any]:
    await migrate(url)
    found: dict[str, Any] = {}

    async def write(batches: Sequence[Sequence[ParsedDocument]]) -> dict[str, Any]:
        embedded, written = len(embedder.texts), _writes(admin)
        admin.execute(QUERIES["reset"])
        chunks = 0
        # Its own pool: a connection that ends has told the server's counters all that it did.
        async with AsyncConnectionPool(url, min_size=2, max_size=4, open=False) as pool:
            store = KnowledgeStore(pool)
            await pool.wait()
            began = time.perf_counter()
            with _profiled(args.profile):
                for batch in batches:
                    changes = Changes(upserts=tuple(batch))
                    report = await apply(store, [embedder], changes, tenant=TENANT, source=SOURCE)
                    chunks += report.chunks
            seconds = time.perf_counter() - began
        slowest = admin.execute(QUERIES["slowest"], {"count": 8}).fetchall()
        return {
            "chunks": chunks,
            "documents": sum(len(batch) for batch in batches),
            "publishes": len(batches),
            "seconds": round(seconds, 2),
            "per_second": round(chunks / seconds, 1),
            "embedded": len(embedder.texts) - embedded,
            "rows_written": _writes(admin) - written,
            "server_ms": [[name, calls, round(ms, 1)] for name, calls, ms in slowest],
        }

    rest = [documents[start : start + args.batch] for start in range(first, len(documents), args.batch)]
    found["bulk"] = await write([documents[:first]])
    found["live"] = await write(rest)
    found["unchanged"] = await write([documents])
    return found


def measure_peer(peer: Peer, texts: Sequence[str], vectors: Vector, bulk: int) -> dict[str, Any]:
    """langchain-postgres: rows, then indexes, then more rows."""
    rows = [
        {"id": str(uuid.UUID(int=place + 1)), "text": text, "metadata": {"tenant": TENANT}}
        for place, text in enumerate(texts)
    ]
    peer.create()
    seconds = peer.add(rows[:bulk], vectors[:bulk])
    seconds += sum(peer.index().values())
    live = peer.add(rows[bulk:], vectors[bulk:])
    return {
        name: {"chunks": count, "seconds": round(took, 2), "per_second": round(count / took, 1)}
        for name, count, took in (("bulk", bulk, seconds), ("live", len(rows) - bulk, live))
    }


def parsed(document: GeneratedDocument) -> ParsedDocument:
    """A generated document as a reader would hand it over."""
    text = "\n\n".join(chunk.text for chunk in document.chunks)
    made = Document(
        id=document.id,
        title=document.title,
        text=text,
        principals=("staff",) if document.internal else ("public", "staff"),
        language=document.language,
        metadata={"product": document.product, "year": document.year},
    )
    return ParsedDocument(document=made, blocks=plain_blocks(text), origin=f"{document.id}.md")


def show(rows: dict[str, Any]) -> None:
    """Rates beside the peer's, where the server's time went, and the cost of no change."""
    ours, theirs = rows["ours"], rows["langchain_postgres"]
    print(f"\n{'':10} {'ours, chunks/s':>15} {'langchain-postgres':>20} {'ratio':>7}")
    for name, (aim, times) in AIMS.items():
        mine, peer = ours[name]["per_second"], theirs[name]["per_second"]
        met = mine >= aim and mine / peer >= times
        print(
            f"{name:10} {mine:15,.0f} {peer:20,.0f} {mine / peer:7.1f}"
            f"  aim {aim:,.0f}/s and {times:g} times: {'met' if met else 'MISSED'}"
        )
    for name in AIMS:
        print(f"\n{name}: {ours[name]['seconds']} s, of which the server's slowest statements")
        for statement, calls, ms in ours[name]["server_ms"]:
            print(f"  {ms:10,.0f} ms {calls:7} x {statement}")
    unchanged = ours["unchanged"]
    print(
        f"\nunchanged, {unchanged['documents']} documents in {unchanged['seconds']} s: "
        f"{unchanged['embedded']} texts embedded, {unchanged['rows_written']} rows written"
    )


@contextmanager
def _profiled(lines: int) -> Iterator[None]:
    """Python's own time by function, when it is asked for."""
    if not lines:
        yield
        return
    profile = cProfile.Profile()
    with profile:
        yield
    pstats.Stats(profile).sort_stats("tottime").print_stats(lines)


def _writes(admin: psycopg.Connection[Any]) -> int:
    time.sleep(0.5)  # a server process reports its last counts as it ends, just after its client has gone
    row = admin.execute(QUERIES["writes"]).fetchone()
    return int(row[0]) if row else 0


def _count_until(documents: Sequence[GeneratedDocument], chunks: int) -> int:
    held = 0
    for place, document in enumerate(documents):
        held += len(document.chunks)
        if held >= chunks:
            return place + 1
    return len(documents)


if __name__ == "__main__":
    sys.exit(main())
