"""Sentences come out whole, in order, and put together they are the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sentences import SentenceSplitter, split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It is $9.00 a month. You can cancel.", ["It is $9.00 a month. ", "You can cancel."]),
        ("Go to help.pellworth.example. It is there.", ["Go to help.pellworth.example. ", "It is there."]),
        ("Use a file, e.g. Notes, for it. Then stop.", ["Use a file, e.g. Notes, for it. ", "Then stop."]),
        ("Dr. Smith said no. We agree.", ["Dr. Smith said no. ", "We agree."]),
        ("See No. 5 below. Done.", ["See No. 5 below. ", "Done."]),
        ("From 1 Mar. 2026 it is $9. Before, $8.", ["From 1 Mar. 2026 it is $9. ", "Before, $8."]),
        ("1. Open it.\n2. Click.\n", ["1. Open it.\n", "2. Click.\n"]),
        ("Steps:\n- one\n- two", ["Steps:\n", "- one\n", "- two"]),
        ('He said "stop." Then he left.', ['He said "stop." ', "Then he left."]),
        ("Really? Yes! Of course.", ["Really? ", "Yes! ", "Of course."]),
        ("Wait... now go.", ["Wait... now go."]),
        ("", []),
    ],
)
def test_boundaries(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@given(st.text(alphabet="aB1.!?$ \n-\"'e", max_size=120), st.integers(1, 9))
def test_pieces_do_not_matter(text: str, size: int) -> None:
    splitter = SentenceSplitter()
    found = [
        sentence
        for start in range(0, len(text), size)
        for sentence in splitter.feed(text[start : start + size])
    ]
    rest = splitter.flush()
    assert ([*found, rest] if rest else found) == split_sentences(text)
    assert "".join([*found, rest]) == text
