"""The situations of the gate's benchmark are what they are called."""

from __future__ import annotations

import numpy as np
import pytest

from bench.eval_gates import REAL, Draw, Scenario, measure, scenarios
from eval.gating.verdicts import Verdict

SCENARIOS = {scenario.name: scenario for scenario in scenarios()}


def difference(draw: Draw, metric: str) -> float:
    return (draw.candidate[metric].count("1") - draw.stable[metric].count("1")) / len(draw.cases)


def drawn(name: str, rounds: int) -> list[Draw]:
    random = np.random.default_rng(7)
    return [SCENARIOS[name].draw(random) for _ in range(rounds)]


@pytest.mark.parametrize("name", [name for name, each in SCENARIOS.items() if each.truth == "no difference"])
def test_an_a_a_round_moves_both_ways_alike(name: str) -> None:
    draws = drawn(name, 150)
    for metric in SCENARIOS[name].primaries:
        differences = np.array([difference(draw, metric) for draw in draws])
        assert differences.std() > 0.005, "something moves"
        assert abs(differences.mean()) < 4 * differences.std() / 150**0.5


def test_exchanging_arms_keeps_what_they_said() -> None:
    """Together both arms of a real draw hold the marks of the run, whichever way they were exchanged."""
    for draw in drawn("A/A, real, 3 primaries", 20):
        assert len(draw.cases) == 100
        assert len({case.topic for case in draw.cases}) >= 8
        assert set(draw.stable) == set(REAL)


@pytest.mark.parametrize(
    ("name", "points"),
    [
        ("20 points worse, any topic", -0.2),
        ("20 points worse, topic by topic", -0.2),
        ("20 points better", 0.2),
    ],
)
def test_what_is_called_worse_is_worse_by_that(name: str, points: float) -> None:
    differences = [difference(draw, "answer_right") for draw in drawn(name, 200)]
    assert np.mean(differences) == pytest.approx(points, abs=0.02)


def test_a_round_counts_a_whole_decision() -> None:
    worse: Scenario = SCENARIOS["20 points worse, any topic"]
    tally = measure(worse, rounds=5, seed=1)
    assert tally.verdicts == {Verdict.REFUSED: 5}
    assert (tally.at_least_stable, tally.exact_alone) == (0, 0)
