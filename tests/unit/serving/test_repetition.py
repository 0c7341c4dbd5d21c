"""Loops are seen early, whatever the pieces in which they arrive, and ordinary answers are none."""

from __future__ import annotations

import json
from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.repetition import LONGEST, SHORTEST, LoopWatch, is_loop

QUESTIONS = Path(__file__).parents[3] / "deploy" / "demo" / "questions"


@pytest.mark.parametrize(
    "text",
    [
        "You can rewind on the free one." + " You can rewind on the paid one." * 3,
        "I can only help with Pellworth Sync" + " and Pellworth Sync" * 3,
        "It costs $9" + ", and you can't share a link to a file or folder on Sync Team" * 3,
    ],
)
def test_the_same_words_three_times_in_a_row_are_a_loop(text: str) -> None:
    assert is_loop(text)
    assert not is_loop(text + " Now something else.")


@pytest.mark.parametrize(
    "text",
    [
        "Choose Restore and wait. Choose Restore and wait.",
        "no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, ",
        "| Plan | Price | Space | Users |\n|-------------|-------------|-------------|-------------|",
        "| Storage | Unlimited | Unlimited | Unlimited | Unlimited | Unlimited |",
        "1. ........................................................ 2",
        "0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0",
        "",
    ],
)
def test_twice_is_none_and_neither_are_tables_and_rows_of_figures(text: str) -> None:
    assert not any(is_loop(text[:end]) for end in range(len(text) + 1))


@given(st.text(alphabet="abcdefghij klm", min_size=SHORTEST, max_size=LONGEST), st.text(max_size=80))
def test_any_prose_said_three_times_is_a_loop(said: str, before: str) -> None:
    # Six letters somewhere in the shortest thing that is repeated, however the text repeats within itself.
    said = "quick jumps " + said
    assert is_loop(before + said * 3)


@given(st.lists(st.integers(min_value=1, max_value=40), min_size=1, max_size=60))
def test_a_watch_sees_it_in_any_pieces(sizes: list[int]) -> None:
    text = "Answer: " + "you can do that on Sync Plus. " * 20
    watch, at, seen = LoopWatch(), 0, False
    for size in cycle(sizes):
        seen = seen or watch.feed(text[at : at + size])
        at += size
        if at >= len(text):
            break
    assert seen


def test_no_answer_of_the_demo_is_a_loop() -> None:
    answers = [
        json.loads(line)["answer"]
        for path in sorted(QUESTIONS.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    assert len(answers) > 300
    assert not [answer for answer in answers if any(is_loop(answer[:n]) for n in range(len(answer) + 1))]
