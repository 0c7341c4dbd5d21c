"""The share of good answers behind the share that an imperfect judge calls good.

Rogan and Gladen's estimate, with the interval of Lang and Reiczigel (2014), which carries what is not known
of the judge's two error rates beside the sample. It needs those rates to hold for the answers that are
judged, not that people's labels have the same share of good answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from eval.stats import Interval, Rate

_Z95 = 1.959963984540054
#: Answers of each kind, good and bad by people, below which nothing is known of a judge's errors.
FEWEST_LABELS = 20
#: What sensitivity + specificity - 1 must at least be, at the lower end of its interval: at 0 a judge tosses
#: a coin, and a little above it the interval is all of 0 to 1.
LEAST_SKILL = 0.1
#: An estimate so many half widths outside of 0 to 1 is no chance: the labels are of other answers.
_MISFIT = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """How often a judge agrees with people, by what they say."""

    #: Of the answers that people call good, those that it calls good.
    sensitivity: Rate
    #: Of those that people call bad, those that it calls bad.
    specificity: Rate

    @property
    def youden(self) -> float:
        """Sensitivity + specificity - 1: 1 for a perfect judge, 0 for a coin."""
        return self.sensitivity.value + self.specificity.value - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """The share of good answers, as far as the judge's error lets it be known."""

    value: float
    interval: Interval
    n: int


@dataclass(frozen=True, slots=True)
class NoRate:
    """Why no share is shown."""

    reason: str


def correct(yes: int, n: int, skill: Skill) -> Corrected | NoRate:
    """The share of good answers where a judge of this skill calls `yes` of `n` good."""
    good, bad = skill.sensitivity.n, skill.specificity.n
    if min(good, bad) < FEWEST_LABELS:
        return NoRate(
            f"not calibrated: people call {good} answers good and {bad} bad; {FEWEST_LABELS} of each are due"
        )
    if n == 0:
        return NoRate("nothing was judged")
    # Counts with a little added, so that 0 and all of few are not taken for certain.
    sensitivity, of_sensitivity = _shrunk(skill.sensitivity)
    specificity, of_specificity = _shrunk(skill.specificity)
    youden = sensitivity + specificity - 1
    if youden - _Z95 * sqrt(of_sensitivity + of_specificity) < LEAST_SKILL:
        return NoRate(
            f"tells nothing: it calls {skill.sensitivity.value:.0%} of good answers good and "
            f"{1 - skill.specificity.value:.0%} of bad ones"
        )
    share = (yes + _Z95**2 / 2) / (n + _Z95**2)
    estimate = (share + specificity - 1) / youden
    middle = min(1.0, max(0.0, estimate))
    shift = 2 * _Z95**2 * (middle * of_sensitivity - (1 - middle) * of_specificity)
    half = (_Z95 / youden) * sqrt(
        share * (1 - share) / (n + _Z95**2) + middle**2 * of_sensitivity + (1 - middle) ** 2 * of_specificity
    )
    if abs(estimate - middle) > _MISFIT * half:
        return NoRate(
            "labels do not fit: with its measured error no share of good answers gives what it says here; "
            "label answers of this assistant"
        )
    plain = (yes / n + skill.specificity.value - 1) / skill.youden
    low, high = max(0.0, middle + shift - half), min(1.0, middle + shift + half)
    return Corrected(value=min(high, max(low, plain)), interval=Interval(low, high), n=n)


def _shrunk(rate: Rate) -> tuple[float, float]:
    """The share with one success and one failure more, and its variance."""
    share = (rate.k + 1) / (rate.n + 2)
    return share, share * (1 - share) / (rate.n + 2)
