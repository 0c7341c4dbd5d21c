"""How sure retrieval is that its hits hold the answer: one number by one rule."""

from __future__ import annotations

import math

from retrieval.versions import KnowledgeVersion


def confidence(top_dense: float | None, version: KnowledgeVersion) -> float:
    """A logistic of the best cosine, with the version's midpoint and slope; 0.0 without any candidate.

    Comparable within an index version only, since cosines of two embedders are not.
    """
    if top_dense is None:
        return 0.0
    return 1.0 / (1.0 + math.exp(-version.confidence_slope * (top_dense - version.confidence_midpoint)))
