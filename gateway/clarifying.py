"""A question back instead of an abstention: which of these articles is it about?

Asked where retrieval is nearly sure enough and several articles come close, so that the customer's choice
settles it. The words are fixed and the choices are titles of documents: no model writes, nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.turn import Question
from retrieval.hits import SearchResult
from serving.wording import Wording

#: Share of the threshold from which asking back is worth the customer's time.
NEARLY: Final = 0.5
#: Share of the best hit's score from which another article is a choice.
CLOSE: Final = 0.6
MOST_CHOICES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """An article that the question may be about."""

    document_id: str
    title: str
    url: str

    def row(self) -> dict[str, str]:
        """As the answer's fields have it."""
        return {"document_id": self.document_id, "title": self.title, "url": self.url}


def choices_for(question: Question, result: SearchResult, wording: Wording) -> tuple[Choice, ...]:
    """Two or three articles to choose from; empty where asking back would not help.

    Never twice in a row in a conversation whose history is sent: whoever was asked and is still not
    understood gets a person. Nothing that was said is looked up by the conversation's id.
    """
    if not result.abstain_below * NEARLY <= result.confidence < result.abstain_below:
        return ()
    if question.history and question.history[-1].content.startswith(wording.clarify):
        return ()
    # The first hit need not have the best score: a reranker orders by more.
    best_score = max((hit.score for hit in result.hits), default=0.0)
    best: dict[str, Choice] = {}
    for hit in result.hits:
        if hit.score >= best_score * CLOSE:
            best.setdefault(
                hit.title.casefold(), Choice(document_id=hit.document_id, title=hit.title, url=hit.url)
            )
    choices = tuple(best.values())[:MOST_CHOICES]
    return choices if len(choices) > 1 else ()


def clarifying_text(choices: Sequence[Choice], wording: Wording) -> str:
    """What the customer reads."""
    return "\n".join([wording.clarify, *(f"- {choice.title}" for choice in choices)])
