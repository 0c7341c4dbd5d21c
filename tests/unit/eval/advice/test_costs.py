"""Costs against sums done by hand, and what is said where there is nothing to add up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from eval.advice.costs import Costs, costs_of
from eval.advice.counts import Draws
from eval.advice.evidence import ArmLog, CaseUsage, Row
from eval.advice.rates import measured_rates
from eval.advice.team import Team
from eval.arms import ArmKind
from eval.labelling.labels import Outcome
from serving.pricing import TokenCounts

DRAWS = Draws(resamples=200, seed=1)
TEAM: dict[str, Any] = {
    "team_size": "large",
    "regulated": False,
    "answers_a_month": 10_000,
    "wages": {"agent_hour": 30, "minutes_a_handoff": 4, "engineer_hour": 60},
    "prices": {
        "prompt_per_million": 1.0,
        "cached_per_million": 0.1,
        "completion_per_million": 4.0,
        "retrieval_hour": 3.6,
        "retrieval_utilisation": 0.5,
        "training_hour": 5,
    },
    "tuning": {
        "rows": 60,
        "minutes_a_row": 2,
        "training_hours": 4,
        "evaluation_hours": 1,
        "retrains_a_year": 3,
    },
}


def arm(name: str, kind: ArmKind, *, prompt: int, cached: int, handed: int = 0, known: bool = True) -> ArmLog:
    cases = [f"q{n}" for n in range(20)]
    return ArmLog(
        name=name,
        kind=kind,
        rows=tuple(
            Row(case_id=case, cluster=f"c{n % 4}", task_type="", outcome=Outcome.PASSED)
            for n, case in enumerate(cases)
        ),
        usage=tuple(
            CaseUsage(
                case_id=case,
                tokens=TokenCounts(prompt=prompt, cached=cached, completion=50),
                cached_known=known,
                retrieval_ms=20.0,
                handed_off=n < handed,
            )
            for n, case in enumerate(cases)
        ),
    )


RAG = arm("rag", ArmKind.RAG, prompt=1200, cached=500, handed=5)
HYBRID = arm("hybrid", ArmKind.HYBRID, prompt=700, cached=0, handed=1)


def costs(team: dict[str, Any], *arms: ArmLog) -> Costs:
    return costs_of(arms or (RAG, HYBRID), RAG, Team.model_validate(team), DRAWS)


def test_an_answer_costs_its_uncached_prompt_its_output_its_search_and_its_handoffs() -> None:
    found = costs(TEAM).arms[0]
    layers = {layer.name: layer.amount for layer in found.layers}
    assert layers["prompt"] == pytest.approx((700 * 1.0 + 500 * 0.1) / 1e6)
    assert layers["output"] == pytest.approx(50 * 4.0 / 1e6)
    # 20 ms of a machine of 3.60 an hour that is used half of the time.
    assert layers["retrieval"] == pytest.approx(20 / 3_600_000 * 3.6 / 0.5)
    assert layers["review"] == pytest.approx(5 / 20 * 4 * 30 / 60)
    assert found.an_answer == pytest.approx(sum(amount or 0 for amount in layers.values()))
    assert found.low is not None
    assert found.high is not None
    assert found.low <= (found.an_answer or 0) <= found.high
    assert found.left_out == ()


def test_the_interval_of_answers_that_all_cost_the_same_is_that_cost() -> None:
    found = costs(TEAM, arm("rag", ArmKind.RAG, prompt=1200, cached=500)).arms[0]
    assert (found.low, found.high) == pytest.approx((found.an_answer, found.an_answer))


def test_an_engine_hour_without_rates_is_priced_by_the_runs_own() -> None:
    prices = {"engine_hour": 3.6, "utilisation": 0.5}
    slow = replace(
        RAG,
        # 700 computed tokens in 0.7 s, 50 written in 0.5 s.
        usage=tuple(replace(each, first_token_ms=700.0, generation_ms=1200.0) for each in RAG.usage),
    )
    found = costs({**TEAM, "prices": prices}, slow).arms[0]
    amounts = {layer.name: layer.amount for layer in found.layers}
    # 0.7 s and 0.5 s of a machine of a thousandth a second that is busy half of the time.
    assert amounts["prompt"] == pytest.approx(0.7 * 0.001 / 0.5)
    assert amounts["output"] == pytest.approx(0.5 * 0.001 / 0.5)
    # Two answers at a time take half of the engine each.
    shared = replace(slow, usage=tuple(replace(each, engine_share=0.5) for each in slow.usage))
    halved = {layer.name: layer.amount for layer in costs({**TEAM, "prices": prices}, shared).arms[0].layers}
    assert halved["output"] == pytest.approx(0.25 * 0.001 / 0.5)
    assert costs({**TEAM, "prices": prices}, RAG).arms[0].an_answer is None
    assert measured_rates(slow.usage[:9]) is None
    all_cached = [replace(each, tokens=TokenCounts(prompt=9, cached=9, completion=5)) for each in slow.usage]
    assert measured_rates(all_cached) is None


def test_cache_hits_that_nobody_measured_are_not_assumed() -> None:
    unknown = arm("rag", ArmKind.RAG, prompt=1200, cached=0, known=False)
    found = costs(TEAM, unknown).arms[0]
    prompt = next(layer for layer in found.layers if layer.name == "prompt")
    assert prompt.amount == pytest.approx(1200 / 1e6)
    assert "cache hits not measured" in prompt.basis
    assert found.cached_tokens is None


def test_break_even_is_the_cost_of_tuning_over_what_an_answer_saves() -> None:
    found = costs(TEAM).break_even
    once = 60 * 2 / 60 * 30 + 4 * 5 + 1 * 60
    saved = (5 - 1) / 20 * 2 + ((700 + 50) - 700) / 1e6
    assert found.saved_an_answer == pytest.approx(saved)
    assert found.answers == pytest.approx(once / saved)
    assert found.months == pytest.approx(once / saved / 10_000)
    assert found.low is not None


def test_a_shorter_prompt_that_was_cached_saves_nothing() -> None:
    """The long prompt's head is cached, so the tuned arm's shorter one costs more: no volume pays."""
    cached = arm("rag", ArmKind.RAG, prompt=1200, cached=1100)
    found = costs_of(
        (cached, replace(HYBRID, usage=arm("h", ArmKind.HYBRID, prompt=700, cached=0).usage)),
        cached,
        Team.model_validate(TEAM),
        DRAWS,
    )
    assert found.break_even.answers is None
    assert "no volume pays" in found.break_even.basis


def test_fixed_costs_are_products_of_the_team_file() -> None:
    team = {
        **TEAM,
        "knowledge": {
            "documents_changed_a_week": 12,
            "minutes_a_change": 5,
            "tokens_a_document": 1000,
            "storage_gb": 2,
        },
    }
    found = costs(team)
    fixed = {each.name: each for each in found.rag_fixed_a_month}
    assert fixed["people for changed documents"].amount == pytest.approx(12 * 52 / 12 * 5 / 60 * 30)
    assert fixed["storage"].amount is None
    assert fixed["storage"].basis == "no evidence: prices.storage_gb_month"
    assert found.tuning_a_year.amount == pytest.approx((60 + 20 + 60) * 4)


@pytest.mark.parametrize(
    ("team", "arms", "says"),
    [
        ({**TEAM, "tuning": {}}, (RAG, HYBRID), "no evidence: the cost of tuning"),
        (TEAM, (RAG,), "no evidence: the run has no hybrid arm"),
        ({**TEAM, "prices": {}}, (RAG, HYBRID), "no evidence: no answers of both arms"),
    ],
)
def test_no_break_even_without_its_parts(team: dict[str, Any], arms: tuple[ArmLog, ...], says: str) -> None:
    found = costs(team, *arms).break_even
    assert found.answers is None
    assert says in found.basis


def test_without_token_counts_an_answer_has_no_cost() -> None:
    bare = replace(RAG, usage=tuple(replace(each, tokens=None) for each in RAG.usage))
    found = costs(TEAM, bare).arms[0]
    assert found.an_answer is None
    assert found.left_out == ("prompt", "output")


def test_an_engine_hour_gives_the_price_of_a_token_by_measured_rates() -> None:
    prices = {"engine_hour": 3.6, "prompt_tokens_a_s": 1000, "completion_tokens_a_s": 100, "utilisation": 0.5}
    found = costs({**TEAM, "prices": prices}).arms[0]
    prompt = next(layer for layer in found.layers if layer.name == "prompt")
    assert prompt.amount == pytest.approx(700 * 2.0 / 1e6)
    incomplete = costs({**TEAM, "prices": {**prices, "utilisation": None}}).arms[0]
    assert incomplete.an_answer is None
