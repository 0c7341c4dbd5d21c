"""From what was measured to other sizes: a table, and the formula by which it was made."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Extrapolated:
    """The same for a size that was not measured."""

    chunks: int
    vector_index_gb: float
    memory_gb: float
    disk_gb: float
    index_minutes: float
    p95_ms: float


def extrapolate(measured: Sequence[Measured], chunks: int) -> Extrapolated:
    """Bytes in proportion to chunks, time to build to n log n, p95 to log n; from the largest that was measured."""
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
        p95_ms=max(0.0, largest.p95_ms + growth(measured) * math.log2(share)),
    )


def growth(measured: Sequence[Measured]) -> float:
    """Milliseconds of p95 for each doubling, between the smallest and the largest that were measured."""
    smallest = min(measured, key=lambda each: each.chunks)
    largest = max(measured, key=lambda each: each.chunks)
    if smallest.chunks == largest.chunks:
        return 0.0
    return (largest.p95_ms - smallest.p95_ms) / math.log2(largest.chunks / smallest.chunks)


def capacity_table(measured: Sequence[Measured]) -> list[str]:
    """Rows of Markdown for docs/operations.md."""
    lines = [
        "| chunks | vector index | indexes and rows | disk | time to index | p95, one client |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    known = {each.chunks for each in measured}
    for chunks in sorted(known | set(SIZES)):
        each = extrapolate(measured, chunks)
        lines.append(
            f"| {chunks:,}{' (measured)' if chunks in known else ''} | {each.vector_index_gb:.2f} GB |"
            f" {each.memory_gb:.1f} GB | {each.disk_gb:.1f} GB | {each.index_minutes:.1f} min | {each.p95_ms:.0f} ms |"
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
        f" p95: {largest.p95_ms:.1f} ms + {growth(measured):.2f} ms x log2(n / {largest.chunks:,})."
        " Beyond what memory holds, the times do not hold."
    )
