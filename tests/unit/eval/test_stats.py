from __future__ import annotations

import pytest
from scipy import stats as scipy_stats

from eval.stats import (
    Pair,
    Rate,
    cluster_interval,
    exact_p,
    mcnemar,
    median,
    ndcg,
    power,
    smallest_visible_gain,
    wilson,
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
