"""Words of a text as the lexical leg counts them, and the numbers that BM25 stores for a chunk.

Codes such as `s-101`, `b-20`, `v4.2` and amounts such as `$9` stay whole: customers quote them.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, pairwise

#: Part of an index version's identity: rows made by another lexer would not match.
LEXER = "english-1"

#: Dimensions of pgvector's sparse vectors; term ids are hashes below it.
TERM_SPACE = 1_000_000_000
#: BM25's usual K1, and a B below the usual 0.75: passages are cut to much the same size, so a longer one is
#: not vaguer, and one mention of a code in it must not count half (docs/experiments.md, retrieval quality).
K1 = 1.2
B = 0.3
LONGEST_TOKEN = 64

_TOKEN = re.compile(r"[$€£]?\w+(?:[-.,:/]\w+)*%?|[$€£]\d+", re.UNICODE)
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
_CODE = re.compile(r"^([a-z]{1,4})-(\d+)$")
_NUMBER = re.compile(r"[$€£]?\d[\d.,]*%?$")
_STOPWORD_LIST = (
    "a an and are as at be been but by can could did do does for from had has have he her him his how i if in"
    " into is it its me my no not of on or our she should so some than that the their them then there these"
    " they this those to up us was we were what when where which who why will with would you your am im ive"
    " id dont doesnt cant isnt s t"
)
_STOPWORDS = frozenset(_STOPWORD_LIST.split())


def lex(text: str) -> list[str]:
    """The lexemes of a text with repeats: its words without the commonest, and pairs of neighbours.

    A pair keeps the common words (`can refer`): a question that repeats a heading finds it by them, and no
    single common word brings in half of all chunks.
    """
    words = _all_words(text)
    return [word for word in words if word not in _STOPWORDS] + _pairs(words)


def content_words(text: str) -> frozenset[str]:
    """The single lexemes of a text: its words without the commonest, each once."""
    return frozenset(_all_words(text)) - _STOPWORDS


def word_pairs(text: str) -> frozenset[str]:
    """The other lexemes of a text: its pairs of neighbours, each once."""
    return frozenset(_pairs(_all_words(text)))


def _all_words(text: str) -> list[str]:
    return list(chain.from_iterable(map(_words, _tokens(text))))


def _pairs(words: Sequence[str]) -> list[str]:
    return [a + " " + b for a, b in pairwise(words) if a not in _STOPWORDS or b not in _STOPWORDS]


def _tokens(text: str) -> list[str]:
    plain = text.casefold().replace("\u2019", "'").replace("'", "")
    if not plain.isascii():
        plain = _BEYOND_ASCII.sub(_without_accents, unicodedata.normalize("NFKD", plain))
    return [token[:LONGEST_TOKEN] for token in _TOKEN.findall(plain)]


def _without_accents(match: re.Match[str]) -> str:
    return "".join([char for char in match.group() if not unicodedata.combining(char)])


@lru_cache(maxsize=65536)
def _words(token: str) -> tuple[str, ...]:
    """A token as words: a code or an amount whole, anything else in its parts."""
    if _NUMBER.match(token):
        number = token.replace(",", "").rstrip(".,")
        return (number, number[1:]) if number[0] in "$€£" else (number,)
    if any(char.isdigit() for char in token) and re.search(r"[-.,:/]", token):
        # `B-20` and `b20` are one code.
        return (_CODE.sub(r"\1\2", token),)
    parts = re.split(r"[-.,:/$€£%]", token)
    return tuple(part if part in _STOPWORDS else stem(part) for part in parts if part)


def stem(word: str) -> str:
    """Strip plural and verb endings, lightly: `price`, `prices`, `priced` meet; `policy`, `police` do not."""
    if len(word) < 4 or not word.isalpha():
        return word
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith(("sses", "shes", "ches", "xes", "zes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed"):
        if (
            word.endswith(ending)
            and len(word) - len(ending) >= 3
            and re.search(r"[aeiouy]", word[: -len(ending)])
        ):
            word = word[: -len(ending)]
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    if word.endswith("e") and len(word) > 4:
        word = word[:-1]
    return word


@lru_cache(maxsize=131072)
def term_id(lexeme: str) -> int:
    """The lexeme's dimension, from 1. Two words may share one, but hardly two of one question."""
    digest = hashlib.blake2b(lexeme.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % (TERM_SPACE - 1) + 1


def length_norm(length: int, *, avgdl: float) -> float:
    """What BM25 adds to a term's count below the line: more for a text longer than the average."""
    return K1 * (1 - B + B * length / avgdl)


def bm25_weights(tokens: list[str], *, avgdl: float) -> dict[int, float]:
    """Term id -> term frequency part of BM25; times the query's idf and summed, it is the score."""
    norm = length_norm(len(tokens), avgdl=avgdl)
    weights: dict[int, float] = {}
    for lexeme, count in Counter(tokens).items():
        term = term_id(lexeme)
        weights[term] = max(weights.get(term, 0.0), count * (K1 + 1) / (count + norm))
    return weights


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryTerms:
    """A question's terms in three parallel rows, as the search function takes them."""

    lexemes: list[str]
    terms: list[int]
    counts: list[int]


def query_terms(question: str) -> QueryTerms:
    """The terms of a question, each once, with how often it was said."""
    counted = Counter(lex(question))
    return QueryTerms(
        lexemes=list(counted), terms=[term_id(lexeme) for lexeme in counted], counts=list(counted.values())
    )
