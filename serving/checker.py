"""The grounding check as one object: fixed wordings, threshold and model chosen once, for every caller.

The gateway releases sentences by it, evaluation and the dataset filter judge by it, so that a rate that is
measured is the rate of what is enforced. `version` names all that decides; who stores a verdict stores it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from serving.grounding import RULES, THRESHOLD, Entailment, Support, check_sentence
from serving.prompting import Passage
from serving.settings import PACKAGED_ENTAILMENT, ServingSettings
from serving.wording import DEFAULT_WORDING, load_wording


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundingChecker:
    """Checks sentences, always in the same way."""

    #: Wordings of the deployment that claim nothing.
    fixed: tuple[str, ...] = ()
    threshold: float = THRESHOLD
    entailment: Entailment | None = None

    @classmethod
    def load(
        cls,
        *,
        wording: Path | None = None,
        threshold: float = THRESHOLD,
        model: Path | None = None,
        patient: bool = False,
    ) -> Self:
        """The checker of a wording file and, if one is named, of a model: a folder, or `packaged`.

        `patient`: without a deadline for the model. A customer waits, a measurement does not: its verdicts
        must not depend on how busy the machine is.
        """
        fixed = load_wording(wording or DEFAULT_WORDING).all()
        if model is None:
            return cls(fixed=fixed, threshold=threshold)
        # Only here: who asks no model need not wait for its runtime to load.
        from serving.entailment import DEADLINE_S, OnnxEntailment

        folder = PACKAGED_ENTAILMENT if model == Path("packaged") else model
        entailment = OnnxEntailment(folder, deadline_s=math.inf if patient else DEADLINE_S)
        return cls(fixed=fixed, threshold=threshold, entailment=entailment)

    @classmethod
    def of(cls, settings: ServingSettings) -> Self:
        """The checker that the settings of the model rail describe, for who is waited for."""
        return cls.load(
            wording=settings.wording_file,
            threshold=settings.support_threshold,
            model=settings.entailment_model,
        )

    def __call__(self, sentence: str, passages: Sequence[Passage], *, question: str = "") -> Support:
        return check_sentence(
            sentence,
            passages,
            question=question,
            fixed=self.fixed,
            threshold=self.threshold,
            entailment=self.entailment,
        )

    @property
    def version(self) -> str:
        """Rules, thresholds and model by name. Wordings are left out: they are the deployment's own."""
        words = f"words{RULES}-{self.threshold:g}"
        model = self.entailment
        return f"{words}+{model.id}-{model.threshold:g}" if model else words

    @property
    def is_slow(self) -> bool:
        """Whether a check takes so long that it must not hold up others."""
        return self.entailment is not None
