"""Follow-ups made into questions of their own: "and for a year?" alone finds nothing.

A rewriter is passed in and named by the index version. One that fails or takes too long costs nothing but the
rewrite: the question is searched as it was asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Protocol

from retrieval.hits import Said

#: Words that are taken of the last message of each side.
_TAKEN: Final = 8
#: How often the question itself stands in the search: its own words weigh more than what went before.
_REPEATED: Final = 2
_WORD = re.compile(r"[\w$€£%'.-]*\w")
#: Words of any conversation, which say nothing of its matter.
_FILLER_LIST = (
    "a about also am an and another any anything are as at be been but by can could did do does doesn't"
    " doesnt don't dont else find fine for from get give good great had has have he hello help her here"
    " hey hi him his how i i'd i'll i'm i've id if im in into is it it's its ive just know let like look"
    " looking many may me might more much my need no not of ok okay on one ones or other our out please"
    " she should so some something sound sounds sure t than thank thanks that the their them then there"
    " these they this those time to too up us very want was we well were what when where which who why"
    " will with would yeah yes you your"
)
_FILLERS: Final = frozenset(_FILLER_LIST.split())


class Rewriter(Protocol):
    """Makes a follow-up stand alone."""

    @property
    def id(self) -> str:
        """Name that an index version asks for; another way of rewriting has another one."""
        ...

    async def rewrite(self, question: str, history: Sequence[Said], *, timeout_s: float) -> str:
        """What to search for: the question itself where it stands alone already."""
        ...


class LastTurns:
    """Puts what the last message of each side was about behind the question. No model is asked."""

    id: Final = "last-turns-1"

    async def rewrite(self, question: str, history: Sequence[Said], *, timeout_s: float) -> str:
        """The question with words of the last turn behind it."""
        return with_last_turn(question, history)


def with_last_turn(question: str, history: Sequence[Said]) -> str:
    """The question, twice, and the words with content of the last message of each side.

    Added always, not only to questions that point back with an "it": telling them apart lost more than it won
    (docs/experiments.md).
    """
    own = {word.casefold() for word in _WORD.findall(question)}
    last = [
        next((said.text for said in reversed(history) if said.role == role), "")
        for role in ("user", "assistant")
    ]
    taken = [word for text in last for word in _content(text)[:_TAKEN] if word.casefold() not in own]
    if not taken:
        return question
    return " ".join([*[question.strip()] * _REPEATED, *dict.fromkeys(taken)])


def _content(text: str) -> list[str]:
    """The words of a text that are no fillers, as they are written."""
    return [word for word in _WORD.findall(text) if word.casefold() not in _FILLERS]
