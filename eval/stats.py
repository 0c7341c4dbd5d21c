"""Counts with intervals, and paired comparison of two arms on the same questions.

Questions of one topic fail together, so differences are bootstrapped by topic. Intervals of a single rate are
Wilson's and treat questions as independent: read differences, not overlaps.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import comb, exp, lgamma, log, log1p, sqrt

import numpy as np

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


def wilson(k: int, n: int) -> Interval:
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


def cluster_interval(pairs: Sequence[Pair], *, resamples: int, seed: int) -> Interval | None:
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
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(low), float(high))


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
def _largest_rare(n: int) -> int | None:
    """The largest smaller side of n discordant questions at which the exact test still says p < 0.05."""
    total, largest = 0, None
    for smaller in range(n // 2 + 1):
        total += comb(n, smaller)
        if 2 * total / (1 << n) >= 0.05:
            break
        largest = smaller
    return largest


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
