"""From hits to the messages of a prompt: numbered passages or sentences inside the version's token budget."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

from gateway.citations import Source
from gateway.highlighting import Highlighter
from gateway.turn import PinnedContext, Question
from retrieval.errors import RetrievalError
from retrieval.hits import Hit
from serving.errors import PromptBudgetError
from serving.prompting import Message, Passage, fit, render
from serving.versions import RegisteredVersion

#: In `degraded` where a prompt that shows sentences got windows of the hits.
DEGRADED: Final = "highlight"
#: Longest wait for the sentences: new ones cost some milliseconds each, known ones nothing.
HIGHLIGHT_TIMEOUT_S: Final = 3.0
#: Texts whose count of tokens is kept.
_REMEMBERED_COUNTS: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a draft may use: the packed passages, where they come from, and the prompt that shows them."""

    candidates: Mapping[int, Source]
    #: The packed ones: passages as they were trimmed.
    sources: Mapping[int, Source]
    passages: tuple[Passage, ...]
    messages: tuple[Message, ...]
    tokens: int
    #: What did not work: `highlight`, windows of the hits stand where the prompt shows sentences.
    degraded: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """The packed passages as the turn records them."""
        return [
            {
                "n": source.passage.n,
                "title": source.passage.title,
                "text": source.passage.text,
                "start": source.passage.start,
                "end": source.passage.end,
                "effective_from": source.passage.effective_from,
                "heading": source.passage.heading,
                "weak": source.passage.weak,
                "document_id": source.document_id,
            }
            for source in self.sources.values()
        ]


class Assembler:
    """Packs prompts. Without a highlighter every prompt shows passages."""

    def __init__(
        self,
        *,
        count_tokens: Callable[[str], int],
        history_messages: int,
        highlighter: Highlighter | None = None,
    ) -> None:
        self._count_tokens = count_tokens
        # The system message of a version and the windows of the articles come again and again.
        self._count_known = lru_cache(maxsize=_REMEMBERED_COUNTS)(count_tokens)
        self._history_messages = history_messages
        self._highlighter = highlighter

    async def assemble(
        self,
        question: Question,
        version: RegisteredVersion,
        hits: Sequence[Hit],
        *,
        searched: str | None = None,
        timeout_s: float = HIGHLIGHT_TIMEOUT_S,
    ) -> Context:
        """Pack what fits; when it is too much, the oldest messages of the history go first.

        `searched`: what stood in for the question in the search, if anything did. `timeout_s`: what the turn
        has left for finding its sentences.
        """
        given = question.pin.context if question.pin else None
        found = sources_of(hits) if given is None else _given(given)
        template = question.prompt_of(version)
        degraded: tuple[str, ...] = ()
        if template.shows == "sentences":
            sentences = await self._sentences(searched or question.text, found, timeout_s)
            if sentences is None:
                degraded = (DEGRADED,)
            else:
                found = sentences
        candidates = {source.passage.n: source for source in found}
        wanted = [source.passage for source in found]
        history = question.history[max(0, len(question.history) - self._history_messages) :]
        while True:
            try:
                passages = fit(
                    template,
                    wanted,
                    question.text,
                    prompt_budget_tokens=version.version.prompt_budget_tokens,
                    count_tokens=self._count_known,
                    history=history,
                )
            except PromptBudgetError:
                if not history:
                    raise
                passages = ()
            if not history or (passages or not wanted):
                break
            history = history[1:]
        system, *said = messages = render(template, passages, question.text, history)
        return Context(
            candidates=candidates,
            sources={p.n: replace(candidates[p.n], passage=p) for p in passages},
            passages=passages,
            messages=messages,
            tokens=self._count_known(system.content)
            + sum(self._count_tokens(message.content) for message in said),
            degraded=degraded,
        )

    async def _sentences(
        self, question: str, found: Sequence[Source], timeout_s: float
    ) -> list[Source] | None:
        """Those of the sources that come closest; None where nobody can say."""
        if self._highlighter is None:
            return None
        try:
            async with asyncio.timeout(min(timeout_s, HIGHLIGHT_TIMEOUT_S)):
                return await self._highlighter.highlight(question, found) or list(found)
        except (RetrievalError, TimeoutError):
            return None


def sources_of(hits: Sequence[Hit]) -> list[Source]:
    """Hits as candidates, numbered by rank."""
    days = [hit.effective_from.isoformat() if hit.effective_from else "" for hit in hits]
    return [
        Source(passage=_passage(n, hit, start=hit.start, day=day), hit=hit)
        for n, (hit, day) in enumerate(zip(hits, days, strict=True), 1)
    ]


def _given(context: Sequence[PinnedContext]) -> list[Source]:
    """Passages that the caller gave as candidates."""
    return [
        Source(passage=_passage(n, given, start=0, day=given.effective_from), hit=None, given=n)
        for n, given in enumerate(context, 1)
    ]


def _passage(n: int, of: Hit | PinnedContext, *, start: int, day: str) -> Passage:
    """All of a text as a passage; its offsets are those of its document."""
    return Passage(
        n=n, title=of.title, text=of.text, start=start, end=start + len(of.text), effective_from=day
    )
