"""The result as a table for people. The same figures are in the result file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.overhead.leaving import MOMENTS


def table(result: Mapping[str, Any]) -> str:
    """Latency, throughput and departures, one line for each target and call."""
    rows = result["rows"]
    lines = [
        f"{'target':24} {'call':16} {'added p50':>9} {'added p99':>9} {'1st text':>9} {'cpu ms':>7} {'most/s':>8} {'p99':>8} {'failed':>6}",
        f"{'':24} {'':16} {'ms':>9} {'ms':>9} {'added ms':>9} {'/request':>7} {'1 core':>8} {'ms':>8}",
    ]
    lines += [
        f"{row['target']:24} {row['call']:16} {_number(row['added_p50_ms']):>9} {_number(row['added_p99_ms']):>9} "
        f"{_number(row.get('added_first_text_p50_ms')):>9} {_number(row['cpu_ms_per_request']):>7} "
        f"{_number(row.get('most_per_second'), 0):>8} {_number(row.get('most_p99_ms'), 0):>8} {sum(row['failures'].values()):>6}"
        for row in rows
    ]
    lines += ["", f"{'upstream freed, worst ms':41} " + " ".join(f"{moment:>22}" for moment in MOMENTS)]
    lines += [
        f"{name:41} " + " ".join(f"{_freed(found[moment]):>22}" for moment in MOMENTS)
        for name, found in result["leaving"].items()
    ]
    lines += ["", *_ratios(rows), *result["notes"]]
    return "\n".join(lines)


def _ratios(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Ours beside the peer's, for the call that both have."""
    found = {row["target"]: row for row in rows if row["call"] == "chat"}
    peer = next((row for name, row in found.items() if name.startswith("litellm")), None)
    if peer is None:
        return []
    lines = []
    for name, row in found.items():
        if name.startswith("twinrail") and row["most_per_second"] and peer["most_per_second"]:
            rate = row["most_per_second"] / peer["most_per_second"]
            added = (
                peer["added_p50_ms"] / row["added_p50_ms"]
                if row["added_p50_ms"] and peer["added_p50_ms"]
                else None
            )
            lines.append(
                f"{name} against {peer['target']}: {rate:.1f} times the requests/s, 1/{_number(added, 1)} of the added p50"
            )
    return lines


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _freed(found: Mapping[str, Any]) -> str:
    worst = found["worst_ms"]
    return f"not within {found['limit_s']:g} s" if worst is None else f"{worst:.1f}"
