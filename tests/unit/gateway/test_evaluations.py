"""What is said of turns, as events and a metric with bounded names."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import trace

from gateway import instruments as names
from gateway.evaluations import (
    HUMAN,
    MOST_NAMES,
    OTHER,
    EvaluationEvents,
    Result,
    context_of,
    feedback_of,
    outcome_of,
)
from tests.fakes.telemetry import recorded


def turn(model: str, **more: Any) -> dict[str, Any]:
    row = {
        "id": "t",
        "trace_id": "ab" * 16,
        "used": {"span_id": "cd" * 8},
        "pinned": False,
        "knowledge_version": "k-words-00000001@7",
        "model_version": model,
    }
    return {**row, **more}


def counted(model: str) -> dict[str, float]:
    points = recorded().points("twinrail.evaluation.score")
    return {
        str(attributes[names.EVALUATION_NAME]): point.sum
        for attributes, point in points
        if attributes[names.MODEL_VERSION] == model
    }


def test_names_are_bounded_and_evaluations_count_nowhere() -> None:
    recorded()
    events = EvaluationEvents()
    results = [Result(name=f"score-{number}", value=1.0, source="auto") for number in range(MOST_NAMES + 5)]
    events.tell(turn("m-bounded"), results)
    events.tell(turn("m-bounded"), results[:1])
    events.tell(turn("m-pinned", pinned=True), results)
    events.tell(turn("m-open"), [Result(name="unknown", value=None, source="auto")])
    found = counted("m-bounded")
    assert len(found) == MOST_NAMES + 1
    assert (found[OTHER], found["score-0"]) == (5, 2)
    assert counted("m-pinned") == counted("m-open") == {}
    points = recorded().points("twinrail.evaluation.score")
    assert {attributes[names.KNOWLEDGE_VERSION] for attributes, _ in points} == {"k-words-00000001"}


def test_the_answers_span_is_the_parent() -> None:
    parent = trace.get_current_span(context_of(turn("m"))).get_span_context()
    assert trace.format_trace_id(parent.trace_id) == "ab" * 16
    assert trace.format_span_id(parent.span_id) == "cd" * 8


@pytest.mark.parametrize("used", [{}, {"span_id": ""}, {"span_id": None}])
def test_a_turn_without_a_span_still_has_its_trace(used: dict[str, Any]) -> None:
    parent = trace.get_current_span(context_of(turn("m", used=used))).get_span_context()
    assert (trace.format_trace_id(parent.trace_id), parent.span_id) == ("ab" * 16, 0)


def test_what_a_label_and_a_rating_say() -> None:
    passed = outcome_of({"label": None, "source": "auto", "criteria": "c1-aa"})
    assert (passed.value, passed.label, passed.version) == (1.0, "passed", "c1-aa")
    failed = outcome_of({"label": "wrong_tone", "source": HUMAN, "criteria": ""})
    assert (failed.value, failed.label) == (0.0, "wrong_tone")
    rated = feedback_of({"rating": "down"})
    assert rated is not None
    assert (rated.value, rated.label, rated.source) == (0.0, "down", HUMAN)
    assert feedback_of({"rating": None}) is None
