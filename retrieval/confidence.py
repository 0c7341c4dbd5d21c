"""How sure retrieval is that its hits hold the answer: a logistic of a few numbers that a search leaves."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from retrieval.errors import RequestError
from retrieval.hits import Hit
from retrieval.lexing import content_words, word_pairs

#: Hits that the features look at, whatever `k` was asked for: a confidence must not depend on it.
LOOKED_AT: Final = 8
#: The feature that says that a reranker has been there.
RERANK_TOP: Final = "rerank_top"
#: Everything that `features_of` gives.
FEATURES: Final = (
    "top_dense",
    "dense_spread",
    "mean_dense",
    "top_lexical",
    "top_score",
    "coverage",
    "pairs",
    "documents",
    "words",
    RERANK_TOP,
    "rerank_spread",
    "rerank_mean",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Weights of a logistic over named features of a search. A feature that a search lacks counts as 0.

    Comparable within an index version only, since cosines of two embedders are not.
    """

    intercept: float
    weights: Mapping[str, float]
    #: For searches that no reranker has seen, where the weights count on one that was skipped for time.
    unranked: Calibration | None = None

    def probability(self, features: Mapping[str, float]) -> float:
        """Probability 0 to 1 that the context suffices."""
        if self.unranked is not None and RERANK_TOP not in features:
            return self.unranked.probability(features)
        logit = self.intercept + sum(
            weight * features.get(name, 0.0) for name, weight in self.weights.items()
        )
        # Beyond this the exponential overflows, and the answer is 0 or 1 anyway.
        return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, logit))))

    def definition(self) -> dict[str, object]:
        """What makes it: plain JSON with the names in order."""
        own: dict[str, object] = {
            "intercept": self.intercept,
            "weights": dict(sorted(self.weights.items())),
        }
        return own if self.unranked is None else {**own, "unranked": self.unranked.definition()}

    @classmethod
    def from_definition(cls, definition: Mapping[str, object]) -> Self:
        """The calibration that a stored definition describes.

        A feature of another release counts as 0 here, so that gateways of two releases serve side by side.
        """
        try:
            weights, unranked = definition["weights"], definition.get("unranked")
            found = cls(
                intercept=float(str(definition["intercept"])),
                weights={str(name): float(weight) for name, weight in weights.items()},  # type: ignore[attr-defined]
                unranked=None if unranked is None else cls.from_definition(unranked),  # type: ignore[arg-type]
            )
        except (KeyError, AttributeError, TypeError, ValueError) as exc:
            raise RequestError("calibration: needs `intercept` and `weights`, a name -> number each") from exc
        for name, value in {"intercept": found.intercept, **found.weights}.items():
            if not math.isfinite(value):
                raise RequestError(f"calibration: {name}: {value} is not a finite number")
        return found

    @classmethod
    def given(cls, definition: Mapping[str, object]) -> Self:
        """The same of one that somebody wrote: there a misspelt feature would silently count as nothing."""
        found = cls.from_definition(definition)
        each: Calibration | None = found
        while each is not None:
            for name in each.weights:
                if name not in FEATURES:
                    raise RequestError(
                        f"calibration: weights: {name!r:.60} is no feature of a search; known: "
                        f"{', '.join(FEATURES)}"
                    )
            each = each.unranked
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedCalibration:
    """A tenant's own calibration for an index version, with the threshold that was derived from it."""

    calibration: Calibration
    abstain_below: float

    @property
    def name(self) -> str:
        """`tenant-<sha8>` of what it says: an answer is stamped with it."""
        definition = {**self.calibration.definition(), "abstain_below": self.abstain_below}
        digest = hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()
        return f"tenant-{digest[:8]}"

    @classmethod
    def from_row(cls, row: Mapping[str, object]) -> Self:
        """From `definition` and `abstain_below` as they are stored."""
        return cls(
            calibration=Calibration.from_definition(row["definition"]),  # type: ignore[arg-type]
            abstain_below=float(str(row["abstain_below"])),
        )


def features_of(
    question: str, hits: Sequence[Hit], *, top_dense: float | None, lexical_unit: float
) -> dict[str, float]:
    """The numbers of a search that its confidence follows from; none where nothing was found.

    Chosen by what each adds to the others (docs/experiments.md): gaps to the second document, agreement of
    the legs and the number of candidates added nothing.
    """
    looked_at = hits[:LOOKED_AT]
    if not looked_at or top_dense is None:
        return {}
    asked, pairs = content_words(question), word_pairs(question)
    best = looked_at[0]
    held = " ".join((best.title, *best.heading_path, best.text))
    features = {
        "top_dense": top_dense,
        "dense_spread": top_dense - min(hit.dense_score for hit in looked_at),
        "mean_dense": _mean([hit.dense_score for hit in looked_at[:3]]),
        # As the fusion counts words: how many rare ones, times the share of the question that they are.
        "top_lexical": max(hit.lexical_score for hit in looked_at) / math.sqrt(lexical_unit),
        "top_score": best.score,
        "coverage": _covered(asked, content_words(held)),
        "pairs": _covered(pairs, word_pairs(held)),
        "documents": len({hit.document_id for hit in looked_at}) / len(looked_at),
        "words": math.log1p(len(asked)),
    }
    logits = sorted((hit.rerank_score for hit in looked_at if hit.rerank_score is not None), reverse=True)
    if logits:
        features[RERANK_TOP] = logits[0]
        features["rerank_spread"] = logits[0] - logits[-1]
        features["rerank_mean"] = _mean(logits[:3])
    return features


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _covered(asked: frozenset[str], held: frozenset[str]) -> float:
    """Share of what was asked that is held; 1 where nothing was."""
    return len(asked & held) / len(asked) if asked else 1.0


#: Of the packaged MiniLM before anything is fitted: one half at a cosine of 0.36.
COSINE_ONLY = Calibration(intercept=-7.92, weights={"top_dense": 22.0})
