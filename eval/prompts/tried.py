"""What a finished search proves to whoever asks whether prompts were tried before a model is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from eval.arms import ArmKind
from eval.errors import PromptSearchError
from eval.prompts.record import SearchFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchedPrompts:
    """One search: what was tried, in what, and what came of it."""

    folder: str
    #: What the prompts were tried in, and the model version whose weights they were tried on.
    kind: ArmKind
    model: str
    #: How many, the one that there was among them, and on how many questions the last were compared.
    prompts: int
    questions: int
    best: str
    #: Digest of the best prompt; "" where the version's own was not beaten.
    best_sha256: str


def searched_prompts(folder: Path) -> SearchedPrompts:
    """The outcome of a search; one that is not finished proves nothing."""
    record = SearchFolder(folder).read()
    if not record.complete:
        raise PromptSearchError(
            f"{folder}: the search is not finished; go on with `twinrail eval prompts {folder}`"
        )
    return SearchedPrompts(
        folder=folder.name,
        kind=record.arm.kind,
        model=record.arm.pin.model or "",
        prompts=len(record.candidates),
        questions=record.rounds[-1].questions,
        best=record.best,
        best_sha256=record.candidate(record.best).sha256,
    )
