"""A fit for one tenant and index version: searches, weight, calibration, and the evidence beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from retrieval.calibrating import Collected, collect
from retrieval.confidence import FittedCalibration
from retrieval.documents import Access
from retrieval.fitting import CERTAINTY, CalibrationFit, WeightFit, auroc, fit_confidence, fit_weight
from retrieval.questions import LabelledQuestion, generated_questions, read_questions, require_readable
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore
from retrieval.versions import KnowledgeVersion

#: In place of a file: questions made from the tenant's own texts.
GENERATED: Final = "generated"


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOrder:
    """What to fit, and for what."""

    tenant: str
    principals: tuple[str, ...]
    version: KnowledgeVersion
    #: A file, or `generated`.
    questions: str
    #: Most questions that are made, where they are.
    limit: int
    #: Share of answered questions that may lack an answer in their hits.
    risk: float
    #: Share of questions without an answer that is expected where the fit will be used.
    unanswerable: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Both fits. `fitted` is None where no threshold keeps the stated risk."""

    weight: WeightFit
    confidence: CalibrationFit
    fitted: FittedCalibration | None
    evidence: dict[str, Any]

    def definition(self, version: KnowledgeVersion) -> dict[str, Any]:
        """What an index version takes over, as JSON."""
        return {
            "version": version.id,
            "dense_weight": self.weight.dense_weight,
            "calibration": self.confidence.calibration.definition(),
            "abstain_below": self.fitted.abstain_below if self.fitted else None,
            "evidence": self.evidence,
        }


async def fit(
    store: KnowledgeStore,
    retriever: Retriever,
    order: FitOrder,
    *,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Fit:
    """Search the questions with and without their gold documents, and fit on what was found."""
    access = Access(tenant=order.tenant, principals=order.principals)
    questions = await _questions(store, order)
    if order.questions != GENERATED:
        await require_readable(store, questions, access)
    collected = await collect(
        retriever,
        questions,
        access=access,
        version=order.version.id,
        on_progress=on_progress,
    )
    weight = fit_weight(collected.rankings, current=order.version.dense_weight)
    confidence = fit_confidence(collected.observations, risk=order.risk, unanswerable=order.unanswerable)
    threshold = confidence.threshold
    return Fit(
        weight=weight,
        confidence=confidence,
        fitted=FittedCalibration(calibration=confidence.calibration, abstain_below=threshold.abstain_below)
        if threshold
        else None,
        evidence=_evidence(order, questions, collected, weight, confidence),
    )


async def _questions(store: KnowledgeStore, order: FitOrder) -> Sequence[LabelledQuestion]:
    if order.questions != GENERATED:
        return read_questions(Path(order.questions))
    return await generated_questions(store, tenant=order.tenant, version=order.version.id, limit=order.limit)


def _evidence(
    order: FitOrder,
    questions: Sequence[LabelledQuestion],
    collected: Collected,
    weight: WeightFit,
    confidence: CalibrationFit,
) -> dict[str, Any]:
    """What somebody needs to judge the fit, and to make it again."""
    text = "\n".join(f"{each.text}\t{','.join(sorted(each.gold))}" for each in questions)
    seen = collected.observations
    cosine = auroc([each.features.get("top_dense", 0.0) for each in seen], [each.sufficient for each in seen])
    return {
        "questions": GENERATED if order.questions == GENERATED else Path(order.questions).name,
        "questions_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "pairs": len(collected.rankings),
        "groups": len({each.group for each in questions}),
        "quality": asdict(confidence.quality),
        "auroc_of_cosine_alone": cosine,
        "risk": order.risk,
        "certainty": CERTAINTY,
        "unanswerable": order.unanswerable,
        "threshold": asdict(confidence.threshold) if confidence.threshold else None,
        "weight": {**asdict(weight), "ndcg": {str(at): value for at, value in weight.ndcg.items()}},
    }
