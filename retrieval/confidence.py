"""How sure retrieval is that its hits hold the answer: a logistic of a few numbers that a search leaves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from retrieval.errors import RequestError
from retrieval.hits import Hit
from retrieval.lexing import content_words

#: Hits that the features look at, whatever `k` was asked for: a confidence must not depend on it.
LOOKED_AT: Final = 8
#: The feature that says that a reranker has been there.
RERANK_TOP: Final = "rerank_top"


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
        """The calibration that a stored definition describes."""
        try:
            weights, unranked = definition["weights"], definition.get("unranked")
            return cls(
                intercept=float(str(definition["intercept"])),
                weights={str(name): float(weight) for name, weight in weights.items()},  # type: ignore[attr-defined]
                unranked=None if unranked is None else cls.from_definition(unranked),  # type: ignore[arg-type]
            )
        except (KeyError, AttributeError, TypeError, ValueError) as exc:
            raise RequestError("calibration: needs `intercept` and `weights`, a name -> number each") from exc


def features_of(
    question: str,
    hits: Sequence[Hit],
    *,
    top_dense: float | None,
    lexical_unit: float,
    candidates: int,
) -> dict[str, float]:
    """The numbers of a search that its confidence follows from; none where nothing was found."""
    looked_at = hits[:LOOKED_AT]
    if not looked_at or top_dense is None:
        return {}
    best = looked_at[0]
    cosines = sorted(_best_by_document(looked_at, "dense_score"), reverse=True)
    lexical = sorted(_best_by_document(looked_at, "lexical_score"), reverse=True)
    asked = content_words(question)
    first = _covered(asked, looked_at[:1])
    features = {
        "top_dense": top_dense,
        "dense_gap": top_dense - cosines[1] if len(cosines) > 1 else 0.0,
        "mean_dense": sum(hit.dense_score for hit in looked_at[:3]) / len(looked_at[:3]),
        # As the fusion counts words: rare ones matched, times the share of the question that was.
        "top_lexical": math.sqrt(lexical[0] ** 2 / lexical_unit),
        "lexical_gap": math.sqrt((lexical[0] ** 2 - lexical[1] ** 2) / lexical_unit)
        if len(lexical) > 1
        else 0.0,
        "coverage": first,
        "coverage_more": _covered(asked, looked_at[:3]) - first,
        "legs_agree": float(
            max(looked_at, key=lambda hit: hit.dense_score).document_id
            == max(looked_at, key=lambda hit: hit.lexical_score).document_id
        ),
        "documents": len(cosines) / len(looked_at),
        "words": math.log1p(len(asked)),
        "candidates": math.log1p(candidates),
    }
    if best.rerank_score is not None:
        ranked = sorted(_best_by_document(looked_at, "rerank_score"), reverse=True)
        features[RERANK_TOP] = ranked[0]
        features["rerank_gap"] = ranked[0] - ranked[1] if len(ranked) > 1 else 0.0
        features["rerank_mean"] = sum(ranked[:3]) / len(ranked[:3])
    return features


def _best_by_document(hits: Sequence[Hit], score: str) -> list[float]:
    best: dict[str, float] = {}
    for hit in hits:
        value = float(getattr(hit, score) or 0.0)
        best[hit.document_id] = max(value, best.get(hit.document_id, -math.inf))
    return list(best.values())


def _covered(asked: frozenset[str], hits: Sequence[Hit]) -> float:
    """Share of the question's words that the hits hold; 1 for a question without any."""
    if not asked:
        return 1.0
    held = {
        word for hit in hits for word in content_words(" ".join((hit.title, *hit.heading_path, hit.text)))
    }
    return len(asked & held) / len(asked)


#: Of the packaged MiniLM before anything is fitted: one half at a cosine of 0.36.
COSINE_ONLY = Calibration(intercept=-7.92, weights={"top_dense": 22.0})
