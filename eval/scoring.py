"""The scoring that every run uses: the model rail's own output checks, and the task's schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.errors import RunError
from eval.scorers import Scoring
from serving.errors import ServingError
from serving.grounding import THRESHOLD, check_sentence
from serving.prompting import Passage
from serving.tone import check_tone
from serving.versions import load_task_schema
from serving.wording import DEFAULT_WORDING, load_wording

#: What is wrong with a sentence of which no single value or name is: its words stand together nowhere.
NOT_SAID = "no passage says this"


@dataclass(frozen=True, slots=True)
class _Grounding:
    """The gateway's own check, with its fixed wordings, which claim nothing."""

    fixed: tuple[str, ...]

    def __call__(self, sentence: str, passages: Sequence[Passage], question: str) -> tuple[str, ...]:
        support = check_sentence(sentence, passages, question=question, fixed=self.fixed)
        if support.supported:
            return ()
        return support.unsupported or (NOT_SAID,)


def build_scoring(*, schema: Path, wording: Path | None = None) -> Scoring:
    """Scoring for answers of one task in one deployment's wording."""
    try:
        loaded = load_task_schema(schema)
        fixed = load_wording(wording or DEFAULT_WORDING).all()
    except ServingError as exc:
        raise RunError(f"--schema {schema}: {exc}") from exc
    return Scoring(
        unsupported=_Grounding(fixed),
        broken_tone_rules=check_tone,
        schema=loaded,
        wordings=fixed,
        version=f"words-{THRESHOLD}",
    )
