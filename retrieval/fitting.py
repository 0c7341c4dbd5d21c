"""Fits what a version ranks and abstains by, from searches that were made: pure arithmetic, nothing is read.

Both fits judge themselves on groups that they have not seen, and say so when the data is too thin to decide.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from retrieval.confidence import RERANK_TOP, Calibration
from retrieval.errors import TooFewPairsError

Floats = NDArray[np.float64]
#: What happened, one by one.
Labels = Sequence[bool] | Floats | NDArray[np.bool_]

#: Questions under which neither a weight nor a calibration is fitted.
LEAST_PAIRS: Final = 50
FOLDS: Final = 5
#: How sure a bound on the risk is.
CERTAINTY: Final = 0.95
WEIGHTS: Final = tuple(round(step * 0.05, 2) for step in range(21))
#: What fused ranking may lose against the better leg alone.
LEG_TOLERANCE: Final = 0.005
#: Shares of the sufficient from which lower thresholds are tried: on fewer, no bound is small.
_STARTS: Final = (0.15, 0.3, 0.6)
_RESAMPLES: Final = 2_000
_BINS: Final = 10
_L2: Final = 1.0


# ---- fusion weight -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """All candidates of one search with the exact scores of both legs, and which documents are right."""

    documents: tuple[str, ...]
    dense: tuple[float, ...]
    lexical: tuple[float, ...]
    #: What BM25 squared is divided by under fusion `coverage-1`.
    lexical_unit: float
    gold: frozenset[str]
    #: Questions that win or lose together, such as those on one document.
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFit:
    """A weight and why it is that one."""

    dense_weight: float
    #: The weight that it was compared with.
    current: float
    pairs: int
    groups: int
    #: nDCG@10 by weight.
    ndcg: Mapping[float, float]
    #: The best weight less the current one, with the 95 % interval of a paired bootstrap over groups.
    gain: float
    interval: tuple[float, float]
    reason: str


def fused_scores(
    dense: Sequence[float], lexical: Sequence[float], *, lexical_unit: float, dense_weight: float
) -> Floats:
    """The scores that the search function gives its candidates under fusion `coverage-1`, 0 to 1."""
    cosines, words = np.asarray(dense, dtype=float), np.asarray(lexical, dtype=float)
    if not len(cosines):
        return cosines
    placed = placed_cosines(cosines)
    fused = dense_weight * placed + (1 - dense_weight) * words * words / lexical_unit
    return np.asarray(fused / (1 + fused), dtype=float)


def placed_cosines(cosines: Floats) -> Floats:
    """Cosines (N,) as fusion counts them: 1 for the best, the others less by how far below it they are.

    In parts of the range of this search, or of what the best lacks to 1 if that is more: noise stays small.
    """
    best = cosines.max()
    scale = max(best - cosines.min(), 1 - best)
    return np.asarray(1 - (best - cosines) / scale if scale > 0 else np.ones_like(cosines), dtype=float)


def ndcg_at_10(ranked: Sequence[str], gold: frozenset[str]) -> float:
    """nDCG@10 of documents in their order, with binary gains."""
    gain = sum(1 / np.log2(place + 2) for place, document in enumerate(ranked[:10]) if document in gold)
    best = sum(1 / np.log2(place + 2) for place in range(min(10, len(gold))))
    return float(gain / best) if best else 0.0


def fit_weight(rankings: Sequence[Ranking], *, current: float) -> WeightFit:
    """The share of the dense leg that ranks best.

    A difference that may be luck moves nothing, with two exceptions: where words add nothing at any weight
    the answer is 1, and a current weight that ranks worse than one leg alone does not stay.
    """
    rankings = [each for each in rankings if each.gold]
    require_pairs(len(rankings))
    weights = tuple(sorted({*WEIGHTS, current}))
    table = np.array([[_ndcg(each, weight) for weight in weights] for each in rankings])
    means = table.mean(axis=0)
    # Of weights alike, the nearest to the current one.
    best = min(range(len(weights)), key=lambda at: (-round(means[at], 6), abs(weights[at] - current)))
    now, alone = weights.index(current), (means[0], means[-1])
    groups = [each.group for each in rankings]
    interval = paired_interval(table[:, best] - table[:, now], groups)
    if means[-1] >= means[:-1].max():
        chosen, reason = 1.0, "words add nothing at any weight"
    elif best == now:
        chosen, reason = current, "the current weight ranks best"
    elif interval[0] > 0:
        chosen, reason = weights[best], "better than the current weight, beyond chance"
    elif means[now] < max(alone) - LEG_TOLERANCE:
        chosen, reason = weights[best], "the current weight ranks worse than one leg alone"
    else:
        chosen, reason = current, f"{weights[best]} is not better beyond chance, so the current weight stays"
    return WeightFit(
        dense_weight=chosen,
        current=current,
        pairs=len(rankings),
        groups=len(set(groups)),
        ndcg={weight: round(float(mean), 4) for weight, mean in zip(weights, means, strict=True)},
        gain=round(float(means[best] - means[now]), 4),
        interval=interval,
        reason=reason,
    )


def _ndcg(ranking: Ranking, weight: float) -> float:
    scores = fused_scores(
        ranking.dense, ranking.lexical, lexical_unit=ranking.lexical_unit, dense_weight=weight
    )
    order = np.lexsort((-np.asarray(ranking.dense), -scores))
    return ndcg_at_10(list(dict.fromkeys(ranking.documents[at] for at in order)), ranking.gold)


def paired_interval(differences: Sequence[float] | Floats, groups: Sequence[str]) -> tuple[float, float]:
    """95 % interval of a mean difference, by resampling whole groups."""
    values = np.asarray(differences, dtype=float)
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.bincount(member, weights=values)
    sizes = np.bincount(member)
    drawn = np.random.default_rng(0).integers(0, len(sums), size=(_RESAMPLES, len(sums)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return round(float(low), 4), round(float(high), 4)


# ---- calibration ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One search: what it left, and whether its hits hold the answer."""

    features: Mapping[str, float]
    sufficient: bool
    group: str
    #: Where it comes from: `as it is`, `gold left out`, `unanswerable`.
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How good probabilities are. AUROC is None where all are of one kind."""

    observations: int
    sufficient: int
    auroc: float | None
    ece: float
    brier: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A confidence to abstain below, and what it does on the observations."""

    abstain_below: float
    #: Upper bound of the share of wrong ones among those answered.
    risk_bound: float
    #: Share that is answered, of all and of those with an answer.
    coverage: float
    answered_of_sufficient: float
    #: Of the refused, how many had no answer; of those without one, how many were refused.
    abstention_precision: float | None
    abstention_recall: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationFit:
    """A calibration with its cross-fitted quality and the threshold for the stated risk, if there is one."""

    calibration: Calibration
    quality: Quality
    threshold: Threshold | None


def require_pairs(pairs: int) -> None:
    """Refuse to fit on next to nothing."""
    if pairs < LEAST_PAIRS:
        raise TooFewPairsError(
            f"questions: {pairs} with a known answer, and a fit needs {LEAST_PAIRS}; add labelled questions, "
            "or use `generated` on a tenant with more documents"
        )


def fit_confidence(
    observations: Sequence[Observation], *, risk: float, unanswerable: float | None = None
) -> CalibrationFit:
    """Calibration, its quality on unseen groups, and the threshold for the stated risk: the share of those
    answered that lack an answer.

    `unanswerable` is the share of questions without an answer where it will be used; None takes the data's.
    Searches with their gold left out are half of the data by making, and rarely half of the traffic.
    """
    require_pairs(len({(each.group, str(each.features)) for each in observations if each.sufficient}))
    share = unanswerable if unanswerable is not None else 1 - _labels(observations).mean()
    weights = _class_weights(_labels(observations), share)
    held_out = cross_fitted(observations, weights)
    return CalibrationFit(
        calibration=fit_calibration(observations, weights),
        quality=quality_of(held_out, _labels(observations), weights),
        threshold=threshold_for(held_out, _labels(observations), risk=risk, unanswerable=share),
    )


def fit_calibration(observations: Sequence[Observation], weights: Floats | None = None) -> Calibration:
    """A logistic over the features; where some searches were reranked, one more for when that was skipped."""
    ranked = any(RERANK_TOP in each.features for each in observations)
    unranked = _logistic(observations, weights, keep=lambda name: not name.startswith("rerank_"))
    if not ranked:
        return unranked
    full = _logistic(observations, weights, keep=lambda _name: True)
    return Calibration(intercept=full.intercept, weights=full.weights, unranked=unranked)


def cross_fitted(observations: Sequence[Observation], weights: Floats | None = None) -> Floats:
    """The probability of each by a fit on the folds that its group is not in."""
    folds = np.array([fold_of(each.group) for each in observations])
    given = np.ones(len(observations)) if weights is None else weights
    result = np.empty(len(observations))
    for fold in range(FOLDS):
        inside = folds == fold
        if not inside.any():
            continue
        seen = [each for each, out in zip(observations, ~inside, strict=True) if out]
        calibration = fit_calibration(seen, given[~inside])
        result[inside] = [calibration.probability(observations[at].features) for at in np.flatnonzero(inside)]
    return result


def fold_of(group: str) -> int:
    """The fold of five that a group is in."""
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % FOLDS


def quality_of(
    probabilities: Sequence[float] | Floats,
    sufficient: Labels,
    weights: Floats | None = None,
) -> Quality:
    """AUROC, calibration error over ten bins with as many each, and Brier score."""
    given, truth = np.asarray(probabilities, dtype=float), np.asarray(sufficient, dtype=float)
    mass = np.ones_like(given) if weights is None else weights
    order = np.argsort(given, kind="stable")
    error = 0.0
    for part in np.array_split(order, min(_BINS, max(1, len(order) // 5))):
        total = mass[part].sum()
        if total:
            error += abs((mass[part] * (given[part] - truth[part])).sum())
    return Quality(
        observations=len(given),
        sufficient=int(truth.sum()),
        auroc=auroc(given, truth),
        ece=round(float(error / mass.sum()), 4),
        brier=round(float((mass * (given - truth) ** 2).sum() / mass.sum()), 4),
    )


def auroc(scores: Sequence[float] | Floats, positive: Labels) -> float | None:
    """Share of pairs (one of each kind) in which the positive one scores higher; a tie counts half."""
    values, truth = np.asarray(scores, dtype=float), np.asarray(positive, dtype=bool)
    ups, downs = int(truth.sum()), int((~truth).sum())
    if not ups or not downs:
        return None
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    return round(float((ranks[truth].sum() - ups * (ups + 1) / 2) / (ups * downs)), 4)


def threshold_for(
    probabilities: Sequence[float] | Floats,
    sufficient: Labels,
    *,
    risk: float,
    unanswerable: float,
    certainty: float = CERTAINTY,
) -> Threshold | None:
    """The lowest threshold whose risk is bounded by the stated one; None where no threshold reaches it.

    From a few starting points downwards, the first threshold that fails ends its row (fixed-sequence testing,
    as in learn-then-test), so that only the starting points share the error. The bound joins two exact
    binomial ones: of how many without an answer get through at most, and of how many with one at least.
    """
    given, truth = np.asarray(probabilities, dtype=float), np.asarray(sufficient, dtype=bool)
    ups, downs = given[truth], given[~truth]
    if not len(ups) or not len(downs):
        return None
    passed = [
        threshold
        for start in _STARTS
        for threshold in _row(
            ups, downs, start, risk=risk, unanswerable=unanswerable, error=(1 - certainty) / len(_STARTS)
        )
    ]
    return min(passed, key=lambda threshold: threshold.abstain_below, default=None)


def _row(
    ups: Floats, downs: Floats, start: float, *, risk: float, unanswerable: float, error: float
) -> Iterator[Threshold]:
    """Thresholds that keep the risk, from the one that answers that share of the sufficient downwards."""
    for answered in np.arange(start, 1.001, 0.02):
        at = float(np.quantile(ups, max(0.0, 1 - float(answered))))
        right, wrong = int((ups >= at).sum()), int((downs >= at).sum())
        most = unanswerable * upper_share(wrong, len(downs), error / 2)
        least = (1 - unanswerable) * (1 - upper_share(len(ups) - right, len(ups), error / 2))
        bound = most / (most + least) if most + least > 0 else 1.0
        if bound > risk:
            return
        through = unanswerable * wrong / len(downs) + (1 - unanswerable) * right / len(ups)
        refused = 1 - through
        rightly = unanswerable * (1 - wrong / len(downs))
        yield Threshold(
            # Down, so that what was counted as answered still is.
            abstain_below=float(np.floor(at * 1e4) / 1e4),
            risk_bound=round(float(bound), 4),
            coverage=round(float(through), 4),
            answered_of_sufficient=round(right / len(ups), 4),
            abstention_precision=round(float(rightly / refused), 4) if refused > 1e-9 else None,
            abstention_recall=round(1 - wrong / len(downs), 4) if unanswerable else None,
        )


def upper_share(hits: int, trials: int, error: float) -> float:
    """Clopper-Pearson: the greatest share under which so few hits are still likely enough."""
    if hits >= trials:
        return 1.0
    low, high = hits / trials, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(hits, trials, middle) > error else (low, middle)
    return high


def _at_most(hits: int, trials: int, share: float) -> float:
    """Probability of at most so many hits."""
    if share >= 1:
        return 0.0
    counts = np.arange(hits + 1)
    logs = np.cumsum(np.log(np.concatenate(([1.0], (trials - counts[:-1]) / (counts[:-1] + 1)))))
    terms = logs + counts * np.log(max(share, 1e-300)) + (trials - counts) * np.log1p(-share)
    return float(np.exp(terms).sum())


def _labels(observations: Sequence[Observation]) -> Floats:
    return np.array([each.sufficient for each in observations], dtype=float)


def _class_weights(labels: Floats, unanswerable: float) -> Floats:
    """Weights with mean 1 under which the stated share has no answer."""
    insufficient = 1 - labels.mean()
    if not 0 < insufficient < 1 or not 0 < unanswerable < 1:
        return np.ones_like(labels)
    return np.where(labels > 0, (1 - unanswerable) / (1 - insufficient), unanswerable / insufficient)


def _logistic(
    observations: Sequence[Observation], weights: Floats | None, *, keep: Callable[[str], bool]
) -> Calibration:
    """Newton's method on standardised features, with the scales folded into the weights afterwards."""
    names = sorted({name for each in observations for name in each.features if keep(name)})
    rows = np.array([[each.features.get(name, 0.0) for name in names] for each in observations])
    labels = _labels(observations)
    mass = np.ones(len(labels)) if weights is None else weights
    means, scales = rows.mean(axis=0), rows.std(axis=0)
    varying = scales > 1e-9
    design = np.column_stack([np.ones(len(rows)), (rows[:, varying] - means[varying]) / scales[varying]])
    penalty = np.diag([0.0] + [_L2] * int(varying.sum()))
    beta = np.zeros(design.shape[1])
    for _ in range(50):
        odds = np.clip(design @ beta, -30, 30)
        chance = 1 / (1 + np.exp(-odds))
        slope = design.T @ (mass * (labels - chance)) - penalty @ beta
        curve = (
            (design * (mass * chance * (1 - chance))[:, None]).T @ design + penalty + 1e-9 * np.eye(len(beta))
        )
        step = np.linalg.solve(curve, slope)
        beta += step
        if np.abs(step).max() < 1e-8:
            break
    folded = beta[1:] / scales[varying]
    kept = [name for name, varies in zip(names, varying, strict=True) if varies]
    return Calibration(
        intercept=round(float(beta[0] - (folded * means[varying]).sum()), 6),
        weights={name: round(float(weight), 6) for name, weight in zip(kept, folded, strict=True)},
    )
