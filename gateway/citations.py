"""Citations: what the model named, what its sentences stand on, and the words themselves from the stored
document.

The model only gives numbers. The quote is read from the document at the offsets of the span that supports a
sentence, and compared with what the prompt showed, so no quote can be invented and none can be stale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.drafting import CheckedSentence
from gateway.rails import KnowledgeRail, SentenceCheck
from gateway.schemas.answers import Citation
from retrieval.documents import Access, TextSpan
from retrieval.errors import RetrievalError
from retrieval.hits import Hit
from serving.prompting import Passage


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a passage comes from. `hit` is None for passages that the caller gave, `given` is their place."""

    passage: Passage
    hit: Hit | None
    given: int | None = None

    @property
    def document_id(self) -> str:
        """The document that it is of; `context:2` for the second passage that the caller gave."""
        return self.hit.document_id if self.hit else f"context:{self.given}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A span of a passage that supports a piece of the answer."""

    n: int
    start: int
    end: int
    answer_start: int
    answer_end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cited:
    """A citation with the piece of the answer that it supports."""

    citation: Citation
    answer_start: int
    answer_end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Citations:
    """The citations of an answer and what was wrong with those that are not among them."""

    cited: tuple[Cited, ...]
    flags: tuple[str, ...]
    invalid: int
    #: The store could not be asked; the quotes are those that retrieval had read in this turn.
    unverified: bool = False


def gather_evidence(
    sentences: Sequence[CheckedSentence],
    cited: Sequence[int],
    passages: Sequence[Passage],
    check: SentenceCheck,
    *,
    question: str = "",
) -> tuple[list[Evidence], list[str]]:
    """The span behind each claim, in a passage that the model named if it holds one; flags for the other
    numbers."""
    by_number = {passage.n: passage for passage in passages}
    flags = [
        f"citation {n}: there is no such hit in the prompt"
        for n in dict.fromkeys(cited)
        if n not in by_number
    ]
    named = [by_number[n] for n in dict.fromkeys(cited) if n in by_number]
    found: list[Evidence] = []
    for sentence in sentences:
        if not (sentence.support.is_claim and sentence.support.supported):
            continue
        support = sentence.support
        if named and support.n not in cited:
            elsewhere = check(sentence.text, named, question=question)
            support = elsewhere if elsewhere.supported else support
        if support.n is None or support.start is None or support.end is None:
            continue
        found.append(
            Evidence(
                n=support.n,
                start=support.start,
                end=support.end,
                answer_start=sentence.start,
                answer_end=sentence.end,
            )
        )
    used = {evidence.n for evidence in found}
    flags += [f"citation {passage.n}: supports no sentence" for passage in named if passage.n not in used]
    return found, flags


def whole_passages(passages: Sequence[Passage]) -> list[Evidence]:
    """The passages themselves as evidence: what a turn without a usable answer can still show."""
    return [
        Evidence(n=passage.n, start=passage.start, end=passage.end, answer_start=0, answer_end=0)
        for passage in passages
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    shown: str
    stored: str | None
    #: The store could not be asked.
    unread: bool = False


class CitationDesk:
    """Turns evidence into citations with stored words."""

    def __init__(self, knowledge: KnowledgeRail) -> None:
        self._knowledge = knowledge

    async def cite(
        self,
        evidence: Sequence[Evidence],
        sources: Mapping[int, Source],
        *,
        access: Access,
        snapshot: int | None,
    ) -> Citations:
        """One citation for each distinct span, in the order of the answer."""
        by_span: dict[tuple[int, int, int], Evidence] = {}
        for item in evidence:
            by_span.setdefault((item.n, item.start, item.end), item)
        distinct = list(by_span.values())
        spans = await self._stored(distinct, sources, access)
        cited: list[Cited] = []
        flags: list[str] = []
        for item, span in zip(distinct, spans, strict=True):
            if not span.shown or span.stored != span.shown:
                what = "the document is gone" if span.stored is None else "the stored text differs"
                flags.append(f"citation {item.n}: {what}")
                continue
            cited.append(
                Cited(
                    citation=_citation(sources[item.n], item, span.shown, snapshot),
                    answer_start=item.answer_start,
                    answer_end=item.answer_end,
                )
            )
        return Citations(
            cited=tuple(cited),
            flags=tuple(flags),
            invalid=len(flags),
            unverified=any(span.unread for span in spans),
        )

    async def _stored(
        self, items: Sequence[Evidence], sources: Mapping[int, Source], access: Access
    ) -> list[_Span]:
        """What the prompt showed at the spans, and what the documents have there: one question."""
        shown = [_shown(item, sources[item.n]) for item in items]
        wanted = {
            place: TextSpan(hit.document_id, hit.document_version, item.start, item.end)
            for place, item in enumerate(items)
            if (hit := sources[item.n].hit) is not None
        }
        try:
            texts = await self._knowledge.text_spans(access, list(wanted.values())) if wanted else []
        except RetrievalError:
            return [
                _Span(shown=text, stored=text, unread=place in wanted) for place, text in enumerate(shown)
            ]
        stored = dict(zip(wanted, texts, strict=True))
        return [_Span(shown=text, stored=stored.get(place, text)) for place, text in enumerate(shown)]


def _shown(item: Evidence, source: Source) -> str:
    return source.passage.text[item.start - source.passage.start : item.end - source.passage.start]


def _citation(source: Source, evidence: Evidence, quote: str, snapshot: int | None) -> Citation:
    hit = source.hit
    return Citation(
        n=evidence.n,
        document_id=source.document_id,
        document_version=hit.document_version if hit else None,
        title=hit.title if hit else source.passage.title,
        url=hit.url if hit else "",
        quote=quote,
        start=evidence.start,
        end=evidence.end,
        snapshot=snapshot if hit else None,
    )
