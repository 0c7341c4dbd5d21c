"""When two rows ask the same, and when their answers contradict each other."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any

from serving.examples import Row, free_texts
from serving.prompting import Message
from serving.similarity import Pair, content_words, near_duplicates, stem
from serving.spelling import tokens
from serving.values import find_values

#: Words that turn a question into another one, though its content words are the same.
_ASKS = frozenset(("who", "whom", "whose", "what", "when", "where", "why", "how", "which", "can"))
_DENIES = re.compile(r"\b(?:not|no|never|without|cannot)\b|n['\u2019]t\b", re.IGNORECASE)
#: From which two words count as one with a typo.
_TYPO = 0.8
#: Words beside which another may have a typo: alone it may as well be another word.
_FEWEST_WORDS = 2
#: Letters from which a word with another letter in it is the same word with a typo, the typo's loss included.
_LONG = 4
#: Texts and rows that one is compared with at most, where many are the very same.
_COMPARED = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the rows of a dataset are for."""

    schema: Mapping[str, Any]
    #: Fixed wordings of the deployment; they claim no facts.
    wordings: tuple[str, ...] = ()


def asked(row: Row) -> str:
    """What the customer asks: a follow-up means nothing without what the customer said before it."""
    return told(row.question, row.history)


def told(question: str, history: Sequence[Message]) -> str:
    """A question after the last thing that the customer said before it."""
    before = [said.content for said in history if said.role == "user"]
    return "\n".join((*before[-1:], question))


def plain(text: str) -> str:
    """A text without case, signs and spacing."""
    return " ".join(tokens(text)) or " ".join(text.split()).casefold()


@dataclass(frozen=True, slots=True)
class Texts:
    """Distinct texts of some rows, and which rows have them."""

    texts: tuple[str, ...]
    #: Positions of rows, by text.
    rows: tuple[tuple[int, ...], ...]

    def near(self) -> list[Pair]:
        """Pairs of texts that are nearly the same."""
        return near_texts(self.texts)


def near_texts(texts: Sequence[str]) -> list[Pair]:
    """Pairs that are nearly the same: by their letters, or by their words in any order, but for a typo."""
    pairs = {(pair.first, pair.second): pair for pair in near_duplicates(texts)}
    known: dict[tuple[str, ...], tuple[int, ...]] = {}
    for at, text in enumerate(texts):
        for key in set(_spellings(text)):
            earlier = known.get(key, ())
            for first in earlier:
                pairs.setdefault((first, at), Pair(first, at, 1.0))
            if len(earlier) < _COMPARED:
                known[key] = (*earlier, at)
    return sorted(pairs.values(), key=lambda pair: (-pair.score, pair.first, pair.second))


def texts_of(rows: Sequence[Row]) -> Texts:
    """The rows by what they ask; the spelling of the first row is the text."""
    by_text: defaultdict[str, list[int]] = defaultdict(list)
    for at, row in enumerate(rows):
        by_text[plain(asked(row))].append(at)
    return Texts(
        tuple(asked(rows[ats[0]]) for ats in by_text.values()), tuple(tuple(ats) for ats in by_text.values())
    )


def same_context(texts: Texts, rows: Sequence[Row]) -> Iterator[tuple[int, int, bool]]:
    """Pairs of rows that ask nearly the same of the same passages, and whether they ask the very same."""
    shown = [shown_in(row) for row in rows]
    by_shown: list[dict[frozenset[str], list[int]]] = []
    for ats in texts.rows:
        here: defaultdict[frozenset[str], list[int]] = defaultdict(list)
        for at in ats:
            here[shown[at]].append(at)
        by_shown.append(dict(here))
        for group in here.values():
            yield from (
                (one, other, True) for n, one in enumerate(group) for other in group[n + 1 : n + _COMPARED]
            )
    for pair in texts.near():
        very = same_question(texts.texts[pair.first], texts.texts[pair.second])
        for passages, firsts in by_shown[pair.first].items():
            for other in by_shown[pair.second].get(passages, ()):
                yield from ((first, other, very) for first in firsts)


def shown_in(row: Row) -> frozenset[str]:
    """The passages of a row, in any order."""
    return frozenset(_page(passage.title, passage.text) for passage in row.passages)


@lru_cache(maxsize=1 << 15)
def _page(title: str, text: str) -> str:
    return plain(f"{title}\n{text}")


@lru_cache(maxsize=1 << 15)
def same_question(one: str, other: str) -> bool:
    """Whether two texts ask the same but for typos, order and politeness: the same values, the same kind of
    question, the same denials, the same words."""
    if values_of(one) != values_of(other) or _asks(one) != _asks(other):
        return False
    if len(_DENIES.findall(one)) != len(_DENIES.findall(other)):
        return False
    left, right = list(_stems(one)), list(_stems(other))
    for word in tuple(left):
        if word in right:
            left.remove(word)
            right.remove(word)
    if len(left) != len(right):
        return False
    return all(
        max(SequenceMatcher(None, word, candidate).ratio() for candidate in right) >= _TYPO for word in left
    )


@lru_cache(maxsize=1 << 15)
def values_of(text: str) -> frozenset[tuple[str, str]]:
    """What the values of a text mean."""
    return frozenset(value.key for value in find_values(text))


def _spellings(text: str) -> Iterator[tuple[str, ...]]:
    """What texts share that are the same question: all words in any order, else the words that say what it is
    about; and these with a letter of a long one left out, of which two that differ by one typo share one. A
    short question has too few letters for a typo to be few of them."""
    yield ("all", *sorted(tokens(text)))
    if stems := _stems(text):
        yield ("about", *stems)
    words = sorted(set(content_words(text)))
    if len(words) < _FEWEST_WORDS:
        return
    for at, word in enumerate(words):
        if len(word) >= _LONG:
            others = (*words[:at], *words[at + 1 :])
            yield ("typo", word, *others)
            yield from (("typo", word[:cut] + word[cut + 1 :], *others) for cut in range(len(word)))


@lru_cache(maxsize=1 << 15)
def _stems(text: str) -> tuple[str, ...]:
    return tuple(sorted({stem(word) for word in content_words(text)}))


def _asks(text: str) -> frozenset[str]:
    return _ASKS & frozenset(tokens(text))


def same_wanted(one: Row, other: Row) -> bool:
    """Whether the same JSON is wanted, but for case and spacing of its texts."""
    return _flat(one.wanted) == _flat(other.wanted)


def _flat(wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {name: plain(value) if isinstance(value, str) else value for name, value in wanted.items()}


def contradiction(one: Row, other: Row, task: Task) -> str:
    """The field in which two rows that ask the same want different things, "" for none.

    Other words for the same are no contradiction; other values are, and so is a fixed wording in one of them.
    A citation more is none either.
    """
    texts, others = free_texts(one.wanted, task.schema), free_texts(other.wanted, task.schema)
    for name in one.wanted.keys() | other.wanted.keys():
        if name in texts or name in others or name == "citations":
            continue
        if one.wanted.get(name) != other.wanted.get(name):
            return name
    cited, cited_too = cited_in(one), cited_in(other)
    if not (cited <= cited_too or cited_too <= cited) or bool(cited) != bool(cited_too):
        return "citations"
    for name in sorted(texts.keys() & others.keys()):
        fixed = {text for text in (texts[name], others[name]) if text in task.wordings}
        if len(fixed) == 1 and texts[name] != others[name]:
            return name
        values, values_too = values_of(texts[name]), values_of(others[name])
        if not (values <= values_too or values_too <= values):
            return name
    return ""


def cited_in(row: Row) -> frozenset[str]:
    """The passages that a row cites, by what they say."""
    numbers = row.wanted.get("citations") or ()
    return frozenset(_page(p.title, p.text) for p in row.passages if p.n in numbers)
