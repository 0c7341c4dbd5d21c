"""The passages of a prompt, taken apart once for all the sentences that are checked against them.

What is kept depends on the texts alone, and can only be had by who has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from serving.binding import ValuePlaces, value_places
from serving.code_lists import CodeLists, CodeUnit, code_units
from serving.negation import Polarity, polarities
from serving.prompting import Passage
from serving.sentences import Span, content_stems, sentences, stem, words
from serving.values import KnownValues, known_values

_JOINT = re.compile(r"[-.,:/'\u2019]")
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class WordPlaces:
    """Where a stem stands: numbers of units, and of passages for titles."""

    units: tuple[int, ...] = ()
    titles: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """Passages as their sentences, lines, words and values. Units are numbered through all of them."""

    passages: tuple[Passage, ...]
    #: Offsets in the passage's own text.
    units: tuple[Span, ...]
    #: The units of each passage: first, and first of the next.
    bounds: tuple[tuple[int, int], ...]
    stems: Mapping[str, WordPlaces]
    #: What each unit denies and what not, and which of them deny anything.
    polarities: tuple[Polarity, ...]
    denying: tuple[int, ...]
    #: Every word and part of a word, for names.
    words: frozenset[str]
    #: The units that do not ask as `as_written` gives them: who repeats one word for word says its contrary
    #: by no reading.
    written: frozenset[str]
    values: KnownValues
    places: ValuePlaces
    code_lists: CodeLists


def as_written(unit: str) -> str:
    """A unit or sentence, whatever its case, spaces and last mark."""
    return " ".join(unit.split()).rstrip(".!?;: ").lower()


def read(passages: Sequence[Passage]) -> Reading:
    """Take the passages apart. Kept, because an answer has several sentences and a draft several checks."""
    return _read(tuple(passages))


# As many as prompts are in flight: one is read again for each sentence of its answer, and hardly ever later.
@lru_cache(maxsize=64)
def _read(passages: tuple[Passage, ...]) -> Reading:
    pages = [_page(passage.title, passage.effective_from, passage.text) for passage in passages]
    found: dict[str, tuple[list[int], list[int]]] = {}

    def lists(word: str) -> tuple[list[int], list[int]]:
        return found.setdefault(word, ([], []))

    bounds: list[tuple[int, int]] = []
    first = 0
    for number, page in enumerate(pages):
        for place, stems in enumerate(page.stems, first):
            for word in stems:
                lists(word)[0].append(place)
        for word in page.title:
            lists(word)[1].append(number)
        bounds.append((first, first + len(page.units)))
        first += len(page.units)
    said = tuple(one for page in pages for one in page.polarities)
    return Reading(
        passages=passages,
        units=tuple(unit for page in pages for unit in page.units),
        bounds=tuple(bounds),
        stems={word: WordPlaces(*map(tuple, places)) for word, places in found.items()},
        polarities=said,
        denying=tuple(place for place, one in enumerate(said) if one.denies),
        words=_NONE.union(*(page.words for page in pages)),
        written=_NONE.union(*(page.written for page in pages)),
        values=KnownValues(
            frozenset[tuple[str, str]]().union(*(page.values.keys for page in pages)),
            _NONE.union(*(page.values.numbers for page in pages)),
            _NONE.union(*(page.values.code_families for page in pages)),
        ),
        places=ValuePlaces.of(place for page in pages for place in page.places.places),
        code_lists=CodeLists.of(page.codes for page in pages),
    )


@dataclass(frozen=True, slots=True)
class Page:
    """One text by itself."""

    units: tuple[Span, ...]
    stems: tuple[frozenset[str], ...]
    polarities: tuple[Polarity, ...]
    title: frozenset[str]
    words: frozenset[str]
    written: frozenset[str]
    values: KnownValues
    places: ValuePlaces
    codes: tuple[CodeUnit, ...]


# Few, so that what customers write is not held for long.
@lru_cache(maxsize=64)
def read_question(question: str) -> Page:
    """What the customer wrote."""
    return _take_apart("", "", question)


# Pages come up in many prompts.
@lru_cache(maxsize=256)
def _page(title: str, effective_from: str, text: str) -> Page:
    return _take_apart(title, effective_from, text)


def _take_apart(title: str, effective_from: str, text: str) -> Page:
    whole = f"{title}\n{effective_from}\n{text}"
    units = tuple(sentences(text))
    written = [text[unit.start : unit.end] for unit in units]
    stems = tuple(frozenset(content_stems(unit)) for unit in written)
    return Page(
        units=units,
        stems=stems,
        polarities=polarities(written),
        title=frozenset(content_stems(title)),
        words=frozenset(stem(part) for part in parts(whole)),
        written=frozenset(as_written(unit) for unit in written if not unit.endswith("?")),
        values=known_values([whole]),
        places=ValuePlaces.of(value_places(text, title=title)),
        codes=code_units(written, stems),
    )


def parts(text: str) -> Iterator[str]:
    """Words, and the parts of those with inner marks."""
    for word in words(text):
        yield word
        if not word.isalnum():
            yield from _JOINT.split(word)
