"""A sentence is read against the stretches that share most words with it."""

from __future__ import annotations

from serving.evidence_windows import WORDS, evidence_windows
from serving.prompting import Passage

FILLER = " ".join(f"Sentence number {n} speaks of weather and of lunch." for n in range(40))
NEEDLE = "Yearly renewals are refunded within 30 days."


def passage(n: int, text: str, title: str = "") -> Passage:
    return Passage(n=n, title=title, text=text, start=0, end=len(text))


def test_the_stretch_that_holds_the_words_comes_first() -> None:
    passages = [passage(1, FILLER), passage(2, f"{FILLER} {NEEDLE} {FILLER}", "Refunds")]
    best = evidence_windows("A yearly renewal is refunded.", passages)[0]
    assert best.passage == 1
    assert NEEDLE in best.text
    assert best.text.startswith("Refunds: ")
    assert 0.9 < best.overlap <= 1.0


def test_no_window_is_longer_than_it_may_be_and_none_repeats_another() -> None:
    windows = evidence_windows("Weather and lunch.", [passage(1, FILLER)], most=4)
    assert len(windows) == 4
    assert all(len(window.text.split()) <= WORDS for window in windows)
    assert len({window.text for window in windows}) == 4


def test_a_long_line_is_taken_alone() -> None:
    line = "refund " * (2 * WORDS)
    [window] = evidence_windows("A refund.", [passage(1, line.strip())])
    assert len(window.text.split()) == 2 * WORDS


def test_where_no_word_stands_there_is_still_something_to_read() -> None:
    windows = evidence_windows("Xylophones.", [passage(1, FILLER)])
    assert windows
    assert windows[0].overlap == 0.0


def test_without_a_text_there_is_no_window() -> None:
    assert evidence_windows("A refund.", []) == []
    assert evidence_windows("A refund.", [passage(1, "")]) == []
