"""From hits to the messages of a prompt: numbered passages inside the version's token budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from gateway.citations import Source
from gateway.turn import Question
from retrieval.hits import Hit
from serving.errors import PromptBudgetError
from serving.prompting import Message, Passage, fit, render
from serving.versions import RegisteredVersion

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

    def rows(self) -> list[dict[str, Any]]:
        """The packed passages as the turn records them; one that the caller gave has no document."""
        return [
            {
                "n": source.passage.n,
                "title": source.passage.title,
                "text": source.passage.text,
                "start": source.passage.start,
                "end": source.passage.end,
                "effective_from": source.passage.effective_from,
                "document_id": source.hit.document_id if source.hit else "",
            }
            for source in self.sources.values()
        ]


class Assembler:
    """Packs prompts."""

    def __init__(self, *, count_tokens: Callable[[str], int], history_messages: int) -> None:
        self._count_tokens = count_tokens
        # The system message of a version and the windows of the articles come again and again.
        self._count_known = lru_cache(maxsize=_REMEMBERED_COUNTS)(count_tokens)
        self._history_messages = history_messages

    def assemble(self, question: Question, version: RegisteredVersion, hits: Sequence[Hit]) -> Context:
        """Pack what fits; when it is too much, the oldest messages of the history go first."""
        candidates = _sources(question, hits)
        wanted = [source.passage for source in candidates.values()]
        template = question.prompt_of(version)
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
            sources={p.n: Source(passage=p, hit=candidates[p.n].hit) for p in passages},
            passages=passages,
            messages=messages,
            tokens=self._count_known(system.content)
            + sum(self._count_tokens(message.content) for message in said),
        )


def _sources(question: Question, hits: Sequence[Hit]) -> dict[int, Source]:
    """Candidates by number: the hits by rank, or the passages that the caller gave."""
    if question.pin and question.pin.context is not None:
        return {
            n: Source(
                passage=Passage(
                    n=n,
                    title=given.title,
                    text=given.text,
                    start=0,
                    end=len(given.text),
                    effective_from=given.effective_from,
                ),
                hit=None,
            )
            for n, given in enumerate(question.pin.context, 1)
        }
    return {
        n: Source(
            passage=Passage(
                n=n,
                title=hit.title,
                text=hit.text,
                start=hit.start,
                end=hit.end,
                effective_from=hit.effective_from.isoformat() if hit.effective_from else "",
            ),
            hit=hit,
        )
        for n, hit in enumerate(hits, 1)
    }
