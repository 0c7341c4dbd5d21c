"""The sentences of the hits that come closest to the question, for prompts that show sentences.

A small model copies well and searches badly: it finds the right one of some six sentences where it loses it
in three passages (docs/experiments.md), and the prompt is shorter. Each sentence is a span of its document
like any passage, so citations and their checks are the same.
"""

from __future__ import annotations

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
_WEAK: Final = " (weak match)"
_FEWEST_STEMS: Final = 2
_LONGEST_HEADING_WORDS: Final = 10
_LIST_MARK: Final = re.compile(r"(?:[-*\u2022]|\d{1,3}[.)])\s+")
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

    async def highlight(self, question: str, sources: Sequence[Source]) -> list[Source]:
        """The closest sentences as sources, numbered from 1: those of one heading together, closest first.

        RetrievalError if the embedder cannot be asked.
        """
        return arrange((await self.rank(question, sources))[:MAX_SENTENCES])

    async def rank(self, question: str, sources: Sequence[Source]) -> list[Source]:
        """All sentences of the sources, the closest first; the title says of one that it is a weak match."""
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
        if missing:
            known.update(zip(missing, await unit_vectors(self._embedder, missing), strict=True))
        vectors = np.stack([known[text] for text in texts])
        for text, vector in known.items():
            self._vectors[text] = vector
            self._vectors.move_to_end(text)
        while len(self._vectors) > self._remembered:
            self._vectors.popitem(last=False)
        return vectors


def open_highlighter(embedders: Iterable[Embedder]) -> Highlighter:
    """With the model of this machine if there is one: a question has a hundred sentences, too many for a
    service that is paid by the text. What is close by another model nobody knows, so nothing is weak."""
    at_hand = list(embedders)
    local = next((each for each in at_hand if isinstance(each, OnnxEmbedder)), None)
    return Highlighter(local) if local else Highlighter(at_hand[0], weak_below=-1.0)


def arrange(sources: Sequence[Source]) -> list[Source]:
    """Those that stand under one title together, in the order of the first of each, numbered from 1."""
    titles = [(source.passage.title, source.passage.effective_from) for source in sources]
    order = sorted(range(len(sources)), key=lambda n: titles.index(titles[n]))
    return [
        replace(sources[n], passage=replace(sources[n].passage, n=number))
        for number, n in enumerate(order, 1)
    ]


def _all_sentences(sources: Sequence[Source]) -> Iterator[_Sentence]:
    """Each sentence once; headings, questions and what announces a list are said with what is under them."""
    seen: set[str] = set()
    for source in sources:
        text, heading = source.passage.text, ""
        for span in sentences(text):
            if _is_heading(text, span):
                heading = text[span.start : span.end].rstrip(":")
                continue
            mark = _LIST_MARK.match(text, span.start, span.end)
            said = Span(mark.end() if mark else span.start, span.end)
            key = " ".join(text[said.start : said.end].lower().split())
            if key in seen or len(content_stems(key)) < _FEWEST_STEMS:
                continue
            seen.add(key)
            yield _Sentence(source=source, span=said, text=text[said.start : said.end], heading=heading)


def _is_heading(text: str, span: Span) -> bool:
    said = text[span.start : span.end]
    if said.endswith((":", "?")) and text[span.end : span.end + 1] in ("\n", ""):
        return not _TABLE_ROW.search(said)
    if said.endswith(_END_MARKS) or _LIST_MARK.match(said) or _TABLE_ROW.search(said):
        return False
    if len(words(said)) > _LONGEST_HEADING_WORDS:
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
    return source.hit.score / best if source.hit and best > 0 else 1.0


def _as_source(found: _Sentence, *, weak: bool) -> Source:
    passage, heading = found.source.passage, found.heading
    known = not heading or heading.lower() in passage.title.lower()
    title = passage.title if known else f"{passage.title}: {heading}"
    return replace(
        found.source,
        passage=replace(
            passage,
            title=f"{title}{_WEAK}" if weak else title,
            text=found.text,
            start=passage.start + found.span.start,
            end=passage.start + found.span.end,
        ),
    )
