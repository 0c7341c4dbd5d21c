"""The answer that a review asks for, and what in the passages supports it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from eval.exporting.reviewed_turns import ReviewedTurn
from eval.labelling.labels import PASSED_ON_BY_RULE
from eval.labelling.policy import each_sentence
from eval.observations import Evidence
from eval.scorers import Scoring, draft_answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the turn should have said."""

    text: str
    #: Whether a reader wrote it; else it is what was served, and nothing is wrong with it.
    corrected: bool


def wanted_answer(reviewed: ReviewedTurn, scoring: Scoring) -> Wanted | None:
    """The corrected answer, else the served one if nothing is wrong with it; None: nobody has said. That
    something went wrong, which the deployment says in its own words, is what no model should learn to say,
    nor what a rule said in its place."""
    if reviewed.review.corrected_answer:
        return Wanted(text=reviewed.review.corrected_answer.strip(), corrected=True)
    seen = reviewed.seen
    if seen.handover and _told_rightly(reviewed):
        own = written(reviewed, scoring) if reviewed.accepted else ""
        return Wanted(text=own, corrected=False) if own.strip() else None
    if reviewed.review.label is None and seen.status != "fallback" and seen.answer.strip():
        return Wanted(text=seen.answer, corrected=False)
    return None


def _told_rightly(reviewed: ReviewedTurn) -> bool:
    """Whether nothing is wrong with what the model wrote."""
    return reviewed.review.label is None or reviewed.review.sub == PASSED_ON_BY_RULE


def written(reviewed: ReviewedTurn, scoring: Scoring) -> str:
    """What the model wrote: the served answer, or the draft that was kept back or that a rule passed on."""
    seen = reviewed.seen
    if reviewed.accepted:
        passing_on = scoring.wording.passing_on if scoring.wording else ""
        return (
            draft_answer(reviewed.accepted, scoring.schema)
            or seen.answer.removesuffix(passing_on).strip()  # a question back, which is in another field
            or seen.answer
        )
    if seen.status != "fallback" or seen.draft is None:
        return seen.answer
    return draft_answer(seen.draft.text, scoring.schema) or seen.draft.text


def own_fields(reviewed: ReviewedTurn) -> Mapping[str, Any]:
    """The task's fields beside the text as the model gave them: the served ones, without what a rule set."""
    if not reviewed.seen.handover:
        return reviewed.seen.fields
    try:
        value = orjson.loads(reviewed.accepted)
    except orjson.JSONDecodeError:
        return {}
    return {name: each for name, each in value.items() if name not in ("answer", "citations")}


def supporting(text: str, reviewed: ReviewedTurn, scoring: Scoring) -> tuple[Evidence, ...]:
    """Passages of the prompt that by themselves support a sentence of the text, in the prompt's order."""
    sentences = each_sentence(text)
    return tuple(
        item
        for item in reviewed.seen.packed
        if any(
            not scoring.unsupported(sentence, [item.passage], reviewed.turn.question)
            for sentence in sentences
        )
    )


def unsupported(text: str, reviewed: ReviewedTurn, scoring: Scoring) -> tuple[str, ...]:
    """Sentences of the text that no passage of the prompt supports."""
    passages = [item.passage for item in reviewed.seen.packed]
    return tuple(
        sentence
        for sentence in each_sentence(text)
        if scoring.unsupported(sentence, passages, reviewed.turn.question)
    )
