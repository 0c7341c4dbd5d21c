from __future__ import annotations

from math import log

import numpy as np
import pytest
from scipy import optimize
from scipy import stats as scipy_stats

from eval.stats import (
    Pair,
    Rate,
    cluster_interval,
    clustered_rate,
    design_effect,
    exact_p,
    holm,
    mcnemar,
    median,
    ndcg,
    noninferiority_power,
    power,
    questions_needed,
    score_bound,
    simulated_power,
    smallest_visible_gain,
    upper_bound,
    wilson,
    worst_difference,
)


@pytest.mark.parametrize(("k", "n"), [(0, 50), (3, 40), (25, 50), (99, 100), (7, 7)])
def test_wilson_is_scipys(k: int, n: int) -> None:
    known = scipy_stats.binomtest(k, n).proportion_ci(method="wilson")
    interval = wilson(k, n)
    assert interval.low == pytest.approx(known.low, abs=1e-9)
    assert interval.high == pytest.approx(known.high, abs=1e-9)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (0, 5), (2, 13), (10, 10), (30, 12)])
def test_the_exact_test_is_the_binomial_test(b: int, c: int) -> None:
    known = scipy_stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert exact_p(b, c) == pytest.approx(known)


def test_mcnemar_counts_discordant_questions() -> None:
    outcomes = [(1, 1)] * 4 + [(1, 0)] * 2 + [(0, 1)] * 9 + [(0, 0)] * 5
    test = mcnemar([Pair(cluster=n, first=one, second=two) for n, (one, two) in enumerate(outcomes)])
    assert (test.n, test.only_first, test.only_second) == (20, 2, 9)
    assert test.p == pytest.approx(scipy_stats.binomtest(2, 11).pvalue)


def test_the_interval_over_topics_is_wider_when_topics_move_together() -> None:
    together = [Pair(cluster=topic, first=0, second=topic % 2) for topic in range(10) for _ in range(8)]
    apart = [Pair(cluster=n, first=0, second=n % 2) for n in range(80)]
    wide = cluster_interval(together, resamples=2000, seed=1)
    narrow = cluster_interval(apart, resamples=2000, seed=1)
    assert wide is not None
    assert narrow is not None
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert cluster_interval(together, resamples=2000, seed=1) == wide, "same seed, same interval"


def test_the_interval_of_independent_pairs_is_near_the_normal_one() -> None:
    pairs = [Pair(cluster=n, first=0, second=n % 4 == 0) for n in range(400)]
    interval = cluster_interval(pairs, resamples=4000, seed=3)
    assert interval is not None
    half = 1.96 * (0.25 * 0.75 / 400) ** 0.5
    assert interval.low == pytest.approx(0.25 - half, abs=0.01)
    assert interval.high == pytest.approx(0.25 + half, abs=0.01)


def test_one_topic_gives_no_interval() -> None:
    assert cluster_interval([Pair(cluster="a", first=0, second=1)] * 9, resamples=500, seed=1) is None


@pytest.mark.parametrize(
    ("n", "gain", "expected"), [(50, 0.2, 0.75), (100, 0.1, 0.59), (100, 0.15, 0.88), (150, 0.1, 0.80)]
)
def test_power_is_that_of_a_simulation(n: int, gain: float, expected: float) -> None:
    assert power(n, gain) == pytest.approx(expected, abs=0.03)


def test_more_questions_show_smaller_gains() -> None:
    assert smallest_visible_gain(5) is None or (smallest_visible_gain(5) or 0) > 0.5
    assert smallest_visible_gain(50) == 0.25
    assert smallest_visible_gain(100) == 0.15


def test_a_rate_of_clusters_holds_the_true_share_where_wilsons_does_not() -> None:
    """Conversations of one to eight turns, each with a share of its own (intraclass correlation 0.5)."""
    chance = np.random.default_rng(7)
    wilsons = ours = 0
    for _ in range(400):
        sizes = chance.integers(1, 9, size=40)
        shares = chance.beta(0.7, 0.3, size=40)
        passed = [
            (talk, bool(each))
            for talk, (size, share) in enumerate(zip(sizes, shares, strict=True))
            for each in chance.random(size) < share
        ]
        found = clustered_rate(passed)
        plain = wilson(found.k, found.n)
        wilsons += plain.low <= 0.7 <= plain.high
        ours += found.interval.low <= 0.7 <= found.interval.high
    assert wilsons < 0.85 * 400
    assert 0.93 * 400 <= ours <= 0.98 * 400


def test_a_rate_of_clusters_of_one_is_wilsons_but_for_their_number() -> None:
    found = clustered_rate([(number, number % 4 == 0) for number in range(400)])
    assert (found.k, found.n, found.clusters) == (100, 400, 400)
    assert found.interval.low == pytest.approx(wilson(100, 400).low, abs=1e-3)


def test_where_all_scores_are_alike_a_cluster_counts_once() -> None:
    found = clustered_rate([(number % 20, True) for number in range(200)])
    assert found.interval == wilson(20, 20)
    assert clustered_rate([("one", True), ("one", False)]).interval == wilson(0.5, 1)


def test_no_data_is_no_rate() -> None:
    with pytest.raises(ValueError, match="n > 0"):
        Rate(k=0, n=0)
    assert median([]) is None
    assert median([3.0, 1.0, 2.0]) == 2.0


def test_ndcg() -> None:
    gold = {"a": 1, "b": 1}
    assert ndcg(["a", "b", "x"], gold, depth=10) == pytest.approx(1.0)
    assert ndcg(["x", "a"], {"a": 1}, depth=10) == pytest.approx(0.6309, abs=1e-4)
    assert ndcg(["x", "y"], gold, depth=10) == 0.0
    assert ndcg(["x"] * 10 + ["a"], {"a": 1}, depth=10) == 0.0


def test_holm_is_stricter_the_smaller_the_p() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"one": 0.04}) == {"one": 0.04}
    assert holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


@pytest.mark.parametrize(("b", "c", "n"), [(4, 4, 100), (0, 7, 60), (9, 2, 80), (1, 0, 30)])
def test_the_score_bound_is_where_the_constrained_likelihood_says(b: int, c: int, n: int) -> None:
    """The share of losses that the difference leaves most likely is found here by search, not by formula."""
    bound = score_bound(b, c, n)

    def unlikely(share: float) -> float:
        cells = ((b, share), (c, share + bound), (n - b - c, 1 - 2 * share - bound))
        return -sum(count * log(chance) for count, chance in cells if count)

    low, high = max(0.0, -bound) + 1e-12, (1 - bound) / 2 - 1e-12
    share = optimize.minimize_scalar(
        unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-12}
    ).x
    spread = (2 * share + bound - bound**2) / n
    assert ((c - b) / n - bound) / spread**0.5 == pytest.approx(scipy_stats.norm.ppf(0.95), abs=1e-3)


def test_nothing_moved_is_no_proof_of_no_difference() -> None:
    few = [Pair(cluster=n, first=1, second=1) for n in range(10)]
    many = [Pair(cluster=n, first=1, second=1) for n in range(100)]
    assert worst_difference(few, resamples=500, seed=1) == pytest.approx(-0.213, abs=0.001)
    assert worst_difference(many, resamples=500, seed=1) == pytest.approx(-0.026, abs=0.001)


def test_questions_that_move_together_leave_more_in_doubt() -> None:
    moves = [*[-1] * 8, *[1] * 16, *[0] * 76]
    apart = [Pair(cluster=n, first=0, second=move) for n, move in enumerate(moves)]
    together = [Pair(cluster=n // 8, first=0, second=move) for n, move in enumerate(moves)]
    alone = worst_difference(apart, resamples=2000, seed=1)
    assert worst_difference(together, resamples=2000, seed=1) < alone - 0.02
    assert design_effect(apart) == pytest.approx(1.0, abs=0.01)
    assert design_effect(together) > 4
    assert design_effect([Pair(cluster=n, first=1, second=1) for n in range(4)]) == 1.0


def test_a_candidate_that_is_worse_by_the_margin_is_seldom_called_no_worse() -> None:
    random = np.random.default_rng(5)
    lost, gained, _ = random.multinomial(150, [0.09, 0.04, 0.87], size=2000).T
    called = [score_bound(int(b), int(c), 150) >= -0.05 for b, c in zip(lost, gained, strict=True)]
    assert np.mean(called) == pytest.approx(0.05, abs=0.02)


def test_simulated_power_is_the_sum() -> None:
    for n, gain in ((50, 0.2), (100, 0.1), (150, 0.1)):
        assert simulated_power(n, gain=gain, wrong_way=0.04, draws=8000) == pytest.approx(
            power(n, gain), abs=0.02
        )
    assert simulated_power(100, gain=0.1, wrong_way=0.04, alpha=0.025) < power(100, 0.1) - 0.03
    assert simulated_power(100, gain=0.2, wrong_way=0.0) > 0.99


def test_questions_needed_are_enough_and_not_many_more_than_that() -> None:
    needed = questions_needed(lambda n: power(n, 0.1))
    assert needed is not None
    assert power(needed, 0.1) >= 0.8 > power(int(needed * 0.9), 0.1)
    assert questions_needed(lambda n: power(n, 0.1), effect=2.0) == 2 * needed
    assert questions_needed(lambda n: 0.1) is None


def test_margins_need_questions_even_where_nothing_moves() -> None:
    """z^2 (1 - m) / m: 52 questions at 5 points."""
    needed = questions_needed(lambda n: noninferiority_power(n, margin=0.05, moving=0.0))
    assert needed is not None
    assert 52 <= needed <= 55
    assert noninferiority_power(100, margin=0.05, moving=0.2) < 0.5


def test_the_upper_bound_of_none_is_the_rule_of_three() -> None:
    assert upper_bound(0, 50) == pytest.approx(0.058, abs=0.001)
    assert upper_bound(0, 100) == pytest.approx(0.030, abs=0.001)
    assert upper_bound(3, 3) == 1.0
    assert scipy_stats.binom.cdf(2, 40, upper_bound(2, 40)) == pytest.approx(0.05)


def test_where_topics_decide_the_bound_is_the_lower_end_of_nine_tenths_of_the_draws() -> None:
    pairs = [Pair(cluster=i // 10, first=float(i < 60), second=float(i < 50)) for i in range(100)]
    drawn = cluster_interval(pairs, resamples=2000, seed=1, level=0.9)
    assert drawn is not None
    assert drawn.low < score_bound(10, 0, 100)
    assert worst_difference(pairs, resamples=2000, seed=1) == drawn.low


def test_topics_whose_questions_move_apart_save_no_questions() -> None:
    apart = [Pair(cluster=i // 2, first=0.5, second=float(i % 2)) for i in range(40)]
    together = [Pair(cluster=i // 10, first=0.5, second=float(i // 10 % 2)) for i in range(40)]
    assert design_effect(apart) == 1.0
    assert design_effect(together) == pytest.approx(10)
    assert design_effect(apart[:1]) == 1.0
