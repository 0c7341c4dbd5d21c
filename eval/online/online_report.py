"""Live traffic as text for a terminal and JSON for programs and the gateway, with the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from eval.online.measuring import GroupBy, Line, LiveGroup, Online, Source
from eval.report import Table, as_text, bullets, counts, number, rate, rate_json
from eval.stats import ClusteredRate

#: The metric that is also told as a share of misses, as it is watched.
_HIT, _MISS = "hit", "retrieval miss rate"


def online_text(online: Online) -> str:
    """For a terminal."""
    window = online.window
    head = (
        f"{online.turns} live turns from {window.since:%Y-%m-%d %H:%M} to {window.until:%Y-%m-%d %H:%M}"
        f"{f', of {window.version}' if window.version else ''}"
        f"{' (the latest only: raise --limit)' if online.cut else ''}. Turns of evaluations do not count."
    )
    parts = [head, *(_group_text(group, online) for group in online.groups)]
    parts.append(bullets("NOT ENOUGH EVIDENCE", online.thin))
    return "\n\n".join(filter(None, parts)) + "\n"


def online_json(online: Online) -> dict[str, Any]:
    """For programs, and the content of the report."""
    return {
        "since": online.window.since.isoformat(),
        "until": online.window.until.isoformat(),
        "version": online.window.version,
        "by": online.by.value,
        "turns": online.turns,
        "cut": online.cut,
        "floor": online.floor,
        "scoring": online.scoring,
        "enough_evidence": not online.thin,
        "not_enough_because": list(online.thin),
        "groups": [_group_json(group) for group in online.groups],
    }


def _group_text(group: LiveGroup, online: Online) -> str:
    names = {"index version": group.knowledge, "model version": group.model}
    title = ", ".join(f"{name} {shown or 'none'}" for name, shown in names.items())
    facts = [
        f"{group.turns} turns ({counts(group.statuses)}) of {group.conversations} conversations",
        f"random sample: {group.sampled}, of which {group.reviewed} reviewed",
    ]
    if group.uneven:
        facts.append(group.uneven)
    if group.erased:
        facts.append(f"{group.erased} lost a document that was erased")
    if group.feedback:
        facts.append(f"feedback: {counts(group.feedback)} (who writes chooses: no rate)")
    tables = [
        Table(
            title="; ".join(facts),
            header=("metric", "k/n and 95 % interval", "stands on"),
            rows=tuple(row for line in group.lines for row in _rows(line)),
        ),
        Table(
            title="Milliseconds by stage",
            header=("stage", "turns", "median", "95 % below"),
            rows=tuple(
                (stage.name, str(stage.n), number(stage.median_ms), number(stage.p95_ms))
                for stage in group.stages
            ),
        ),
    ]
    shown = [as_text(table) for table in tables if table.rows]
    heading = [] if online.by is GroupBy.NONE else [title]
    return "\n".join((*heading, *(shown or ["; ".join(facts)])))


def _rows(line: Line) -> Iterator[tuple[str, str, str]]:
    yield (line.metric.title, _cell(line, line.rate), line.source.value)
    if line.metric.name == _HIT and line.source is Source.REVIEWS:
        yield (_MISS, _cell(line, _complement(line.rate)), line.source.value)


def _cell(line: Line, shown: ClusteredRate | None) -> str:
    missing = sum(line.missing.values())
    more = f" ({missing} missing)" if missing else ""
    if line.thin or shown is None:
        return f"not enough: {line.thin}{more}"
    return rate(shown) + more


def _complement(shown: ClusteredRate | None) -> ClusteredRate | None:
    return None if shown is None else replace(shown, k=shown.n - shown.k)


def _group_json(group: LiveGroup) -> dict[str, Any]:
    return {
        "knowledge": group.knowledge,
        "model": group.model,
        "turns": group.turns,
        "conversations": group.conversations,
        "statuses": dict(group.statuses),
        "erased": group.erased,
        "sampled": group.sampled,
        "reviewed": group.reviewed,
        "reviewed_unevenly": group.uneven,
        "feedback": dict(group.feedback),
        "metrics": [_line_json(line) for line in group.lines],
        "stages_ms": {
            stage.name: {"n": stage.n, "median": stage.median_ms, "p95": stage.p95_ms}
            for stage in group.stages
        },
    }


def _line_json(line: Line) -> dict[str, Any]:
    """Below the floor there is `n` and no value."""
    n = line.rate.n if line.rate else 0
    return {
        "name": line.metric.name,
        "title": line.metric.title,
        "group": line.metric.group.value,
        "higher_is_better": line.metric.higher_is_better,
        "source": line.source.name.lower(),
        **({"n": n} if line.thin else rate_json(line.rate)),
        "conversations": line.rate.clusters if line.rate else 0,
        "not_enough_because": line.thin,
        "not_applicable": line.not_applicable,
        "missing": dict(line.missing),
    }
