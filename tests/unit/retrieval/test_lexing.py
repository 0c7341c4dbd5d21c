"""Tokens that customers and articles share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.lexing import TERM_SPACE, bm25_weights, lex, query_terms, sparse_text, stem, term_id


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


def test_weights_grow_with_repeats_and_shrink_with_length() -> None:
    once, twice = bm25_weights(["a", "b"], avgdl=10), bm25_weights(["a", "a"], avgdl=10)
    assert twice[term_id("a")] > once[term_id("a")]
    assert bm25_weights(["a"] + ["b"] * 50, avgdl=10)[term_id("a")] < once[term_id("a")]


def test_sparse_text_is_sorted() -> None:
    assert sparse_text({7: 0.5, 3: 1.25}) == "{3:1.25,7:0.5}/1000000000"


def test_query_terms_are_unique_and_counted() -> None:
    terms = query_terms("refund my refund")
    assert terms.lexemes == ["refund", "refund my", "my refund"]
    assert terms.counts == [2, 1, 1]
