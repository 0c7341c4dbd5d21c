"""Counts with intervals, and paired comparison of two arms on the same questions.

Questions of one topic fail together, so differences are bootstrapped by topic. Intervals of a single rate are
Wilson's and treat questions as independent, those of a `ClusteredRate` apart: read differences, not overlaps.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, comb, exp, inf, lgamma, log, log1p, sqrt
from statistics import NormalDist

import numpy as np
from scipy.stats import beta, fisher_exact
from scipy.stats import t as student_t

_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """k of n. `n` is never 0: without data there is no rate."""

    k: int
    n: int

    def __post_init__(self) -> None:
        if not 0 <= self.k <= self.n or self.n == 0:
            raise ValueError(f"a rate needs 0 <= k <= n and n > 0, not {self.k} of {self.n}")

    @property
    def value(self) -> float:
        """The share."""
        return self.k / self.n

    @property
    def interval(self) -> Interval:
        """Wilson's, which stays inside 0 and 1 and is not empty at 0 of n."""
        return wilson(self.k, self.n)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteredRate(Rate):
    """k of n in clusters that move together, as turns of one conversation do."""

    clusters: int
    #: As many independent ones would say as much.
    independent: float

    @property
    def interval(self) -> Interval:
        """Wilson's of so many independent ones."""
        return wilson(self.value * self.independent, self.independent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One question measured in two arms."""

    cluster: Hashable
    first: float
    second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTest:
    """McNemar's exact test: `only_first` and `only_second` are the questions that just one arm passes."""

    n: int
    only_first: int
    only_second: int
    p: float


def wilson(k: float, n: float) -> Interval:
    """The score interval of k of n."""
    share = k / n
    spread = _Z95 * sqrt(share * (1 - share) / n + _Z95**2 / (4 * n**2))
    middle = share + _Z95**2 / (2 * n)
    scale = 1 + _Z95**2 / n
    return Interval(max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale))


def mcnemar(pairs: Sequence[Pair]) -> PairedTest:
    """Exact and two-sided over pass (above one half) or fail."""
    only_first = sum(pair.first > 0.5 >= pair.second for pair in pairs)
    only_second = sum(pair.second > 0.5 >= pair.first for pair in pairs)
    return PairedTest(
        n=len(pairs),
        only_first=only_first,
        only_second=only_second,
        p=exact_p(only_first, only_second),
    )


def exact_p(b: int, c: int) -> float:
    """Two-sided binomial p of b against c discordant pairs; 1 when there are none."""
    n = b + c
    return min(1.0, 2 * sum(comb(n, i) for i in range(min(b, c) + 1)) / (1 << n))


def fisher_p(first: Rate, second: Rate) -> float:
    """Two-sided exact p of a difference between two shares of different questions."""
    table = [[rate.k, rate.n - rate.k] for rate in (first, second)]
    return float(fisher_exact(table).pvalue)


def cluster_interval(
    pairs: Sequence[Pair], *, resamples: int, seed: int, level: float = 0.95
) -> Interval | None:
    """Interval of the mean difference, second minus first, from draws of whole clusters; None below two."""
    sums: dict[Hashable, tuple[float, int]] = {}
    for pair in pairs:
        total, count = sums.get(pair.cluster, (0.0, 0))
        sums[pair.cluster] = (total + pair.second - pair.first, count + 1)
    if len(sums) < 2:
        return None
    totals = np.array([total for total, _ in sums.values()])
    counts = np.array([count for _, count in sums.values()])
    draws = np.random.default_rng(seed).integers(0, len(sums), size=(resamples, len(sums)))
    means = totals[draws].sum(axis=1) / counts[draws].sum(axis=1)
    tail = 50 * (1 - level)
    low, high = np.percentile(means, (tail, 100 - tail))
    return Interval(float(low), float(high))


def design_effect(pairs: Sequence[Pair]) -> float:
    """How many times more questions are needed because those of a cluster move together; at least 1."""
    differences = np.array([pair.second - pair.first for pair in pairs])
    spread = float(differences.var()) * len(pairs)
    if spread == 0:
        return 1.0
    sums: dict[Hashable, float] = {}
    for pair, difference in zip(pairs, differences - differences.mean(), strict=True):
        sums[pair.cluster] = sums.get(pair.cluster, 0.0) + float(difference)
    return max(1.0, sum(value**2 for value in sums.values()) / spread)


def clustered_rate(passed: Sequence[tuple[Hashable, bool]]) -> ClusteredRate:
    """The rate of scores that come with their cluster.

    n is divided by the design effect and by what is not known of that one with few clusters (Korn and
    Graubard, 1998). Where all scores are alike nothing is known of it: then a cluster counts once.
    """
    k, n, clusters = sum(each for _, each in passed), len(passed), len({cluster for cluster, _ in passed})
    independent = float(clusters)
    if 0 < k < n and clusters > 1:
        effect = design_effect([Pair(cluster=cluster, first=0.0, second=each) for cluster, each in passed])
        independent = n / effect * (_Z95 / float(student_t.ppf(0.975, clusters - 1))) ** 2
    return ClusteredRate(k=k, n=n, clusters=clusters, independent=independent)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Each p as it counts among all of them (Holm): below 0.05 in 5 % of families without any difference."""
    adjusted: dict[str, float] = {}
    floor = 0.0
    for place, name in enumerate(sorted(p_values, key=lambda name: (p_values[name], name))):
        floor = max(floor, min(1.0, (len(p_values) - place) * p_values[name]))
        adjusted[name] = floor
    return {name: adjusted[name] for name in p_values}


def worst_difference(pairs: Sequence[Pair], *, resamples: int, seed: int, alpha: float = 0.05) -> float:
    """The difference, second minus first, that lies below the true one 1 - alpha of the time (one-sided).

    The lower of two bounds: Tango's score bound, which is not empty where no question moved, and the
    bootstrap over clusters, which knows that questions move together. With few questions it is far below
    zero, so that nothing is called "no worse" for want of data.
    """
    test = mcnemar(pairs)
    bound = score_bound(test.only_first, test.only_second, test.n, alpha=alpha)
    over_clusters = cluster_interval(pairs, resamples=resamples, seed=seed, level=1 - 2 * alpha)
    return bound if over_clusters is None else min(bound, over_clusters.low)


def score_bound(only_first: int, only_second: int, n: int, *, alpha: float = 0.05) -> float:
    """Tango's one-sided lower bound of the difference of two shares of the same n questions."""
    wanted = NormalDist().inv_cdf(1 - alpha)
    low, high = -1.0, (only_second - only_first) / n
    for _ in range(60):
        middle = (low + high) / 2
        if _score_statistic(only_first, only_second, n, middle) > wanted:
            low = middle
        else:
            high = middle
    return low


def _score_statistic(only_first: int, only_second: int, n: int, difference: float) -> float:
    """How many standard errors the observed difference lies above this one (Tango 1998)."""
    # The share that only the first arm passes, most likely under this difference: root of a x^2 + b x + c.
    a = 2 * n
    b = -only_first - only_second + (2 * n - only_second + only_first) * difference
    c = -only_first * difference * (1 - difference)
    share = (sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = n * (2 * share + difference * (1 - difference))
    distance = only_second - only_first - n * difference
    if variance <= 0:
        return inf if distance > 0 else 0.0
    return distance / sqrt(variance)


def upper_bound(k: int, n: int, *, alpha: float = 0.05) -> float:
    """The exact share (Clopper-Pearson, one-sided) that k of n leave possible: 3 % at 0 of 100."""
    return 1.0 if k == n else float(beta.ppf(1 - alpha, k + 1, n - k))


def power(n: int, gain: float, *, wrong_way: float = 0.04) -> float:
    """Chance that the exact test finds (p < 0.05) a true gain when `wrong_way` of the questions get worse."""
    right_way = gain + wrong_way
    discordant = right_way + wrong_way
    if discordant >= 1:
        return 1.0
    share = right_way / discordant
    found = 0.0
    for d in range(n + 1):
        chance = _binomial(d, n, discordant)
        if chance > 1e-12 and (rare := _largest_rare(d)) is not None:
            tails = (*range(rare + 1), *range(d - rare, d + 1))
            found += chance * sum(_binomial(b, d, share) for b in tails)
    return found


@cache
def _largest_rare(n: int, alpha: float = 0.05) -> int | None:
    """The largest smaller side of n discordant questions at which the exact test still says p < alpha."""
    total, largest = 0, None
    for smaller in range(n // 2 + 1):
        total += comb(n, smaller)
        if 2 * total / (1 << n) >= alpha:
            break
        largest = smaller
    return largest


def simulated_power(
    n: int, *, gain: float, wrong_way: float, alpha: float = 0.05, draws: int = 2000, seed: int = 0
) -> float:
    """Chance that the exact test shows a true gain (p < alpha), by draws: fast for any n and alpha."""
    both = min(1.0, gain + 2 * wrong_way)
    random = np.random.default_rng(seed)
    discordant = random.binomial(n, both, size=draws)
    worse = random.binomial(discordant, wrong_way / both)
    found = 0
    for moved, lost in zip(discordant.tolist(), worse.tolist(), strict=True):
        rare = _largest_rare(moved, alpha)
        found += rare is not None and lost <= rare
    return found / draws


def noninferiority_power(
    n: int, *, margin: float, moving: float, alpha: float = 0.05, draws: int = 500, seed: int = 0
) -> float:
    """Chance that `score_bound` stays above -margin between equal arms in which a share `moving` differs."""
    random = np.random.default_rng(seed)
    discordant = random.binomial(n, moving, size=draws)
    worse = random.binomial(discordant, 0.5)
    wanted = NormalDist().inv_cdf(1 - alpha)
    return (
        sum(
            _score_statistic(lost, moved - lost, n, -margin) >= wanted
            for moved, lost in zip(discordant.tolist(), worse.tolist(), strict=True)
        )
        / draws
    )


def questions_needed(
    chance: Callable[[int], float], *, effect: float = 1.0, wanted: float = 0.8, most: int = 2000
) -> int | None:
    """The fewest questions, to one in twenty, at which `chance` is as wanted; None for more than `most`.

    `effect` is the design effect: so many times more questions of clusters are needed than independent ones.
    """
    low, high = 1, 10
    while chance(high) < wanted:
        low, high = high, 2 * high
        if low >= most:
            return None
    while high - low > max(1, low // 20):
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle) >= wanted else (middle, high)
    return ceil(high * effect)


def _binomial(k: int, n: int, share: float) -> float:
    ways = lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
    return exp(ways + k * log(share) + (n - k) * log1p(-share))


@cache
def smallest_visible_gain(n: int) -> float | None:
    """The smallest gain, in steps of 5 points, that n questions show four times in five; None if none is."""
    # 500 questions show the smallest step already, so more need no longer sums.
    enough = min(n, 500)
    return next((step / 100 for step in range(5, 95, 5) if power(enough, step / 100) >= 0.8), None)


def mean(values: Sequence[float]) -> float:
    """The mean of at least one value."""
    return float(np.mean(values))


def median(values: Sequence[float]) -> float | None:
    """The middle value; None without data."""
    return float(np.median(values)) if values else None


def ndcg(ranked: Sequence[str], gold: Mapping[str, int], *, depth: int) -> float:
    """Normalised discounted cumulative gain of a ranking of documents without repeats."""
    gains = [gold.get(document, 0) for document in ranked[:depth]]
    ideal = sorted(gold.values(), reverse=True)[:depth]
    best = _discounted(ideal)
    return _discounted(gains) / best if best else 0.0


def _discounted(gains: Sequence[int]) -> float:
    return float(sum(gain / np.log2(rank + 2) for rank, gain in enumerate(gains)))
