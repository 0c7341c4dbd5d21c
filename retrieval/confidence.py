"""How sure retrieval is that its hits hold the answer: a logistic of a few numbers that a search leaves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from retrieval.errors import RequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Weights of a logistic over named features of a search. A feature that a search lacks counts as 0.

    Comparable within an index version only, since cosines of two embedders are not.
    """

    intercept: float
    weights: Mapping[str, float]

    def probability(self, features: Mapping[str, float]) -> float:
        """Probability 0 to 1 that the context suffices."""
        logit = self.intercept + sum(
            weight * features.get(name, 0.0) for name, weight in self.weights.items()
        )
        # Beyond this the exponential overflows, and the answer is 0 or 1 anyway.
        return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, logit))))

    def definition(self) -> dict[str, object]:
        """What makes it: plain JSON with the names in order."""
        return {"intercept": self.intercept, "weights": dict(sorted(self.weights.items()))}

    @classmethod
    def from_definition(cls, definition: Mapping[str, object]) -> Calibration:
        """The calibration that a stored definition describes."""
        try:
            weights = definition["weights"]
            return cls(
                intercept=float(str(definition["intercept"])),
                weights={str(name): float(weight) for name, weight in weights.items()},  # type: ignore[attr-defined]
            )
        except (KeyError, AttributeError, TypeError, ValueError) as exc:
            raise RequestError("calibration: needs `intercept` and `weights`, a name -> number each") from exc


#: Of the packaged MiniLM before anything is fitted: one half at a cosine of 0.36.
COSINE_ONLY = Calibration(intercept=-7.92, weights={"top_dense": 22.0})
