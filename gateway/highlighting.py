"""The sentences of the hits that come closest to the question, for prompts that show sentences.

A small model copies well and searches badly: it reads three sentences where it loses its way in three
passages (docs/experiments.md), and the prompt is shorter. Each sentence is a span of its document like any
passage, so citations and their checks are the same.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from gateway.citations import Source
from retrieval.embedding import Embedder, OnnxEmbedder, Vector, unit_vectors
from serving.prompting import MAX_SENTENCES
from serving.sentences import Span, content_stems, sentences, words

#: Sentences whose vectors are kept, some 1.5 KB each: the same articles are found again and again.
REMEMBERED: Final = 20_000
#: Beside the cosine of question and sentence: the question's words that the sentence has, and how well its
#: hit was found. Measured on the demo's train questions; anything near does as well.
_WORDS_WEIGHT: Final = 0.25
_HIT_WEIGHT: Final = 0.5
#: Closeness under which a sentence is said to be a weak match: of the demo's train questions, 19 % of those
#: that the first sentences answer have none above it, and 62 % of those that nothing answers. MiniLM's scale.
WEAK_BELOW: Final = 0.55
#: Texts for which the embedder is asked at once.
_AT_ONCE: Final = 32
_FEWEST_STEMS: Final = 2
_LONGEST_HEADING_WORDS: Final = 16
_LIST_MARK: Final = re.compile(r"(?:[-*\u2022]|\d{1,3}[.)])\s+")
#: The number of a step, which is cut off as a sentence of its own.
_NUMBER: Final = re.compile(r"\d{1,3}[.)]")
#: As chunks write the row of a table: `Plus \u2014 Price: $9`.
_TABLE_ROW: Final = re.compile(r" \u2014 |: ")
_END_MARKS: Final = (".", "!", "?", ";", "|")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sentence:
    source: Source
    span: Span
    text: str
    heading: str


class Highlighter:
    """Finds them. Keeps vectors of sentences, nothing of the questions."""

    def __init__(
        self, embedder: Embedder, *, weak_below: float = WEAK_BELOW, remembered: int = REMEMBERED
    ) -> None:
        self._embedder = embedder
        self._weak_below = weak_below
        self._remembered = remembered
        self._vectors: OrderedDict[str, Vector] = OrderedDict()
        self._embedding = asyncio.Lock()

    async def highlight(self, question: str, sources: Sequence[Source]) -> list[Source]:
        """The closest sentences as sources, numbered from 1: those of one heading together, closest first.

        RetrievalError if the embedder cannot be asked.
        """
        return arrange((await self.rank(question, sources))[:MAX_SENTENCES])

    async def rank(self, question: str, sources: Sequence[Source]) -> list[Source]:
        """All sentences of the sources, the closest first; what is far from the question is marked weak."""
        found = list(_all_sentences(sources))
        if not found:
            return []
        asked = await self._embedder.embed_query(question)
        cosines = await self._embed([each.text for each in found]) @ asked
        best_hit = max((source.hit.score for source in sources if source.hit), default=0.0)
        near = [
            float(cosine) + _WORDS_WEIGHT * shared
            for cosine, shared in zip(cosines, _shared_words(question, found), strict=True)
        ]
        scores = [
            closeness + _HIT_WEIGHT * _score(each.source, best_hit)
            for each, closeness in zip(found, near, strict=True)
        ]
        return [
            _as_source(found[n], weak=near[n] < self._weak_below)
            for n in sorted(range(len(found)), key=lambda n: -scores[n])
        ]

    async def _embed(self, texts: Sequence[str]) -> Vector:
        # Held here: another question may push them out of the memory while this one waits.
        known = {text: self._vectors[text] for text in texts if text in self._vectors}
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        for start in range(0, len(missing), _AT_ONCE):
            part = missing[start : start + _AT_ONCE]
            # One at a time: who asks about the same hits waits for the same sentences and then has them.
            async with self._embedding:
                known.update((text, self._vectors[text]) for text in part if text in self._vectors)
                if new := [text for text in part if text not in known]:
                    vectors = await unit_vectors(self._embedder, new)
                    known.update(zip(new, vectors, strict=True))
                    # Kept at once, so that a question that runs out of time leaves less for the next.
                    self._keep(new, vectors)
        for text in texts:
            if text in self._vectors:
                self._vectors.move_to_end(text)
        return np.stack([known[text] for text in texts])

    def _keep(self, texts: Sequence[str], vectors: Vector) -> None:
        for text, vector in zip(texts, vectors, strict=True):
            self._vectors[text] = vector.copy()  # not a view, which would keep its whole batch
        while len(self._vectors) > self._remembered:
            self._vectors.popitem(last=False)


def open_highlighter(embedders: Iterable[Embedder]) -> Highlighter:
    """With the model of this machine if there is one: a question has a hundred sentences, too many for a
    service that is paid by the text. What is close by another model nobody knows, so nothing is weak."""
    at_hand = list(embedders)
    local = next((each for each in at_hand if isinstance(each, OnnxEmbedder)), None)
    return Highlighter(local) if local else Highlighter(at_hand[0], weak_below=-1.0)


def arrange(sources: Sequence[Source]) -> list[Source]:
    """Those that stand under one title line together, in the order of the first of each, numbered from 1."""
    titles = [
        (each.passage.title, each.passage.heading, each.passage.weak, each.passage.effective_from)
        for each in sources
    ]
    order = sorted(range(len(sources)), key=lambda n: titles.index(titles[n]))
    return [
        replace(sources[n], passage=replace(sources[n].passage, n=number))
        for number, n in enumerate(order, 1)
    ]


def _all_sentences(sources: Sequence[Source]) -> Iterator[_Sentence]:
    """Each sentence of each article once, under what stands above it."""
    seen: set[tuple[str, ...]] = set()
    for source in sources:
        title, day = source.passage.title, source.passage.effective_from
        for each in _sentences_of(source):
            key = (title, day, each.heading, " ".join(each.text.lower().split()))
            if key not in seen and len(set(content_stems(f"{each.heading} {each.text}"))) >= _FEWEST_STEMS:
                seen.add(key)
                yield each


def _sentences_of(source: Source) -> Iterator[_Sentence]:
    """Sentences with their headings. A heading with nothing under it is a sentence itself."""
    text = source.passage.text
    section = heading = ""
    alone: Span | None = None
    for span in sentences(text):
        said = text[span.start : span.end]
        mark = _LIST_MARK.match(text, span.start, span.end)
        if _NUMBER.fullmatch(said):
            continue
        if _is_heading(text, span):
            if alone is not None:
                yield _Sentence(source=source, span=alone, text=text[alone.start : alone.end], heading="")
            alone, heading = span, said.rstrip(":")
            section = section if said.endswith(":") else heading
            continue
        begins_paragraph = text[: span.start].rstrip(" ").endswith("\n\n")
        if alone is None and begins_paragraph and not mark and not _TABLE_ROW.search(said):
            heading = section  # what announced a list ends with it
        shown = Span(mark.end() if mark else span.start, span.end)
        alone = None
        yield _Sentence(source=source, span=shown, text=text[shown.start : shown.end], heading=heading)
    if alone is not None:
        yield _Sentence(source=source, span=alone, text=text[alone.start : alone.end], heading="")


def _is_heading(text: str, span: Span) -> bool:
    said = text[span.start : span.end]
    if _TABLE_ROW.search(said) or len(words(said)) > _LONGEST_HEADING_WORDS:
        return False
    if said.endswith((":", "?")):
        return text[span.end : span.end + 1] in ("\n", "")
    if said.endswith(_END_MARKS) or _LIST_MARK.match(said):
        return False
    before, after = text[: span.start].rstrip(" "), text[span.end :].lstrip(" ")
    return (not before or before.endswith("\n\n")) and (not after or after.startswith("\n\n"))


def _shared_words(question: str, found: Sequence[_Sentence]) -> list[float]:
    """Share of the question's words, rare ones counting more, that a sentence or its title has."""
    stems = [set(content_stems(f"{each.source.passage.title} {each.text}")) for each in found]
    often = Counter(stem for each in stems for stem in each)
    asked = dict.fromkeys(content_stems(question))
    weights = {stem: math.log(1 + len(found) / max(1, often[stem])) for stem in asked}
    total = sum(weights.values()) or 1.0
    return [sum(weight for stem, weight in weights.items() if stem in each) / total for each in stems]


def _score(source: Source, best: float) -> float:
    """How well its hit was found, 1.0 for the first; the order of a reranker counts by ranks."""
    if source.hit is None or best <= 0:
        return 1.0
    return source.hit.score / best if source.hit.rerank_score is None else 1 / source.hit.rank


def _as_source(found: _Sentence, *, weak: bool) -> Source:
    passage, heading = found.source.passage, found.heading
    return replace(
        found.source,
        passage=replace(
            passage,
            text=found.text,
            start=passage.start + found.span.start,
            end=passage.start + found.span.end,
            heading="" if heading.lower() in passage.title.lower() else heading,
            weak=weak,
        ),
    )
