"""The scoring that every run uses: the model rail's own output checks, and the task's schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.errors import RunError
from eval.scorers import Scoring
from eval.settings import EvalSettings
from serving.checker import GroundingChecker
from serving.errors import ServingError
from serving.grounding import THRESHOLD
from serving.prompting import Passage
from serving.tone import check_tone
from serving.versions import load_task_schema
from serving.wording import DEFAULT_WORDING, load_wording

#: What is wrong with a sentence of which no single value or name is: its words stand together nowhere.
NOT_SAID = "no passage says this"


@dataclass(frozen=True, slots=True)
class _Grounding:
    """The gateway's own check, as what is wrong with a sentence."""

    checker: GroundingChecker

    def __call__(self, sentence: str, passages: Sequence[Passage], question: str) -> tuple[str, ...]:
        support = self.checker(sentence, passages, question=question)
        if support.supported:
            return ()
        return support.unsupported or (NOT_SAID,)


def build_scoring(
    *,
    schema: Path,
    wording: Path | None = None,
    threshold: float = THRESHOLD,
    model: Path | None = None,
) -> Scoring:
    """Scoring for answers of one task in one deployment's wording, by the grounding check with this threshold
    and entailment model.

    The model has no deadline here: what a measurement finds must not depend on how busy the machine was.
    """
    try:
        loaded = load_task_schema(schema)
        fixed = load_wording(wording or DEFAULT_WORDING)
        checker = GroundingChecker.load(wording=wording, threshold=threshold, model=model, patient=True)
    except ServingError as exc:
        raise RunError(f"scoring: {exc}") from exc
    return Scoring(
        unsupported=_Grounding(checker),
        broken_tone_rules=check_tone,
        schema=loaded,
        wordings=checker.fixed,
        wording=fixed,
        version=checker.version,
    )


def scoring_of(settings: EvalSettings, schema: Path | None = None) -> Scoring:
    """The scoring that the settings describe, for another task's `schema` if one is given."""
    return build_scoring(
        schema=schema or settings.task_schema,
        wording=settings.wording,
        threshold=settings.support_threshold,
        model=settings.entailment_model,
    )
