"""Tokens that customers and articles share."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from retrieval import lexing
from retrieval.lexing import TERM_SPACE, bm25_weights, lex, query_terms, stem, term_id
from tests.unit.docs.pages import ROOT


def singles(text: str) -> list[str]:
    return [lexeme for lexeme in lex(text) if " " not in lexeme]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Error S-101!", ["error", "s101"]),
        ("b-20 and B20 and S-101-X.", ["b20", "b20", "s-101-x"]),
        ("It's $9 a month", ["$9", "9", "month"]),
        ("$1,000 or 99.9 %", ["$1000", "1000", "99.9"]),
        ("version 4.2", ["version", "4.2"]),
        ("Cafés", ["cafe"]),
        ("sign-in", ["sign"]),
        ("two-step", ["two", "step"]),
        ("I can\u2019t sync", ["sync"]),
        ("10:30", ["10:30"]),
        ("", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert singles(text) == words


def test_pairs_keep_common_words_beside_rare_ones() -> None:
    assert lex("How can I refer friends?") == ["refer", "friend", "i refer", "refer friend"]


@pytest.mark.parametrize(
    "group",
    [
        ("price", "prices", "priced", "pricing"),
        ("refund", "refunds", "refunded", "refunding"),
        ("cancel", "cancels"),
        ("stop", "stops", "stopped", "stopping"),
        ("policy", "policies"),
        ("box", "boxes"),
        ("file", "files"),
    ],
)
def test_forms_of_a_word_meet(group: tuple[str, ...]) -> None:
    assert len({stem(word) for word in group}) == 1


def test_different_words_stay_apart() -> None:
    assert (
        len({stem(word) for word in ("policy", "police", "status", "bus", "business", "address", "add")}) == 7
    )


@given(st.text())
def test_lexing_never_fails_and_tokens_are_short(text: str) -> None:
    for token in lex(text):
        assert 0 < len(token) <= 129
        assert "\x00" not in token
        assert 1 <= term_id(token) < TERM_SPACE


def lexed_word_by_word(text: str) -> list[str]:
    """`lex` as plainly as it can be said."""
    folded = unicodedata.normalize("NFKD", text.casefold().replace("\u2019", "'").replace("'", ""))
    plain = "".join(char for char in folded if not unicodedata.combining(char))
    tokens = [match.group()[: lexing.LONGEST_TOKEN] for match in lexing._TOKEN.finditer(plain)]
    words = [word for token in tokens for word in lexing._words.__wrapped__(token)]
    stop = lexing._STOPWORDS
    pairs = [f"{a} {b}" for a, b in pairwise(words) if not (a in stop and b in stop)]
    return [word for word in words if word not in stop] + pairs


@given(st.text())
@example("Cafés\u2019 na\u0308chste \ufb01nal \uff21\uff11 e\u0301\u0302a \u0130")
def test_lexing_is_that_of_each_word_alone(text: str) -> None:
    assert lex(text) == lexed_word_by_word(text)


def test_articles_are_lexed_as_word_by_word() -> None:
    articles = sorted((ROOT / "deploy/demo/articles").rglob("*.md"))
    assert len(articles) > 50
    for article in articles:
        text = article.read_text(encoding="utf-8")
        assert lex(text) == lexed_word_by_word(text)


def test_weights_grow_with_repeats_and_shrink_with_length() -> None:
    once, twice = bm25_weights(["a", "b"], avgdl=10), bm25_weights(["a", "a"], avgdl=10)
    assert twice[term_id("a")] > once[term_id("a")]
    assert bm25_weights(["a"] + ["b"] * 50, avgdl=10)[term_id("a")] < once[term_id("a")]


def test_query_terms_are_unique_and_counted() -> None:
    terms = query_terms("refund my refund")
    assert terms.lexemes == ["refund", "refund my", "my refund"]
    assert terms.counts == [2, 1, 1]
