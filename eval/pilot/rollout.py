"""Metrics for a rollout with thresholds from what the pilot measured, by the names of docs/telemetry.md.

A threshold is the worse end of what was measured, so that a rollout as good as the pilot stays inside, and
never worse than what customers may get at all: a pilot beyond that is not one to roll out. What was not
measured has no threshold: it is watched for a week first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from eval.advice.team import Team
from eval.observations import Observation
from eval.pilot.measuring import Measured
from eval.stats import upper_bound

#: Times may be so much longer under traffic than one question after the other.
_SLOWER = 2.0
#: Tokens of an answer may rise so far before somebody looks at the prompt.
_LONGER = 1.25
_HOUR_S = 3600
_FEWEST = 20
#: Shares beyond which nothing is rolled out, however the pilot came out.
_MOST_FAULTS = 0.20
_MOST_ABSTAINED = 0.40
_MOST_EMPTY = 0.10
_MOST_REFUSED = 0.30
_MOST_CUT = 0.05
_MOST_FIXED = 0.10
_MOST_DEGRADED = 0.02

Rail = Literal["knowledge", "model", "both"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrail:
    """One metric of a rollout."""

    rail: Rail
    what: str
    #: Metric, with the attributes that narrow it.
    telemetry: str
    unit: Literal["share", "s", "tokens", "count"]
    #: Roll back above it; None: nothing was measured.
    threshold: float | None
    measured: float | None
    reason: str
    #: The pilot was so bad here that a rollout would begin beyond any threshold.
    unfit: bool = False

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @property
    def threshold_text(self) -> str:
        """The threshold for people."""
        return "none yet" if self.threshold is None else f"at most {self._shown(self.threshold)}"

    @property
    def measured_text(self) -> str:
        """What the pilot saw."""
        return "not measured" if self.measured is None else self._shown(self.measured)

    def _shown(self, value: float) -> str:
        match self.unit:
            case "share":
                return f"{value:.1%}"
            case "s":
                return f"{value:.2f} s" if value < _HOUR_S else f"{value / _HOUR_S:g} h"
            case "tokens" | "count":
                return f"{value:.0f}"


def guardrails(measured: Measured, arm: str, team: Team) -> tuple[Guardrail, ...]:
    """For the arm that is rolled out."""
    seen = [
        each
        for (_, name), each in sorted(measured.data.observations.items())
        if name == arm and not each.failed
    ]
    return (*_knowledge(seen, team), *_model(seen), *_both(measured, arm, seen))


def _knowledge(seen: Sequence[Observation], team: Team) -> Iterable[Guardrail]:
    retrieved = [each for each in seen if "retrieval" in each.timings_ms]
    yield _share(
        "knowledge",
        "abstained",
        "twinrail.answers{twinrail.answer.status=abstained} / twinrail.answers",
        seen,
        lambda each: each.status == "abstained",
        most=_MOST_ABSTAINED,
    )
    yield _share(
        "knowledge",
        "searches that find nothing",
        "twinrail.retrieval.empty / gen_ai.client.operation.duration (count)",
        retrieved,
        lambda each: not each.retrieved,
        most=_MOST_EMPTY,
    )
    yield _share(
        "knowledge",
        "answers without retrieval, because it failed",
        "twinrail.requests.degraded{reason=retrieval} / twinrail.answers",
        seen,
        lambda each: "retrieval" in each.degraded,
        most=_MOST_DEGRADED,
    )
    yield _time(
        "knowledge", "search, 95th percentile", "gen_ai.client.operation.duration", retrieved, "retrieval"
    )
    hours = team.knowledge.freshness_hours
    yield Guardrail(
        rail="knowledge",
        what="a changed document until a search finds it, 95th percentile",
        telemetry="twinrail.knowledge.freshness.lag",
        unit="s",
        threshold=None if hours is None else hours * _HOUR_S,
        measured=None,
        reason="knowledge.freshness_hours of the team file"
        if hours is not None
        else "the team file does not say (knowledge.freshness_hours)",
    )


def _model(seen: Sequence[Observation]) -> Iterable[Guardrail]:
    drafted = [each for each in seen if each.draft is not None]
    yield _share(
        "model",
        "drafts that the checks refuse",
        "twinrail.answer.refusals / gen_ai.client.inference.duration (count)",
        drafted,
        lambda each: bool(each.draft and each.draft.failure),
        most=_MOST_REFUSED,
    )
    yield _share(
        "model",
        "drafts cut at the limit of tokens",
        "twinrail.generation.finishes{gen_ai.response.finish_reason=length} / twinrail.generation.finishes",
        drafted,
        lambda each: bool(each.draft and each.draft.finish_reason == "length"),
        most=_MOST_CUT,
    )
    yield Guardrail(
        rail="model",
        what="citations whose quote does not stand in its passage",
        telemetry="twinrail.answer.citations.invalid",
        unit="count",
        threshold=0,
        measured=None,
        reason="no tolerance: each is taken out before release, and one a day is a fault to find",
    )
    yield _share(
        "model",
        "answers without generation, because it failed",
        "twinrail.requests.degraded{reason=generation} / twinrail.answers",
        seen,
        lambda each: "generation" in each.degraded,
        most=_MOST_DEGRADED,
    )
    yield _time(
        "model", "generation, 95th percentile", "gen_ai.client.inference.duration", drafted, "generation"
    )
    tokens = [each.prompt_tokens + (each.completion_tokens or 0) for each in seen if each.prompt_tokens]
    middle = sum(tokens) / len(tokens) if tokens else None
    yield Guardrail(
        rail="model",
        what="tokens of an answer, mean",
        telemetry="gen_ai.client.inference.usage.input_tokens + gen_ai.client.inference.usage.output_tokens, "
        "/ twinrail.answers",
        unit="tokens",
        threshold=None if middle is None or len(tokens) < _FEWEST else middle * _LONGER,
        measured=middle,
        reason=_enough(len(tokens), f"{_LONGER - 1:.0%} above the pilot: the cost of an answer"),
    )


def _both(measured: Measured, arm: str, seen: Sequence[Observation]) -> Iterable[Guardrail]:
    yield _time(
        "both",
        "an answer as customers wait for it, 95th percentile",
        "gen_ai.invoke_workflow.duration",
        seen,
        "",
    )
    yield _share(
        "both",
        "fixed wording in place of an answer",
        "twinrail.answers{twinrail.answer.status=fallback} / twinrail.answers",
        seen,
        lambda each: each.status == "fallback",
        most=_MOST_FIXED,
    )
    rows = next(each for each in measured.logs.arms if each.name == arm).decided
    yield _bounded(
        "both",
        "reviewed turns that end in a fault (a sample of all turns, read by people)",
        "twinrail.review.readings{twinrail.review.ending!=no_fault} / twinrail.review.readings",
        (sum(row.failed for row in rows), len(rows)),
        most=_MOST_FAULTS,
    )


def _share(
    rail: Rail,
    what: str,
    telemetry: str,
    seen: Sequence[Observation],
    counts: Callable[[Observation], bool],
    *,
    most: float,
) -> Guardrail:
    """Of answers."""
    return _bounded(rail, what, telemetry, (sum(counts(each) for each in seen), len(seen)), most=most)


def _bounded(rail: Rail, what: str, telemetry: str, counted: tuple[int, int], *, most: float) -> Guardrail:
    k, n = counted
    unfit = n >= _FEWEST and k > most * n
    threshold = min(upper_bound(k, n), most) if n >= _FEWEST and not unfit else None
    reason = _enough(n, f"upper bound (95 %) of the pilot's {k} of {n}, and no more than {most:.0%}")
    return Guardrail(
        rail=rail,
        what=what,
        telemetry=telemetry,
        unit="share",
        threshold=threshold,
        measured=k / n if n else None,
        reason=f"not to be rolled out: {k} of {n}, and {most:.0%} is the most" if unfit else reason,
        unfit=unfit,
    )


def _time(
    rail: Rail,
    what: str,
    telemetry: str,
    seen: Sequence[Observation],
    stage: str,
) -> Guardrail:
    """Of a stage, or of the whole answer."""
    times = sorted(
        (each.wall_ms if not stage else each.timings_ms[stage]) / 1000
        for each in seen
        if not stage or stage in each.timings_ms
    )
    slow = times[min(len(times) - 1, int(0.95 * len(times)))] if times else None
    return Guardrail(
        rail=rail,
        what=what,
        telemetry=telemetry,
        unit="s",
        threshold=None if slow is None or len(times) < _FEWEST else slow * _SLOWER,
        measured=slow,
        reason=_enough(len(times), f"{_SLOWER:g} times the pilot's: its questions came a few at a time"),
    )


def _enough(n: int, reason: str) -> str:
    return reason if n >= _FEWEST else f"{n} answers, {_FEWEST} needed: watch it for a week first"
