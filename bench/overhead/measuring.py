"""One target after the other, round by round: latency at a fixed rate, the most that one core gives, and the price in CPU.

Added latency is the difference against the direct call of the same round, and the figure is the median over the rounds, so
that a machine that gets slower in the meantime moves both sides.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bench.load import Request, Sample, at_most, at_rate, percentile
from bench.overhead.processes import Service
from bench.overhead.stand import Upstream


class Call(StrEnum):
    """The ways to ask. The OpenAI ones exist on every target, the native ones on ours."""

    CHAT = "chat"
    CHAT_STREAM = "chat, stream"
    ANSWERS = "answers"
    ANSWERS_STREAM = "answers, stream"

    @property
    def is_stream(self) -> bool:
        return self in (Call.CHAT_STREAM, Call.ANSWERS_STREAM)

    @property
    def direct(self) -> Call:
        """The direct call that it is compared with."""
        return Call.CHAT_STREAM if self.is_stream else Call.CHAT


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Something that answers. Without a process it is the upstream itself."""

    name: str
    requests: Mapping[Call, Request]
    service: Service | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how hard."""

    rounds: int = 3
    per_second: float = 20.0
    latency_s: float = 10.0
    #: Streams: 20 ms to the first token, then one every 5 ms.
    streams_per_second: float = 5.0
    stream_s: float = 7.0
    first_token_s: float = 0.02
    between_s: float = 0.005
    most_s: float = 5.0
    clients: int = 64
    leave_tries: int = 3
    leave_limit_s: float = 3.0
    #: Bound of everything together, setting up apart.
    limit_s: float = 540.0


QUICK = Plan(
    rounds=1, latency_s=1.5, stream_s=1.0, most_s=1.0, clients=16, leave_tries=1, leave_limit_s=1.0, limit_s=120.0
)  # fmt: skip


@dataclass(slots=True)
class Column:
    """What was measured of one way to ask one target, a value a round."""

    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    first_text_p50_ms: list[float] = field(default_factory=list)
    first_text_p99_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    most_per_second: list[float] = field(default_factory=list)
    most_p99_ms: list[float] = field(default_factory=list)
    most_cpu_ms: list[float] = field(default_factory=list)
    requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)


Columns = dict[tuple[str, Call], Column]


async def measure(
    targets: Sequence[Target], plan: Plan, upstream: Upstream, say: Callable[[str], None]
) -> Columns:
    """All rounds. Every target answers a call for some seconds before the next target does."""
    columns: Columns = {(target.name, call): Column() for target in targets for call in target.requests}
    for number in range(1, plan.rounds + 1):
        say(f"round {number} of {plan.rounds}: latency at {plan.per_second:g} requests/s")
        await _latency(targets, columns, plan, streams=False)
        say(f"round {number} of {plan.rounds}: latency of streams at {plan.streams_per_second:g}/s")
        await upstream.pace(first_token_s=plan.first_token_s, between_s=plan.between_s)
        try:
            await _latency(targets, columns, plan, streams=True)
        finally:
            await upstream.pace()
        say(f"round {number} of {plan.rounds}: most requests/s with {plan.clients} clients")
        for target in targets:
            for call, request in target.requests.items():
                if not call.is_stream:
                    await _most(target, columns[target.name, call], request, plan)
    return columns


async def _latency(targets: Sequence[Target], columns: Columns, plan: Plan, *, streams: bool) -> None:
    rate, seconds = (plan.streams_per_second, plan.stream_s) if streams else (plan.per_second, plan.latency_s)
    for target in targets:
        for call, request in target.requests.items():
            if call.is_stream != streams:
                continue
            column = columns[target.name, call]
            before = _cpu_s(target)
            sample = await at_rate(request, per_second=rate, seconds=seconds)
            _count(column, sample)
            if not sample.total_s:
                continue
            column.p50_ms.append(percentile(sample.total_s, 0.5) * 1000)
            column.p99_ms.append(percentile(sample.total_s, 0.99) * 1000)
            column.cpu_ms.append((_cpu_s(target) - before) / len(sample.total_s) * 1000)
            if streams:
                column.first_text_p50_ms.append(percentile(sample.first_text_s, 0.5) * 1000)
                column.first_text_p99_ms.append(percentile(sample.first_text_s, 0.99) * 1000)


async def _most(target: Target, column: Column, request: Request, plan: Plan) -> None:
    before = _cpu_s(target)
    sample = await at_most(request, clients=plan.clients, seconds=plan.most_s)
    _count(column, sample)
    if not sample.total_s:
        return
    column.most_per_second.append(sample.per_second)
    column.most_p99_ms.append(percentile(sample.total_s, 0.99) * 1000)
    column.most_cpu_ms.append((_cpu_s(target) - before) / len(sample.total_s) * 1000)


def _cpu_s(target: Target) -> float:
    return target.service.cpu_s() if target.service is not None else 0.0


def _count(column: Column, sample: Sample) -> None:
    column.requests += len(sample.total_s) + sum(sample.failures.values())
    column.failures.update(sample.failures)


def summarise(columns: Columns, direct: str) -> list[dict[str, Any]]:
    """One row for each target and call: medians over the rounds, added latency against the direct call."""
    rows = []
    for (name, call), column in columns.items():
        base = columns[direct, call.direct]
        row: dict[str, Any] = {
            "target": name,
            "call": call.value,
            "p50_ms": _median(column.p50_ms),
            "p99_ms": _median(column.p99_ms),
            "added_p50_ms": _added(column.p50_ms, base.p50_ms),
            "added_p99_ms": _added(column.p99_ms, base.p99_ms),
            "cpu_ms_per_request": _median(column.cpu_ms) if name != direct else None,
            "requests": column.requests,
            "failures": dict(column.failures),
        }
        if call.is_stream:
            row |= {
                "first_text_p50_ms": _median(column.first_text_p50_ms),
                "added_first_text_p50_ms": _added(column.first_text_p50_ms, base.first_text_p50_ms),
                "added_first_text_p99_ms": _added(column.first_text_p99_ms, base.first_text_p99_ms),
            }
        else:
            row |= {
                "most_per_second": _median(column.most_per_second),
                "most_p99_ms": _median(column.most_p99_ms),
                "most_cpu_ms_per_request": _median(column.most_cpu_ms) if name != direct else None,
            }
        rows.append(row)
    return rows


def _median(values: Sequence[float]) -> float | None:
    return round(statistics.median(values), 3) if values else None


def _added(values: Sequence[float], base: Sequence[float]) -> float | None:
    """The median of the differences round by round; None if a round is missing on one side."""
    if not values or len(values) != len(base):
        return None
    return _median([own - other for own, other in zip(values, base, strict=True)])
