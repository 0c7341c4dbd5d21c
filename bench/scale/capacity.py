"""From what was measured to other sizes: a table, and the formula by which it was made.

Bytes and the time to index follow from a measurement, the time of a search does not. 0002_search.sql searches the graph
1.5 times the root of the rows wide until pgvector takes no more, 1000 at about 450 thousand chunks: below that, time grows
faster than the graph; above it, recall falls. So both are told for measured sizes only, side by side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Chunks for which operators ask.
SIZES = (100_000, 1_000_000, 5_000_000, 10_000_000, 50_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measured corpus."""

    chunks: int
    vector_index_bytes: int
    text_index_bytes: int
    #: The rows as a search reads them, without what moved out of them.
    rows_bytes: int
    all_bytes: int
    #: All indexes of the partition.
    index_seconds: float
    #: One client, tenants as traffic has them.
    p95_ms: float
    #: Of the dense leg on the same questions.
    recall_at_10: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Extrapolated:
    """The same for a size that was not measured."""

    chunks: int
    vector_index_gb: float
    memory_gb: float
    disk_gb: float
    index_minutes: float


def extrapolate(measured: Sequence[Measured], chunks: int) -> Extrapolated:
    """Bytes in proportion to chunks, time to build to n log n; from the largest that was measured."""
    largest = max(measured, key=lambda each: each.chunks)
    share = chunks / largest.chunks
    vector = largest.vector_index_bytes * share
    hot = vector + largest.text_index_bytes * share + largest.rows_bytes * share
    build = largest.index_seconds * share * math.log(chunks) / math.log(largest.chunks)
    return Extrapolated(
        chunks=chunks,
        vector_index_gb=vector / 1e9,
        memory_gb=hot / 1e9,
        disk_gb=largest.all_bytes * share / 1e9,
        index_minutes=build / 60,
    )


def capacity_table(measured: Sequence[Measured]) -> list[str]:
    """Rows of Markdown for docs/operations.md."""
    lines = [
        "| chunks | vector index | indexes and rows | disk | time to index | p95, one client | recall@10, dense leg |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    known = {each.chunks: each for each in measured}
    for chunks in sorted(known.keys() | set(SIZES)):
        seen = known.get(chunks)
        each = extrapolate([seen] if seen else measured, chunks)
        searching = (
            f"{seen.p95_ms:.0f} ms | {seen.recall_at_10:.3f}" if seen else "not measured | not measured"
        )
        lines.append(
            f"| {chunks:,}{' (measured)' if seen else ''} | {each.vector_index_gb:.2f} GB |"
            f" {each.memory_gb:.1f} GB | {each.disk_gb:.1f} GB | {each.index_minutes:.1f} min | {searching} |"
        )
    return lines


def formula(measured: Sequence[Measured]) -> str:
    """How the table was made, with its numbers."""
    largest = max(measured, key=lambda each: each.chunks)
    per_chunk = {
        "vector index": largest.vector_index_bytes / largest.chunks,
        "text index": largest.text_index_bytes / largest.chunks,
        "rows": largest.rows_bytes / largest.chunks,
        "disk in all": largest.all_bytes / largest.chunks,
    }
    return (
        "Bytes a chunk: "
        + ", ".join(f"{name} {size:,.0f}" for name, size in per_chunk.items())
        + f". Time to index: {largest.index_seconds:.0f} s x (n / {largest.chunks:,}) x log(n) / log({largest.chunks:,})."
        " Beyond what memory holds, the time does not hold. p95 and recall follow from no formula: a search widens with"
        " the corpus up to 450,000 chunks, and from there on recall falls."
    )
