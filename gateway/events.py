"""The events of an answer, and the last of them made from the turn."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from opentelemetry import trace

from gateway import instruments as names
from gateway.citations import Cited
from gateway.schemas.answers import AnswerBody, Confidence, Status
from gateway.turn import TurnDraft


@dataclass(frozen=True, slots=True)
class Delta:
    """Text of the answer that has passed its check."""

    text: str


@dataclass(frozen=True, slots=True)
class Completed:
    """The answer, with the citations tied to the pieces of its text."""

    body: AnswerBody
    cited: tuple[Cited, ...]


class Deadline:
    """A moment on the loop's clock that is passed down, so that each layer knows what is left."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._at = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._at - time.monotonic())


def complete(
    turn: TurnDraft,
    status: Status,
    text: str,
    *,
    began: float,
    fields: Mapping[str, object] | None = None,
    cited: tuple[Cited, ...] = (),
) -> Completed:
    """Close the turn: status, stamp, times and the answer's body."""
    if turn.ticket is None and status in (Status.ABSTAINED, Status.ESCALATED):
        turn.ticket = status.value
    total = (time.perf_counter() - began) * 1000
    timings = turn.timings_ms
    timings["total"] = total
    layers = sum(timings.get(name, 0.0) for name in ("retrieval", "generation", "handover"))
    timings["overhead"] = max(0.0, total - layers)
    turn.answer = AnswerBody(
        id=turn.id,
        conversation_id=turn.conversation_id,
        status=status,
        answer=text,
        fields=dict(fields or {}),
        citations=[item.citation for item in cited],
        confidence=Confidence(retrieval=turn.confidence, grounded=turn.grounded),
        versions=turn.versions,
        arms=turn.arms,
        degraded=list(turn.degraded),
        fallback=turn.fallback,
        usage=turn.usage,
        timings_ms={name: round(value, 2) for name, value in timings.items()},
        trace_id=turn.trace_id,
    )
    trace.get_current_span().set_attributes(
        {
            names.STATUS: status.value,
            names.CITATIONS: len(cited),
            names.REFUSED: status in (Status.ABSTAINED, Status.ESCALATED),
        }
    )
    return Completed(body=turn.answer, cited=cited)
