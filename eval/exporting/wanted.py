"""The answer that a review asks for, and what in the passages supports it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from eval.exporting.reviewed_turns import ReviewedTurn
from eval.labelling.policy import each_sentence
from eval.observations import Evidence
from eval.scorers import Scoring, draft_answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the turn should have said."""

    text: str
    #: Whether a reader wrote it; else it is what was served, and nothing is wrong with it.
    corrected: bool


def wanted_answer(reviewed: ReviewedTurn) -> Wanted | None:
    """The corrected answer, else the served one if nothing is wrong with it; None: nobody has said. That
    something went wrong, which the deployment says in its own words, is what no model should learn to say."""
    if reviewed.review.corrected_answer:
        return Wanted(text=reviewed.review.corrected_answer.strip(), corrected=True)
    seen = reviewed.seen
    if reviewed.review.label is None and seen.status != "fallback" and seen.answer.strip():
        return Wanted(text=seen.answer, corrected=False)
    return None


def written(reviewed: ReviewedTurn, scoring: Scoring) -> str:
    """What the model wrote: the served answer, or the draft that was kept back."""
    seen = reviewed.seen
    if seen.status != "fallback" or seen.draft is None:
        return seen.answer
    return draft_answer(seen.draft.text, scoring.schema) or seen.draft.text


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
