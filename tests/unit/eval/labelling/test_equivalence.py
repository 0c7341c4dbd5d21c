"""The same fact in another article is the answer only where it is said of the same thing."""

from __future__ import annotations

import pytest

from eval.labelling.equivalence import Place, places, same_statement


def alike(fact: str, here: str, gold: str, question: str, title: str = "", gold_title: str = "") -> bool:
    return (
        same_statement([fact], places(here, title), places(gold, gold_title), question=question) is not None
    )


@pytest.mark.parametrize(
    ("fact", "here", "gold"),
    [
        (
            "60 days",
            "- After a cancelled plan, files over 5 GB become read-only for 60 days and are then deleted.",
            "Files over 5 GB stay read-only for 60 days and are then deleted, newest first.",
        ),
        (
            "next renewal",
            "Like every downgrade it takes effect at the next renewal.",
            "Downgrade \u2014 When: At the next renewal",
        ),
        (
            "$9",
            "Sync Plus \u2014 Trial: 14 days; Price: $9 a month",
            "Paid monthly \u2014 Sync Plus: $9 a month",
        ),
        (
            "90 days",
            "Deleted files kept \u2014 Backup: Home 90 days, Pro 1 year",
            "On Home, deleted files are kept for 90 days.",
        ),
        (
            "not backed up",
            "Phones are not backed up by Backup either.",
            "Phones \u2014 Backup: Not backed up",
        ),
    ],
)
def test_the_same_statement_in_another_article(fact: str, here: str, gold: str) -> None:
    assert alike(fact, here, gold, "what happens then?")


@pytest.mark.parametrize(
    ("fact", "here", "gold", "why"),
    [
        ("$9", "The bundle is $9 a month.", "Sync Plus is $9 a month.", "one shared word beside a value"),
        (
            "$140",
            "Sync Team costs $140 a year.",
            "Two computers on Home cost $140 a year.",
            "of another plan",
        ),
        (
            "30 days",
            "The Team trial ends after 30 days.",
            "Deleted files are kept for 30 days.",
            "of another thing",
        ),
        (
            "renewal",
            "A renewal with new proof has the normal price.",
            "At a renewal the new plan begins.",
            "a lone word",
        ),
        ("14 days", "Nothing of the kind.", "The trial has 14 days.", "not stated"),
        ("14 days", "The trial has 14 days.", "The trial is short.", "the gold article does not state it"),
    ],
)
def test_a_coincidence(fact: str, here: str, gold: str, why: str) -> None:
    assert not alike(fact, here, gold, "what happens then?"), why


def test_what_the_question_names_must_be_named() -> None:
    gold = "On Home, a restored file is kept for 90 days."
    here = "A restored file is kept for 90 days."
    assert alike("90 days", here, gold, "how long?")
    assert not alike("90 days", here, gold, "how long on Home?")
    assert alike("90 days", here, gold, "how long on Home?", title="Backup Home")


def test_two_titles_alone_say_nothing_of_the_places() -> None:
    assert not alike(
        "$9", "It is $9.", "You pay $9.", "how much?", title="Plus prices", gold_title="Plus prices today"
    )


def test_cells_of_a_row_are_places_of_their_own() -> None:
    found = list(places("Kept \u2014 Home: 90 days; Pro: 1 year\n- Restore 4.2. then wait.", "Keeping"))
    assert found == [
        Place("Kept: Home: 90 days", "Keeping"),
        Place("Kept: Pro: 1 year", "Keeping"),
        Place("Restore 4.2. then wait.", "Keeping"),
    ]
