"""The benchmark of predicted costs: a sample never predicts itself, and an engine is paid once."""

from __future__ import annotations

import pytest

from bench.eval_costs import line as compared
from bench.eval_costs import ways
from eval.advice.evidence import CaseUsage
from serving.pricing import TokenCounts


def usage(case_id: str, *, seconds: float) -> CaseUsage:
    """Two at a time, a third of the time for the prompt."""
    return CaseUsage(
        case_id=case_id,
        tokens=TokenCounts(prompt=900 * seconds, cached=300 * seconds, completion=50 * seconds),
        cached_known=True,
        retrieval_ms=20.0,
        handed_off=False,
        first_token_ms=1000 * seconds / 3,
        generation_ms=1000 * seconds,
        engine_share=0.5,
    )


def test_what_is_alike_is_foretold_and_what_was_shared_is_not_paid_twice() -> None:
    known, rest = (
        {"rag": [usage(f"{side}{n}", seconds=3.0) for n in range(12)]} for side in ("known", "rest")
    )
    found = {way.name: compared("run", "rag", way, "12", [(known, rest)]) for way in ways()}
    assert found["engine"].bias == pytest.approx(0)
    assert found["engine, each as if alone"].bias == pytest.approx(1)
    assert found["bill"].bias == pytest.approx(0)


def test_answers_that_take_longer_than_the_known_ones_are_an_error() -> None:
    known = {"rag": [usage(f"a{n}", seconds=2.0) for n in range(12)]}
    rest = {"rag": [usage(f"b{n}", seconds=4.0) for n in range(12)]}
    engine = compared("run", "rag", ways()[0], "12", [(known, rest)])
    assert (engine.bias, engine.within_aim) == (-0.5, 0.0)
