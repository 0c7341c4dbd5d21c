"""What a judge is shown of an answer of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.cases import Case
from eval.judging.judge import Judge, Part
from eval.judging.judgements import Item
from eval.observations import Observation
from eval.record import RunData
from eval.scorers import spaced


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One first answer of a run: to be judged, or the reason why the judge's question does not apply."""

    seen: Observation
    asker: str
    item: Item | None
    not_applicable: str = ""


def subjects(data: RunData, judge: Judge, *, wordings: Sequence[str]) -> Iterator[Subject]:
    """The answers that came, in the order of questions and arms. `wordings` are texts that claim nothing."""
    fixed = frozenset(map(spaced, wordings))
    for case in data.cases:
        for arm in data.record.arms:
            seen = data.observations.get((case.id, arm.name))
            if seen is None or seen.failed:
                continue
            reason = _does_not_apply(seen, judge, fixed)
            item = None if reason else Item(id=item_id(case.id, arm.name), evidence=_shown(case, seen, judge))
            yield Subject(seen=seen, asker=case.asker, item=item, not_applicable=reason)


def item_id(case_id: str, arm: str) -> str:
    """Names an answer of a run."""
    return f"{case_id}/{arm}"


def _does_not_apply(seen: Observation, judge: Judge, fixed: frozenset[str]) -> str:
    if not seen.answer.strip():
        return "no text was served"
    if Part.PASSAGES in judge.needs:
        if spaced(seen.answer) in fixed:
            return "a fixed wording claims nothing"
        if not seen.packed:
            return "no passage was in the prompt"
    return ""


def _shown(case: Case, seen: Observation, judge: Judge) -> dict[str, Any]:
    passages = [f"{item.passage.title}\n{item.passage.text}".strip() for item in seen.packed]
    parts: Mapping[Part, Any] = {
        Part.QUESTION: case.text,
        Part.HISTORY: [{"role": role, "text": text} for role, text in case.history],
        Part.PASSAGES: passages,
        Part.ANSWER: seen.answer,
    }
    return {part.value: parts[part] for part in judge.needs}
