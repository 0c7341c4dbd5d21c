"""Follow-ups made into questions of their own: "and for a year?" alone finds nothing.

A rewriter is passed in and named by the index version. One that fails or takes too long costs nothing but the
rewrite: the question is searched as it was asked.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from retrieval import instruments as telemetry
from retrieval.documents import is_storable
from retrieval.errors import RetrievalError
from retrieval.hits import Said, SearchRequest
from retrieval.versions import KnowledgeVersion

logger = logging.getLogger(__name__)

DEGRADED: Final = "rewrite"
#: Share of the time left that a rewrite may take: the search itself needs the rest.
_SHARE: Final = 0.5

#: Words that are taken of the last message of each side.
_TAKEN: Final = 8
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Restated:
    """What is searched. `rewritten` is None where that is the question as it was asked."""

    question: str
    rewritten: str | None = None
    #: None where no rewriter was asked.
    seconds: float | None = None
    degraded: tuple[str, ...] = ()


class RewriteStage:
    """Asks the rewriter that a version names; without an answer in time the question stands, marked."""

    def __init__(self, rewriters: Mapping[str, Rewriter], *, timeout_s: float) -> None:
        self._rewriters = dict(rewriters)
        self._timeout_s = timeout_s
        self._missed: set[str] = set()

    async def restate(
        self, version: KnowledgeVersion, request: SearchRequest, *, deadline: float, labels: Mapping[str, str]
    ) -> Restated:
        """What to search for. `deadline` is of `time.monotonic`."""
        asked = Restated(question=request.question)
        if not version.rewriter or not request.history:
            return asked
        rewriter = self._rewriters.get(version.rewriter)
        left_s = min(self._timeout_s, (deadline - time.monotonic()) * _SHARE)
        if rewriter is None or left_s <= 0:
            if rewriter is None:
                self._warn(version)
            return Restated(question=request.question, degraded=(DEGRADED,))
        with telemetry.measured(
            f"rewrite {rewriter.id}",
            telemetry.operation_duration,
            labels={telemetry.OPERATION: "rewrite", telemetry.REQUEST_MODEL: rewriter.id, **labels},
            stage="rewrite",
        ) as stage:
            try:
                async with asyncio.timeout(left_s):
                    text = await rewriter.rewrite(request.question, request.history, timeout_s=left_s)
            except (TimeoutError, RetrievalError) as exc:
                # The question is there to be searched, so this is no error, but the span should say why.
                stage.note({telemetry.ERROR_TYPE: type(exc).__name__})
                text = ""
        if not text.strip() or not is_storable(text):
            return Restated(question=request.question, seconds=stage.seconds, degraded=(DEGRADED,))
        rewritten = None if text == request.question else text
        return Restated(question=text, rewritten=rewritten, seconds=stage.seconds)

    def _warn(self, version: KnowledgeVersion) -> None:
        if version.id not in self._missed:
            self._missed.add(version.id)
            logger.warning(
                "index version %s names rewriter %s, not at hand (%s): follow-ups are searched as asked",
                version.id,
                version.rewriter,
                ", ".join(self._rewriters) or "none is",
                extra={"action": "rewrite"},
            )


class LastTurns:
    """Puts what the last message of each side was about behind the question. No model is asked."""

    id: Final = "last-turns-1"

    async def rewrite(self, question: str, history: Sequence[Said], *, timeout_s: float) -> str:
        """The question with words of the last turn behind it."""
        return with_last_turn(question, history)


def with_last_turn(question: str, history: Sequence[Said]) -> str:
    """The question and the words with content of the last message of each side.

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
    return " ".join([question.strip(), *dict.fromkeys(taken)])


def _content(text: str) -> list[str]:
    """The words of a text that are no fillers, as they are written."""
    return [word for word in _WORD.findall(text) if word.casefold() not in _FILLERS]
