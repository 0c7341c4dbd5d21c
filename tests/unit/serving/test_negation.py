"""A passage says the contrary of a sentence, or it does not."""

from __future__ import annotations

import pytest

from serving.grounding import check_sentence, word_signs
from serving.negation import Polarity, find_contrary, polarities, polarity
from serving.prompting import Passage

TEXT = """A first payment or a yearly renewal is refunded in full within 30 days.
Monthly renewals are not refunded.
If you use a private key, type it when you are asked.
We do not have it and cannot send a drive without the key.
Network drives can be backed up with Backup Business only.
An admin can rename folders for everybody in the team. Nobody can open your copies without your key.
HTTP proxies with basic login work; SOCKS proxies do not.
Single sign-on \u2014 Home: no; Team: from 10 users
Add the app with + if it is not in the list.
An external drive must be connected at least once every 30 days on Pro. If it is not:
The backup of that drive is removed.
Is the archive kept for ever?"""
PASSAGES = (Passage(n=1, title="Help", text=TEXT, start=0, end=len(TEXT)),)


def contrary(sentence: str) -> str | None:
    found = word_signs(sentence, PASSAGES).contrary
    return found.word if found else None


@pytest.mark.parametrize(
    ("sentence", "word"),
    [
        ("Monthly renewals are refunded.", "refunded"),
        ("A yearly renewal is not refunded within 30 days.", "refunded"),
        ("A yearly renewal isn\u2019t refunded within 30 days.", "refunded"),
        ("If you use a private key, type it when you are not asked.", "asked"),
        ("We can send a drive without the key.", "send"),
        ("Network drives cannot be backed up with Backup Business only.", "backed"),
        ("An admin can never rename folders for everybody in the team.", "rename"),
        ("People can open your copies without your key.", "open"),
        ("Add the app with + if it is in the list.", "list"),
        ("Single sign-on comes with Home too.", "Home"),
        ("A yearly renewal is never credited in full within 30 days.", "credited"),  # refunded, it says
    ],
)
def test_a_negation_on_one_side_is_a_contrary(sentence: str, word: str) -> None:
    assert contrary(sentence) == word
    support = check_sentence(sentence, PASSAGES)
    assert not support.supported
    assert f"{word}: a passage says the contrary" in support.unsupported


@pytest.mark.parametrize(
    "sentence",
    [
        "Monthly renewals are not refunded.",
        "There is no refund for monthly renewals.",
        "You never get a refund for a monthly renewal.",
        "A yearly renewal is refunded in full within 30 days, but a monthly renewal is not.",
        "Sync does not work with SOCKS proxies.",
        "Without the key we cannot send a drive.",
        "No, network drives can be backed up with Backup Business only.",
        "Network drives are backed up by no other plan than Backup Business.",
        "The backup of an external drive on Pro is removed when it is not connected for 30 days.",
        "Single sign-on is not part of Home.",
        "Only you can open your copies, with your key.",
        "It takes no more than 30 days.",
        "We cannot keep the archive for ever.",  # a question says nothing
        "The colour of the icon does not change.",  # no passage speaks of it
    ],
)
def test_what_agrees_or_is_not_spoken_of_is_none(sentence: str) -> None:
    assert contrary(sentence) is None


def test_the_nearer_unit_decides() -> None:
    units = polarities(["Monthly renewals are not refunded.", "Yearly renewals are refunded."])
    weights = dict.fromkeys(polarity("Monthly yearly renewals refunded").stems, 1.0)
    assert find_contrary("Yearly renewals are refunded.", units, [0], weights) is None
    found = find_contrary("Monthly renewals are refunded.", units, [0], weights)
    assert found is not None
    assert (found.word, found.share) == ("refunded", 1.0)


def test_what_is_denied_is_the_word_after_the_negation() -> None:
    said = polarity("Nothing is lost, and you need no card.")
    assert [denial.word for denial in said.denials] == ["lost", "card"]
    assert said.free == {"need"}
    assert not said.elliptic
    assert polarity("SOCKS proxies do not.").elliptic
    assert not polarity("Yes, it works.").denies
    assert not polarity("No.").denies


def test_questions_say_nothing() -> None:
    assert polarities(["Is it not free?"]) == (Polarity(),)


def test_a_long_line_without_a_stop_is_read_in_time() -> None:
    """Each character used to be tried as the begin of a table cell: minutes for this one."""
    said = polarity("word " * 20_000 + "is not refunded; Sync: no")
    assert [denial.word for denial in said.denials] == ["refund", "sync"]
