"""The bench of judges: where each method holds the true share, and where it must not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.eval_judges import SCENARIOS, measure, table

DRAWS = 200


def rows(name: str) -> dict[str, dict[str, float | int | None]]:
    scenario = next(each for each in SCENARIOS if each.name == name)
    return {method: tally.row(DRAWS) for method, tally in measure(scenario, draws=DRAWS).items()}


def covered(found: dict[str, dict[str, float | int | None]], method: str) -> float:
    value = found[method]["covered"]
    assert value is not None
    return value


def test_labels_of_the_same_answers_suit_both_methods_and_those_of_others_one() -> None:
    same = rows("lenient judge, labels of the same answers")
    assert covered(same, "corrected") > 0.9
    assert covered(same, "PPI") > 0.9
    others = rows("lenient judge, labels of what looked bad")
    assert covered(others, "corrected") > 0.9
    assert covered(others, "PPI") < 0.2


def test_a_coin_gives_no_share_and_the_table_says_so() -> None:
    found = rows("coin, labels half and half")
    assert found["corrected"] == {"shown": 0, "of": DRAWS, "covered": None, "width": None}
    assert "no share is shown" in table({"coin": found})[1]


def test_a_perfect_judge_needs_no_correction() -> None:
    perfect = replace(SCENARIOS[0], sensitivity=1.0, specificity=1.0)
    found = measure(perfect, draws=DRAWS)
    assert found["uncorrected"].covered / DRAWS == pytest.approx(0.95, abs=0.04)
    assert found["PPI"].covered / DRAWS > 0.9
