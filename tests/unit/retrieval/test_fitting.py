"""Fits of the fusion weight and of confidence, on data whose truth is known."""

from __future__ import annotations

import random

import numpy as np
import pytest

from retrieval.errors import TooFewPairsError
from retrieval.fitting import (
    Observation,
    Ranking,
    auroc,
    fit_calibration,
    fit_confidence,
    fit_weight,
    fused_scores,
    placed_cosines,
    quality_of,
    threshold_for,
    upper_share,
)


def rankings(count: int, *, dense_knows: float, words_know: float) -> list[Ranking]:
    """Twenty documents each, of which one is right; each leg puts it first with its own chance."""
    chance = random.Random(7)
    result = []
    for number in range(count):
        dense = [chance.uniform(0.1, 0.5) for _ in range(20)]
        lexical = [chance.uniform(0.0, 3.0) for _ in range(20)]
        if chance.random() < dense_knows:
            dense[0] = 0.6
        if chance.random() < words_know:
            lexical[0] = 9.0
        result.append(
            Ranking(
                documents=tuple(f"d{at}" for at in range(20)),
                dense=tuple(dense),
                lexical=tuple(lexical),
                lexical_unit=20.0,
                gold=frozenset({"d0"}),
                group=f"g{number}",
            )
        )
    return result


def observations(count: int, *, weight: float, seed: int = 3) -> list[Observation]:
    """One feature that says `weight` times itself of the odds, and one that says nothing."""
    chance = np.random.default_rng(seed)
    result = []
    for number in range(count):
        told = float(chance.normal())
        result.append(
            Observation(
                features={"told": told, "noise": float(chance.normal()) * 100, "same": 4.0},
                sufficient=bool(chance.random() < 1 / (1 + np.exp(-weight * told))),
                group=f"g{number}",
                kind="as it is",
            )
        )
    return result


def test_a_better_leg_gets_the_weight() -> None:
    fit = fit_weight(rankings(200, dense_knows=0.1, words_know=0.8), current=0.9)
    assert fit.dense_weight < 0.8
    assert fit.interval[0] > 0
    assert fit.ndcg[fit.dense_weight] > fit.ndcg[0.9]


def test_where_words_add_nothing_the_weight_is_one() -> None:
    fit = fit_weight(rankings(100, dense_knows=1.0, words_know=0.0), current=0.55)
    assert fit.dense_weight == 1.0
    assert "words add nothing" in fit.reason


def test_a_difference_that_may_be_luck_moves_nothing() -> None:
    fit = fit_weight(rankings(60, dense_knows=0.5, words_know=0.5), current=0.6)
    assert fit.dense_weight == 0.6
    assert fit.interval[0] <= 0


def test_a_rare_word_in_a_long_passage_outranks_cosines_that_are_noise() -> None:
    """A code asked for alone is near nothing: the passage that holds it has one of many bad cosines."""
    noise = [0.20, 0.16, 0.12, 0.08]
    scores = fused_scores([0.10, *noise], [6.0, 0.0, 0.0, 0.0, 0.0], lexical_unit=64.0, dense_weight=0.55)
    assert scores.argmax() == 0


def test_cosines_that_mean_something_count_by_the_range_of_the_search() -> None:
    """One passage is far nearer than the others: a common word or two must not put it second."""
    placed = placed_cosines(np.array([0.80, 0.35, 0.10]))
    assert placed == pytest.approx([1.0, 1 - 0.45 / 0.70, 0.0])


def test_equal_cosines_count_in_full_whatever_they_are() -> None:
    assert placed_cosines(np.array([1.0, 1.0])) == pytest.approx([1.0, 1.0])
    assert placed_cosines(np.array([0.3, 0.3])) == pytest.approx([1.0, 1.0])


def test_too_few_pairs_are_refused_with_the_number_that_is_needed() -> None:
    with pytest.raises(TooFewPairsError, match="49 with a known answer, and a fit needs 50"):
        fit_weight(rankings(49, dense_knows=1.0, words_know=1.0), current=0.5)
    with pytest.raises(TooFewPairsError, match="a fit needs 50"):
        fit_confidence(observations(40, weight=1.0), risk=0.1)


def test_a_logistic_is_found_again() -> None:
    found = fit_calibration(observations(4_000, weight=2.0))
    assert found.weights["told"] == pytest.approx(2.0, abs=0.2)
    assert found.weights["noise"] == pytest.approx(0.0, abs=0.002)
    assert "same" not in found.weights
    assert found.intercept == pytest.approx(0.0, abs=0.2)


def test_a_reranker_that_was_skipped_has_a_fit_of_its_own() -> None:
    seen = [
        Observation(
            features={**each.features, "rerank_top": 3.0 * each.features["told"]},
            sufficient=each.sufficient,
            group=each.group,
            kind=each.kind,
        )
        for each in observations(500, weight=1.0)
    ]
    found = fit_calibration(seen)
    assert found.unranked is not None
    assert "rerank_top" not in found.unranked.weights
    skipped = {"told": 2.0, "noise": 0.0}
    assert found.probability(skipped) == found.unranked.probability(skipped) > 0.7


def test_what_is_fitted_is_judged_on_groups_that_it_has_not_seen() -> None:
    """Labels that are pure chance: whoever looked at them would seem to know something."""
    fit = fit_confidence(observations(300, weight=0.0), risk=0.1)
    assert fit.quality.auroc == pytest.approx(0.5, abs=0.1)
    assert fit.threshold is None


def test_a_stated_share_of_unanswerable_questions_moves_the_probabilities() -> None:
    seen = observations(3_000, weight=1.5)
    rarely, often = (fit_confidence(seen, risk=0.3, unanswerable=share) for share in (0.1, 0.6))
    assert rarely.calibration.probability({}) > 0.8
    assert often.calibration.probability({}) < 0.5
    assert rarely.quality.ece < 0.05
    assert often.quality.ece < 0.05


def test_auroc_counts_pairs_and_halves_ties() -> None:
    assert auroc([0.9, 0.8, 0.1], [True, True, False]) == 1.0
    assert auroc([0.5, 0.5], [True, False]) == 0.5
    assert auroc([0.1, 0.9], [True, False]) == 0.0
    assert auroc([0.1, 0.9], [True, True]) is None


def test_calibration_error_of_the_right_and_of_a_wrong_probability() -> None:
    chance = np.random.default_rng(0)
    probabilities = chance.random(5_000)
    happened = chance.random(5_000) < probabilities
    assert quality_of(probabilities, happened).ece < 0.02
    assert quality_of(probabilities / 2, happened).ece > 0.2


@pytest.mark.parametrize(("hits", "trials", "bound"), [(0, 100, 0.0295), (5, 100, 0.1023), (100, 100, 1.0)])
def test_the_bound_is_the_exact_binomial_one(hits: int, trials: int, bound: float) -> None:
    """Figures of the Clopper-Pearson tables for 95 %, one-sided."""
    assert upper_share(hits, trials, 0.05) == pytest.approx(bound, abs=0.0005)


def test_the_threshold_keeps_the_risk_on_questions_that_come_later() -> None:
    """Over many worlds the risk is exceeded in no more of them than the certainty allows."""
    exceeded = 0
    for seed in range(60):
        chance = np.random.default_rng(seed)
        truth = chance.random(4_000) < 0.5
        scores = 1 / (1 + np.exp(-(chance.normal(size=4_000) + 2.0 * truth - 1.0)))
        found = threshold_for(scores[:400], truth[:400], risk=0.15, unanswerable=0.5)
        if found is None:
            continue
        answered = scores[400:] >= found.abstain_below
        exceeded += bool((~truth[400:])[answered].mean() > 0.15)
    assert exceeded <= 6


def test_no_threshold_reaches_a_risk_that_cannot_be_had() -> None:
    chance = np.random.default_rng(1)
    assert threshold_for(chance.random(400), chance.random(400) < 0.5, risk=0.05, unanswerable=0.5) is None
