"""A seeded fault changes what a sentence says, in the place that it states, and nothing else."""

from __future__ import annotations

import random

import pytest

from serving.seeded_faults import (
    Fault,
    add_claim,
    any_small_fault,
    flip_negation,
    swap_name,
    swap_opposite,
    swap_value,
)
from serving.values import find_values

TEXT = "Plus costs $9 a month. Team costs $14 per user a month. Refunds take 5 days. Ask Pellworth Billing."


def words_of(fault: Fault | None) -> str:
    assert fault is not None
    return fault.text[fault.start : fault.end]


@pytest.mark.parametrize("seed", range(5))
def test_a_value_becomes_another_one_of_its_kind(seed: int) -> None:
    fault = swap_value("It costs $9 a month.", [TEXT], random.Random(seed))
    assert words_of(fault) == "$14"
    assert fault is not None
    assert fault.text == "It costs $14 a month."


def test_without_another_value_in_the_sources_the_number_changes() -> None:
    fault = swap_value("It takes 30 minutes.", ["It takes 30 minutes."], random.Random(0))
    assert fault is not None
    [before], [after] = find_values("It takes 30 minutes."), find_values(fault.text)
    assert (before.kind, before.key != after.key) == (after.kind, True)


@pytest.mark.parametrize(
    ("sentence", "wrong"),
    [
        ("You cannot undo this.", "You can undo this."),
        ("Monthly renewals are not refunded.", "Monthly renewals are refunded."),
        ("Team keeps deleted files.", "Team does not keep deleted files."),
        ("The trial needs no card.", "The trial needs a card."),
    ],
)
def test_a_negation_is_taken_out_or_put_in(sentence: str, wrong: str) -> None:
    fault = flip_negation(sentence, random.Random(0))
    assert fault is not None
    assert fault.text == wrong


def test_a_direction_becomes_the_other_one() -> None:
    fault = swap_opposite("Before you sign out, save your work.", random.Random(0))
    assert words_of(fault) == "After"


def test_a_name_becomes_another_name_of_the_sources() -> None:
    fault = swap_name("Write to the Support Desk today.", [TEXT], random.Random(0))
    assert fault is not None
    assert words_of(fault) in TEXT
    assert "Support Desk" not in fault.text


def test_a_claim_of_another_text_is_joined_on() -> None:
    fault = add_claim("It costs $9.", ["Files are kept for thirty days"], random.Random(0))
    assert words_of(fault) == "files are kept for thirty days"


def test_a_sentence_without_a_hold_stays_without_a_fault() -> None:
    assert any_small_fault("Hello there.", [], random.Random(0)) is None
    assert swap_value("It costs $9.", ["It costs $9."], random.Random(1)) is not None
    assert swap_opposite("Hello there.", random.Random(0)) is None
    assert swap_name("hello there.", [TEXT], random.Random(0)) is None
    assert add_claim("Hello.", ["Too short"], random.Random(0)) is None


def test_the_same_seed_makes_the_same_faults() -> None:
    made = [any_small_fault(TEXT, [TEXT], random.Random(3)) for _ in range(2)]
    assert made[0] == made[1]
    assert made[0] is not None
    assert made[0].text != TEXT
