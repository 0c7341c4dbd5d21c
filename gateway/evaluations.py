"""What is said of a turn, as `gen_ai.evaluation.result` events under the turn's own trace, and as a metric.

A judgement comes after the answer, often days after, so its event names the answer's span as its parent and
the time at which it was said. No text goes along: details quote answers, comments and corrections are
people's words. Turns of evaluations have events and count in no metric.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry import context, trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.util.types import AttributeValue

from gateway import instruments as names

Row = Mapping[str, Any]

#: Names under which what people and rules say of a turn as a whole is known.
OUTCOME: Final = "outcome"
USER_FEEDBACK: Final = "user_feedback"
#: What a metric calls a score beyond the first so many different ones: names come with requests.
OTHER: Final = "other"
MOST_NAMES: Final = 64
AUTO, HUMAN = "auto", "human"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One thing that is said of one turn."""

    name: str
    #: 1 is the good end of what has two ends; None: it could not be told, or has no number.
    value: float | None
    label: str = ""
    #: `auto` or `human`.
    source: str
    #: Of the checker, the judge or the criteria.
    version: str = ""


def outcome_of(label: Row) -> Result:
    """A label, or what a review was closed with, as a result: 1 if the turn passed."""
    passed = label["label"] is None
    return Result(
        name=OUTCOME,
        value=float(passed),
        label="passed" if passed else str(label["label"]),
        source=label["source"],
        version=label["criteria"],
    )


def feedback_of(row: Row) -> Result | None:
    """A rating as a result; a comment alone is none."""
    if row["rating"] is None:
        return None
    return Result(name=USER_FEEDBACK, value=float(row["rating"] == "up"), label=row["rating"], source=HUMAN)


class EvaluationEvents:
    """Tells OpenTelemetry what is said of turns."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def tell(self, turn: Row, results: Iterable[Result]) -> None:
        """Emit each result beside the turn's span, and count it if the turn is live traffic."""
        where = context_of(turn)
        stamps: dict[str, AttributeValue] = {
            name: value
            for name, value in (
                (names.KNOWLEDGE_VERSION, (turn["knowledge_version"] or "").partition("@")[0]),
                (names.MODEL_VERSION, turn["model_version"] or ""),
            )
            if value
        }
        for result in results:
            said: dict[str, AttributeValue] = {
                names.EVALUATION_NAME: result.name,
                names.EVALUATION_SOURCE: result.source,
                **({names.EVALUATION_SCORE: result.value} if result.value is not None else {}),
                **({names.EVALUATION_LABEL: result.label} if result.label else {}),
                **({names.EVALUATION_VERSION: result.version} if result.version else {}),
                names.TURN_ID: str(turn["id"]),
                names.PINNED: bool(turn["pinned"]),
                **stamps,
            }
            names.events.emit(
                timestamp=time.time_ns(),
                context=where,
                severity_number=SeverityNumber.INFO,
                event_name=names.EVALUATION_EVENT,
                attributes=said,
            )
            if result.value is not None and not turn["pinned"]:
                counted = {
                    names.EVALUATION_NAME: self._bounded(result.name),
                    names.EVALUATION_SOURCE: result.source,
                    **stamps,
                }
                names.evaluation_score.record(result.value, counted)

    def _bounded(self, name: str) -> str:
        if name not in self._known and len(self._known) >= MOST_NAMES:
            return OTHER
        self._known.add(name)
        return name


def context_of(turn: Row) -> context.Context:
    """The answer's span, as a parent of what is said of it. An old turn that kept no span has its trace."""
    span_id = (turn["used"].get("span_id") or "").strip()
    parent = SpanContext(
        trace_id=_number(turn["trace_id"]),
        span_id=_number(span_id),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
    return trace.set_span_in_context(NonRecordingSpan(parent), context.Context())


def _number(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return 0
