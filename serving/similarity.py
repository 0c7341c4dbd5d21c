"""How alike questions are, by their words alone: without a model, so that it is always the same."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse

from serving.spelling import tokens

#: Cosine of letter groups from which two questions count as one asked twice.
NEAR = 0.75
#: Letters in a group.
_LETTERS = 4
#: Rows that are compared at a time: a set of 20,000 would not fit into memory as a whole.
_BLOCK = 500
_COMPARED = 100_000
_ROUNDING = 1e-9
_WORD = re.compile(r"[^\W_][\w'-]*[^\W_]|[$\u20ac\u00a3]\d+")
_PLACEHOLDER = re.compile(r"\[[a-z ]+\]")

#: Words of any question; they say nothing about what it is about.
_COMMON = frozenset(
    (
        *(
            "a",
            "about",
            "after",
            "again",
            "all",
            "also",
            "am",
            "an",
            "and",
            "any",
            "anyone",
            "are",
            "as",
            "at",
        ),
        *("be", "because", "been", "before", "being", "but", "by", "can", "cannot", "can't", "could", "did"),
        *("didn't", "do", "does", "doesn't", "doing", "don't", "else", "even", "ever", "for", "from", "get"),
        *("gets", "getting", "give", "go", "going", "gone", "got", "had", "has", "have", "haven't", "having"),
        *("he", "hello", "help", "her", "here", "hey", "hi", "him", "his", "how", "i", "i'd", "i'll", "i'm"),
        *(
            "i've",
            "if",
            "in",
            "into",
            "is",
            "isn't",
            "it",
            "it's",
            "its",
            "just",
            "know",
            "let",
            "like",
            "long",
        ),
        *("look", "looking", "made", "make", "many", "may", "me", "might", "mine", "more", "most", "much"),
        *("must", "my", "need", "no", "not", "now", "of", "off", "ok", "on", "one", "only", "or", "other"),
        *("our", "out", "over", "please", "put", "really", "said", "same", "say", "says", "see", "she"),
        *("should", "so", "some", "someone", "something", "still", "such", "take", "tell", "than", "thank"),
        *("thanks", "that", "that's", "the", "their", "them", "then", "there", "these", "they", "thing"),
        *(
            "things",
            "think",
            "this",
            "those",
            "to",
            "told",
            "too",
            "try",
            "trying",
            "until",
            "up",
            "us",
            "use",
        ),
        *("using", "very", "want", "was", "way", "we", "we're", "well", "were", "what", "what's", "when"),
        *("where", "which", "while", "who", "why", "will", "with", "won't", "work", "would", "yes", "you"),
        *("you'd", "you're", "your", "yours"),
    )
)
_ENDINGS = ("ations", "ation", "ings", "ing", "ers", "er", "ies", "ied", "ed", "es", "s", "ly", "e", "y")
_SHORTEST_STEM = 4


@dataclass(frozen=True, slots=True)
class Pair:
    """Two questions, by position, and how alike they are."""

    first: int
    second: int
    score: float


def stem(word: str) -> str:
    """The word without its ending, roughly: `cancelled` and `cancelling` are one word."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > _SHORTEST_STEM and word[-1] == word[-2] else word


def content_words(text: str) -> list[str]:
    """The words that say what a question is about, in its own spelling."""
    plain = _PLACEHOLDER.sub(" ", text).casefold().replace("\u2019", "'")
    return [word for word in _WORD.findall(plain) if word not in _COMMON and len(word) > 1]


def word_groups(text: str) -> Counter[str]:
    """Stems, and pairs of them."""
    stems = [stem(word) for word in content_words(text)]
    pairs = (" ".join(pair) for pair in pairwise(stems))
    return Counter((*stems, *pairs))


def letter_groups(text: str) -> Counter[str]:
    """Groups of letters, across word ends: a typo changes few of them."""
    plain = f" {' '.join(tokens(text))} "
    return Counter(plain[at : at + _LETTERS] for at in range(max(len(plain) - _LETTERS + 1, 1)))


def weigh(texts: Sequence[str], split: Callable[[str], Counter[str]]) -> tuple[sparse.csr_matrix, list[str]]:
    """Rows of length 1 (0 for a text without terms), one a text: rare terms count more. And the terms."""
    counts = [split(text) for text in texts]
    spread = Counter(term for row in counts for term in row)
    terms = sorted(spread)
    column = {term: at for at, term in enumerate(terms)}
    rarity = {term: 1 + math.log(len(texts) / n) for term, n in spread.items()}
    values: list[float] = []
    columns: list[int] = []
    starts = [0]
    for row in counts:
        weights = [(1 + math.log(n)) * rarity[term] for term, n in row.items()]
        length = math.sqrt(sum(weight * weight for weight in weights)) or 1.0
        values += [weight / length for weight in weights]
        columns += [column[term] for term in row]
        starts.append(len(values))
    return sparse.csr_matrix((values, columns, starts), shape=(len(texts), len(terms))), terms


def near_duplicates(texts: Sequence[str], *, threshold: float = NEAR) -> list[Pair]:
    """Pairs that are one question in other words, or with a typo; the most alike first."""
    matrix, _ = weigh(texts, letter_groups)
    same = [tokens(text) or (text.strip(),) for text in texts]
    pairs: list[Pair] = []
    for firsts, seconds in _candidates(_rarest(matrix, threshold)):
        scores = np.asarray(matrix[firsts].multiply(matrix[seconds]).sum(axis=1)).ravel()
        pairs += [
            Pair(int(firsts[at]), int(seconds[at]), min(float(scores[at]), 1.0))
            for at in np.flatnonzero(scores >= threshold)
        ]
    found = {(pair.first, pair.second) for pair in pairs}
    first_of: dict[tuple[str, ...], int] = {}
    for at, words in enumerate(same):
        first = first_of.setdefault(words, at)
        if first != at and (first, at) not in found:
            pairs.append(Pair(first, at, 1.0))
    return sorted(pairs, key=lambda pair: (-pair.score, pair.first, pair.second))


def _rarest(matrix: sparse.csr_matrix, threshold: float) -> sparse.csr_matrix:
    """The rarest terms of each row: as many as two rows must share one of to be as alike as the threshold.

    What is left out of a row, its most common terms in one order for all rows, is shorter than the threshold:
    rows that share nothing else cannot reach it. Most pairs of a large set are never looked at so.
    """
    spread = np.bincount(matrix.indices, minlength=matrix.shape[1])
    rank = np.empty(matrix.shape[1], dtype=np.int64)
    rank[np.argsort(-spread, kind="stable")] = np.arange(matrix.shape[1])
    kept: list[np.ndarray] = []
    for row in range(matrix.shape[0]):
        inside = slice(matrix.indptr[row], matrix.indptr[row + 1])
        columns, weights = matrix.indices[inside], matrix.data[inside]
        order = np.argsort(rank[columns])
        length = np.sqrt(np.cumsum(weights[order] ** 2))
        kept.append(columns[order[np.searchsorted(length, threshold - _ROUNDING) :]])
    starts = np.cumsum([0, *(len(columns) for columns in kept)])
    columns = np.concatenate(kept) if kept else np.empty(0, dtype=np.int64)
    return sparse.csr_matrix((np.ones(len(columns), dtype=np.float32), columns, starts), shape=matrix.shape)


def _candidates(rarest: sparse.csr_matrix) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of rows that share a term, the earlier row first, some at a time."""
    others = rarest.T.tocsr()
    for start in range(0, rarest.shape[0], _BLOCK):
        found = (rarest[start : start + _BLOCK] @ others).tocoo()
        later = found.col > found.row + start
        firsts, seconds = found.row[later] + start, found.col[later]
        for at in range(0, len(firsts), _COMPARED):
            yield firsts[at : at + _COMPARED], seconds[at : at + _COMPARED]


def groups(size: int, links: Iterable[tuple[int, int]]) -> list[int]:
    """For each of `size` things the first one that it is linked to, through others too."""
    leader = list(range(size))

    def find(at: int) -> int:
        while leader[at] != at:
            leader[at] = leader[leader[at]]
            at = leader[at]
        return at

    for first, second in links:
        low, high = sorted((find(first), find(second)))
        leader[high] = low
    return [find(at) for at in range(size)]
