"""Text as sentences, lines and words, always with exact offsets: what packing, grounding and tone look at."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import accumulate
from operator import or_

_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|approx|Mr|Mrs|Ms|Dr|No|Inc|Ltd|St|a\.m|p\.m)|\b[A-Z])\.$"
)
_BOUNDARY = re.compile(
    r"(?<=[.!?])[\"')\]\u201d\u2019]*\s+(?=[\"'(\[\u201c\u2018]*[A-Z0-9$\u00a3\u20ac])|\n+"
)
_WORD = re.compile(r"[^\W_]+(?:['\u2019][a-z]+)?(?:[-.,:/][^\W_]+)*", re.UNICODE)

_STOPWORDS = (
    "a about after again all also am an and any are as at be because been before being below both but "
    "by can could did do does doing down during each few for from further get got had has have having "
    "he her here hers him his how i if in into is it its itself just let me more most my no nor not now "
    "of off on once only or other our ours out over own please same she should so some such than that "
    "the their theirs them then there these they this those through to too under until up very was way "
    "we were what when where which while who whom why will with would you your yours i'm i've i'd it's "
    "don't doesn't can't isn't won't you're you'll you've there's that's what's may might must shall s "
    "t d ll m o re ve "
)
STOPWORDS = frozenset(_STOPWORDS.split())


#: What a word loses, longest first, and what it gets instead.
_SUFFIXES = (
    ("ations", "at"), ("ation", "at"), ("ments", "ment"), ("ingly", ""), ("ings", ""), ("ing", ""),
    ("edly", ""), ("ies", "y"), ("ied", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"),
    ("ed", ""), ("ers", "er"), ("ly", ""), ("es", "e"), ("s", ""),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a text: `text[start:end]`."""

    start: int
    end: int


def sentences(text: str) -> list[Span]:
    """Sentences and lines of a text, in order, without the white space around them.

    A line break always ends one (headings, list items and table rows stand alone); abbreviations and
    initials do not.
    """
    spans: list[Span] = []
    start = 0
    for boundary in _BOUNDARY.finditer(text):
        if "\n" not in boundary.group() and _ABBREVIATION.search(text, start, boundary.start()):
            continue
        _append_stripped(spans, text, start, boundary.start())
        # Closing quotes belong to the sentence before, white space to none.
        start = boundary.end()
        if spans and boundary.group().strip():
            closing = boundary.start() + len(boundary.group().rstrip())
            spans[-1] = Span(spans[-1].start, closing)
    _append_stripped(spans, text, start, len(text))
    return spans


def words(text: str) -> list[str]:
    """Words in lower case; numbers, codes (`S-101`), prices and dates with inner marks stay whole."""
    return [word.lower() for word in _WORD.findall(text)]


def words_as_written(text: str) -> list[str]:
    """The same words with their capitals."""
    return _WORD.findall(text)


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """A light English stem: enough that `refunded`, `refunds` and `refund` are one word."""
    word = word.replace("\u2019", "'").removesuffix("'s")
    if len(word) < 4 or not word.isalpha():
        return word
    for suffix, kept in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3 and not word.endswith("ss"):
            word = word[: len(word) - len(suffix)] + kept
            break
    if len(word) > 4 and word[-1] == word[-2] and word[-1] not in "aeiouls":
        word = word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


def content_stems(text: str) -> list[str]:
    """Stems of the words that carry meaning, in order, with repeats."""
    return [stem(word) for word in words(text) if word not in STOPWORDS]


def best_window(text: str, question: str, *, max_words: int) -> tuple[int, int]:
    """Offsets of the run of whole sentences of at most `max_words` words that shares most with the question.

    A word of the question counts more when few sentences hold it. Of equal windows the earliest and fullest
    wins, so a text that fits is returned whole. A table row is taken with its header when both fit. A first
    sentence that is too long by itself is returned alone, cut after `max_words` words.
    """
    taken = _taken_apart(text)
    units, lengths = taken.units, taken.lengths
    if not units:
        return (0, 0)
    if sum(lengths) <= max_words:
        return (units[0].start, units[-1].end)
    asked = {word: 1.0 / taken.found[word] for word in _asked_for(question) if word in taken.found}
    # The asked words of each unit as bits, so that a window is one `or` a unit.
    shared = [sum(1 << n for n, word in enumerate(asked) if word in stems) for stems in taken.stems]
    ends = list(accumulate(lengths))

    best: tuple[float, int, int, int] | None = None
    for first in range(len(units)):
        before = ends[first] - lengths[first]
        last = bisect_right(ends, before + max_words) - 1
        if last < first:
            continue
        seen = reduce(or_, shared[first : last + 1])
        score = sum(weight for n, weight in enumerate(asked.values()) if seen >> n & 1)
        key = (score, ends[last] - before, -first, last)
        if best is None or key > best:
            best = key
    if best is None:
        return _cut(text, units[0], max_words)
    first, last = -best[2], best[3]
    first = _with_table_header(text, units, lengths, first, last, max_words)
    return (units[first].start, units[last].end)


@lru_cache(maxsize=256)
def _asked_for(question: str) -> frozenset[str]:
    """Kept, because a question is held against every candidate, with every size of window."""
    return frozenset(content_stems(question))


@dataclass(frozen=True, slots=True)
class _TakenApart:
    """A text as windows are chosen from it."""

    units: tuple[Span, ...]
    #: Words of each unit, and the stems among them that carry meaning.
    lengths: tuple[int, ...]
    stems: tuple[frozenset[str], ...]
    #: In how many units a stem stands.
    found: Mapping[str, int]


@lru_cache(maxsize=1024)
def _taken_apart(text: str) -> _TakenApart:
    """Kept, because the same chunks are found for question after question."""
    units = tuple(sentences(text))
    stems = tuple(frozenset(content_stems(text[unit.start : unit.end])) for unit in units)
    return _TakenApart(
        units=units,
        lengths=tuple(len(_WORD.findall(text, unit.start, unit.end)) for unit in units),
        stems=stems,
        found=Counter(word for unit in stems for word in unit),
    )


def _append_stripped(spans: list[Span], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    right = len(piece.rstrip())
    if right > left:
        spans.append(Span(start + left, start + right))


def _with_table_header(
    text: str, units: Sequence[Span], lengths: Sequence[int], first: int, last: int, max_words: int
) -> int:
    """The unit to begin with so that a window that begins inside a table shows the table's header row too."""
    header = first
    while header > 0 and all("|" in text[units[n].start : units[n].end] for n in (header, header - 1)):
        header -= 1
    return header if sum(lengths[header : last + 1]) <= max_words * 3 // 2 else first


def _cut(text: str, unit: Span, max_words: int) -> tuple[int, int]:
    for n, match in enumerate(_WORD.finditer(text, unit.start, unit.end), 1):
        if n == max_words:
            return (unit.start, match.end())
    return (unit.start, unit.end)
