"""How far the entailment model's logit is believed beside what words and values say, and from where on.

A logistic regression over the signs of a sentence, fitted on rows that the model was not trained on. No
weight may go against its sign's direction: more overlap never lowers the probability, a missing value never
raises it. The threshold spends a fixed budget of refused right answers, with those that words and values
refuse among them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.entailment import Weights
from serving.entailment_rows import ANSWER, Row
from serving.grounding import THRESHOLD, Signs, word_signs
from serving.prompting import Passage

Vector = NDArray[np.float64]
_STEPS = 4000
_RATE = 0.5
#: Share of the right answers that may be refused, by whatever. Words and values alone refuse 5 %; at 8 % a
#: tenth more of the claims that were added from elsewhere is found, at 5 % next to none.
_MAY_REFUSE = 0.08
#: What keeps a weight finite where the signs part the rows completely.
_RIDGE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What the manifest states, and the figures that it was chosen by."""

    weights: dict[str, float]
    threshold: float
    figures: dict[str, object]


def calibrate(rows: Sequence[Row], logit_of: Callable[[Row], float]) -> Calibration:
    """Weights and threshold from held rows, for a model whose logits `logit_of` gives."""
    made = [row for row in rows if row.kind != ANSWER]
    judged = _judge(made, logit_of)
    fitted = fit(made, judged.logits, judged.signs)
    both = _probabilities(fitted, judged)
    answers = _judge([row for row in rows if row.kind == ANSWER], logit_of)
    threshold = _threshold(_probabilities(fitted, answers), answers)
    figures: dict[str, object] = {
        "right answers": len(answers.signs),
        "right answers refused": {
            "words and values": _share(answers.refused_by_words),
            "both": _share(answers.stopped | (_probabilities(fitted, answers) < threshold)),
        },
    }
    supported = np.array([row.supported for row in made])
    for name in sorted({row.set for row in made}):
        of_set = np.array([row.set == name for row in made])
        figures[name] = {
            "rows": int(of_set.sum()),
            "auroc": {
                "words and values": auroc(judged.scores[of_set], supported[of_set]),
                "model": auroc(judged.logits[of_set], supported[of_set]),
                "both": auroc(both[of_set], supported[of_set]),
            },
        }
    for kind in sorted({row.kind for row in made if row.set.startswith("demo")}):
        of_kind = np.array([row.kind == kind and row.set.startswith("demo") for row in made])
        figures[f"refused, demo, {kind}"] = {
            "rows": int(of_kind.sum()),
            "words and values": _share(judged.refused_by_words[of_kind]),
            "both": _share((judged.stopped | (both < threshold))[of_kind]),
        }
    figures["calibration error"] = _calibration_error(both, supported)
    names = ("bias", "logit", "overlap", "contradicted", "missing")
    return Calibration(
        weights={name: round(float(getattr(fitted, name)), 4) for name in names},
        threshold=round(threshold, 4),
        figures=figures,
    )


@dataclass(frozen=True, slots=True)
class _Judged:
    """Rows as the model and as words and values see them."""

    logits: Vector
    signs: Sequence[Signs]
    scores: Vector
    #: Refused whatever the model says: a value is missing, or a negation differs.
    stopped: NDArray[np.bool_]

    @property
    def refused_by_words(self) -> NDArray[np.bool_]:
        return self.stopped | (self.scores < THRESHOLD)


def _judge(rows: Sequence[Row], logit_of: Callable[[Row], float]) -> _Judged:
    signs = [word_signs(row.claim, [passage_of(row)], question=row.question) for row in rows]
    return _Judged(
        np.array([logit_of(row) for row in rows]),
        signs,
        np.array([sign.score for sign in signs]),
        np.array([bool(sign.faults) for sign in signs], dtype=np.bool_),
    )


def _probabilities(weights: Weights, judged: _Judged) -> Vector:
    return np.array(
        [weights.probability(x, sign) for x, sign in zip(judged.logits.tolist(), judged.signs, strict=True)]
    )


def passage_of(row: Row) -> Passage:
    """The evidence of a row as a passage."""
    return Passage(n=1, title="", text=row.evidence, start=0, end=len(row.evidence))


def _share(chosen: NDArray[np.bool_]) -> float | None:
    return round(float(chosen.mean()), 4) if len(chosen) else None


def fit(rows: Sequence[Row], logits: Vector, signs: Sequence[Signs]) -> Weights:
    """The regression; each set of rows counts alike, and in each right and wrong rows do."""
    wanted = np.array([float(row.supported) for row in rows])
    table = np.array(
        [
            [logit, sign.overlap, -float(sign.contrary is not None), -float(bool(sign.missing))]
            for logit, sign in zip(logits, signs, strict=True)
        ]
    )
    groups = [(row.set, row.supported) for row in rows]
    counts = {group: groups.count(group) for group in set(groups)}
    share = np.array([1.0 / counts[group] for group in groups])
    share /= share.sum()
    # A sign that is the same on all rows tells nothing and gets no weight.
    scale = np.where(table.std(axis=0) > 1e-6, table.std(axis=0), np.inf)
    scaled = table / scale
    found = np.zeros(table.shape[1])
    bias = 0.0
    for _ in range(_STEPS):
        wrong = share * (1 / (1 + np.exp(-(bias + scaled @ found))) - wanted)
        found = np.maximum(0.0, found - _RATE * (scaled.T @ wrong + _RIDGE * found))
        bias -= _RATE * float(wrong.sum())
    logit, overlap, contradicted, missing = (found / scale).tolist()
    return Weights(bias=bias, logit=logit, overlap=overlap, contradicted=contradicted, missing=missing)


def auroc(scores: Vector, supported: NDArray[np.bool_]) -> float | None:
    """Chance that a supported row scores above one that is not; None where one kind is absent."""
    good, bad = scores[supported], scores[~supported]
    if not len(good) or not len(bad):
        return None
    below = np.sort(bad)
    wins = np.searchsorted(below, good, side="left") + np.searchsorted(below, good, side="right")
    return round(float(wins.mean() / 2 / len(bad)), 4)


def _threshold(probabilities: Vector, answers: _Judged) -> float:
    """The highest probability that keeps within the budget of refused right answers."""
    judged = np.sort(probabilities[~answers.stopped])
    may = max(0, int(_MAY_REFUSE * len(answers.signs)) - int(answers.stopped.sum()))
    return float(min(0.9, judged[may])) if may < len(judged) else 0.5


def _calibration_error(probabilities: Vector, supported: NDArray[np.bool_]) -> float:
    """Mean distance between the probability and the share supported, in ten bins."""
    bins = np.minimum(9, (probabilities * 10).astype(int))
    return round(
        float(
            sum(
                (bins == number).mean()
                * abs(probabilities[bins == number].mean() - supported[bins == number].mean())
                for number in set(bins.tolist())
            )
        ),
        4,
    )
