"""A sentence is supported by a span of a document, or it is said what is missing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from serving.grounding import Signs, check_sentence, word_signs
from serving.prompting import Passage
from serving.wording import load_wording

TEXT = """Refunds

A first payment or a yearly renewal is refunded in full within 30 days. Monthly renewals are not refunded.
Refunds arrive in 5 to 10 working days on the same payment method.

Plan | Price
Plus | $9 a month
Team | $14 per user a month"""
OFFSET = 1000
PASSAGES = (
    Passage(n=2, title="Refunds and renewals", text=TEXT, start=OFFSET, end=OFFSET + len(TEXT)),
    Passage(n=5, title="Proxy", text="Sync works through HTTP proxies, not SOCKS.", start=0, end=43),
)


def span(sentence: str) -> str:
    support = check_sentence(sentence, PASSAGES)
    assert support.start is not None
    assert support.end is not None
    assert support.n == 2
    return TEXT[support.start - OFFSET : support.end - OFFSET]


def test_the_supporting_span_is_exact() -> None:
    found = span("You get a full refund within 30 days of a yearly renewal.")
    assert found.startswith("A first payment")
    assert "30 days" in found
    assert "$9" not in found


@pytest.mark.parametrize(
    "sentence",
    [
        "You get a full refund within 30 days of a yearly renewal.",
        "Monthly renewals are not refunded.",
        "Team costs $14 per user a month.",
        "Sync works with HTTP proxies but not with SOCKS.",
    ],
)
def test_what_the_passages_say_is_supported(sentence: str) -> None:
    support = check_sentence(sentence, PASSAGES)
    assert support.supported
    assert support.is_claim
    assert support.unsupported == ()


@pytest.mark.parametrize(
    ("sentence", "unsupported"),
    [
        ("You get a full refund within 45 days of a yearly renewal.", ("45 days",)),
        ("Team costs $12 per user a month.", ("$12",)),
        ("Refunds arrive on your Amex card.", ("Amex",)),
        ("The app is available for Chromebooks and smart watches everywhere.", ("Chromebooks",)),
        ("Deleted folders can be brought back from the trash for sixty days.", ("sixty days",)),
        ("Deleted folders are kept in the recycle bin until someone empties it.", ()),
    ],
)
def test_what_they_do_not_say_is_not(sentence: str, unsupported: tuple[str, ...]) -> None:
    support = check_sentence(sentence, PASSAGES)
    assert not support.supported
    assert support.unsupported == unsupported
    assert support.score < check_sentence("Monthly renewals are not refunded.", PASSAGES).score


@pytest.mark.parametrize(
    "sentence", ["", "Sure, happy to help!", "Is it the monthly plan?", "Let me know what you need."]
)
def test_what_claims_nothing_passes(sentence: str) -> None:
    support = check_sentence(sentence, PASSAGES)
    assert support.supported
    assert not support.is_claim


@pytest.mark.parametrize(
    "sentence",
    [
        "Yes, it is free.",
        "Yes, unlimited.",
        "It is free, is that all right?",
        "Did you know that guests are free?",
        "Monthly renewals are refunded.",
        "Yearly renewals are not refunded within 30 days.",
        "Sync does not work with HTTP proxies.",
    ],
)
def test_short_hidden_and_reversed_claims_are_claims(sentence: str) -> None:
    support = check_sentence(sentence, PASSAGES)
    assert support.is_claim
    assert not support.supported


@pytest.mark.parametrize(
    "sentence",
    [
        "You have been refunded.",
        "I have cancelled it.",
        "We've now refunded your yearly renewal in full.",
        "Your refund was approved today.",
        "Your yearly renewal is now refunded.",
    ],
)
def test_a_deed_is_not_supported_by_an_article_about_such_deeds(sentence: str) -> None:
    support = check_sentence(sentence, PASSAGES)
    assert support.unsupported
    assert not support.supported


def test_a_case_is_no_deed() -> None:
    sentence = "Once your yearly renewal was refunded, the refund arrives in 5 to 10 working days."
    assert check_sentence(sentence, PASSAGES).supported


@pytest.mark.parametrize(
    "sentence", ["If you pay yearly, which plan is it?", "OK, was this your first payment?"]
)
def test_a_question_may_lead_in(sentence: str) -> None:
    assert not check_sentence(sentence, PASSAGES).is_claim


def test_a_question_that_smuggles_in_a_value_is_a_claim() -> None:
    assert not check_sentence("Did you know that you have 90 days?", PASSAGES).supported


def test_fixed_wordings_claim_nothing_even_without_passages() -> None:
    wording = load_wording()
    for sentence in wording.all():
        assert check_sentence(sentence, (), fixed=wording.all()).supported
    assert not check_sentence("The price rises to $13 in March.", ()).supported


@pytest.mark.parametrize(
    ("sentence", "unsupported"),
    [
        ("Team costs $14 per user a month.", ()),
        ("Plus costs $9 a month and Team $14 per user.", ()),
        ("Plus costs $14.", ("$14",)),
        ("They arrive by the same method in 30 days.", ("30 days",)),
        ("Courier drives are free, and the largest file on Home is 2 TB.", ("2 TB",)),
        ("The largest file on Home is 250 GB.", ()),
    ],
)
def test_a_value_must_stand_beside_what_it_is_said_of(sentence: str, unsupported: tuple[str, ...]) -> None:
    limits = (
        "largest file \u2014 Home: 250 GB; Pro: no limit\n"
        "storage \u2014 Home: no limit; Business: 2 TB\nCourier drives are free."
    )
    passages = (*PASSAGES, Passage(n=7, title="Limits", text=limits, start=0, end=len(limits)))
    assert check_sentence(sentence, passages).unsupported == unsupported


def test_the_customers_own_words_may_be_repeated() -> None:
    sentence = "Your yearly renewal from 12 June is refunded in full."
    assert check_sentence(sentence, PASSAGES).unsupported == ("12 June",)
    assert check_sentence(sentence, PASSAGES, question="I paid the renewal on 12 June").supported


LIST = """S-101 — Meaning: disk full; What to do: free up space
S-110 — Meaning: file open in another program; What to do: close the file there"""
CODES = (Passage(n=1, title="Sync error codes", text=LIST, start=0, end=len(LIST)),)


@pytest.mark.parametrize(
    ("sentence", "supported"),
    [
        ("S-110 — Meaning: file open in another program.", True),
        ("S-102 — Meaning: file open in another program.", False),
        ("s-102 means that the file is open in another program.", False),
        ("On your iphone-15, close the file in the other program.", True),
        ("S-102 is not one of the sync error codes.", True),
        ("S-102 is not a sync error code, so close the file.", False),
        ("S-102 means that the file is not open.", False),
        ("Did you mean S-101 or S-102?", True),
        ("Did you know that S-102 means disk full?", False),
    ],
)
def test_a_code_of_the_question_is_given_no_other_codes_meaning(sentence: str, supported: bool) -> None:
    """The customer asks for a code that the list of codes does not hold."""
    question = "What is S-102 on my iphone-15?"
    assert check_sentence(sentence, CODES, question=question).supported is supported


SYNC_CODES = """S-101 — Meaning: disk full: no room on this device; What to do: free up disk space
S-104 — Meaning: name not allowed; What to do: rename the file
S-110 — Meaning: file open in another program; What to do: close the file there
S-301 — Meaning: over storage: your plan is full; What to do: remove files or move up a plan

S-301 is about your storage, so a larger disk does not help.

Fix S-110

1. Save and close the file in every program.
2. If the code stays, restart the computer.

Fix S-101

Empty the bin or move files to another disk.

A code that is not here

Write to us by chat, and set the clock."""


@pytest.mark.parametrize(
    ("sentence", "supported"),
    [
        ("S-104: rename the file.", True),
        ("S-110: close the file in the other program.", True),
        ("S-110: restart the computer.", True),  # stands under its heading
        ("For S-101, move some files to another disk.", True),  # so does this, though S-301's line says move
        ("S-301 is about your storage, so a larger disk does not help.", True),
        ("With S-110, set the clock.", True),  # said of no code
        ("Does S-110 mean that I rename the file?", True),
        ("S-110: rename the file.", False),
        ("s-110 means that the name is not allowed.", False),
        ("S-110 means that the disk is full.", False),
        ("S-104: close the file there.", False),
        ("S-301: free up disk space.", False),
        ("S-104 means over storage, so remove files or move up a plan.", False),
    ],
)
def test_a_code_of_a_list_is_given_no_other_codes_meaning(sentence: str, supported: bool) -> None:
    """The customer has named every code, so none of them is a value that is made up."""
    passages = (Passage(n=1, title="Sync error codes", text=SYNC_CODES, start=0, end=len(SYNC_CODES)),)
    question = "What are S-101, S-104, S-110 and S-301?"
    assert check_sentence(sentence, passages, question=question).supported is supported


def test_a_code_that_the_customer_did_not_name_is_supported_by_its_own_line() -> None:
    passages = (Passage(n=1, title="Sync error codes", text=SYNC_CODES, start=0, end=len(SYNC_CODES)),)
    question = "it says name not allowed"
    assert check_sentence("S-104: rename the file.", passages, question=question).supported
    assert not check_sentence("S-110: rename the file.", passages, question=question).supported


def test_a_single_line_about_a_code_is_no_list() -> None:
    text = "S-104 — Meaning: name not allowed\nIf the file is open, close it. S-110 may follow."
    passages = (Passage(n=1, title="Codes", text=text, start=0, end=len(text)),)
    question = "S-110?"
    assert check_sentence("S-110: name not allowed.", passages, question=question).supported


def test_a_code_that_only_shows_what_codes_look_like_lists_none() -> None:
    text = "Your order number, such as INV-1001, stands in the e-mail.\nOrders ship within 3 days."
    passages = (Passage(n=1, title="Orders", text=text, start=0, end=len(text)),)
    question = "When does INV-2041 ship?"
    assert check_sentence("Your order INV-2041 ships within 3 days.", passages, question=question).supported
    assert not check_sentence("Your order INV-2041 ships within 3 days.", passages).supported


def test_a_question_repeated_as_a_statement_is_not_supported_by_it() -> None:
    text = "You can export after the trial has ended?\nYou cannot export after the trial has ended."
    passages = (Passage(n=1, title="Export", text=text, start=0, end=len(text)),)
    assert not check_sentence("You can export after the trial has ended.", passages).supported


def test_a_line_repeated_word_for_word_is_supported_whatever_stands_beside_it() -> None:
    """The code stands in two more places, with other words around it."""
    text = """S-101 — Meaning: disk full: no room on this device; What to do: free up space or leave folders
S-301 — Meaning: over storage: your plan is full; What to do: remove files or move up a plan

S-101 is about the disk in your computer, so a larger plan does not help. S-301 is about your storage."""
    passages = (Passage(n=1, title="Sync error codes", text=text, start=0, end=len(text)),)
    line = text.partition("\n")[0]
    assert check_sentence(f"{line}.", passages).supported
    assert not check_sentence(f"{line.replace('101', '301')}.", passages).supported


def test_a_span_begins_and_ends_with_what_the_sentence_says() -> None:
    text = "Fern is a garden app. Refunds are paid within 30 days. Ask the owner first. Snow is white."
    passage = Passage(n=1, title="Help", text=text, start=100, end=100 + len(text))
    support = check_sentence("Refunds are paid within 30 days, but ask the owner.", [passage])
    assert support.start is not None
    assert support.end is not None
    shown = text[support.start - 100 : support.end - 100]
    assert shown == "Refunds are paid within 30 days. Ask the owner first."


class Believer:
    """An entailment model that always says the same and remembers what it was asked."""

    id = "believer"
    threshold = 0.5

    def __init__(self, probability: float | None) -> None:
        self._probability = probability
        self.asked: list[str] = []

    def probability(self, sentence: str, passages: Sequence[Passage], signs: Signs) -> float | None:
        self.asked.append(sentence)
        return self._probability


def test_the_model_decides_what_words_cannot() -> None:
    sentence = "Your money comes back when the yearly plan was renewed by mistake last week."
    assert not check_sentence(sentence, PASSAGES).supported
    support = check_sentence(sentence, PASSAGES, entailment=Believer(0.9))
    assert (support.supported, support.score) == (True, 0.9)
    assert support.n == 2
    doubted = check_sentence("Monthly renewals are not refunded.", PASSAGES, entailment=Believer(0.2))
    assert not doubted.supported


def test_no_model_talks_a_missing_value_away() -> None:
    support = check_sentence("Team costs $15 per user a month.", PASSAGES, entailment=Believer(1.0))
    assert not support.supported
    assert support.unsupported == ("$15",)


def test_no_model_talks_a_negation_away() -> None:
    model = Believer(1.0)
    assert not check_sentence("Monthly renewals are refunded.", PASSAGES, entailment=model).supported
    assert model.asked == []


def test_a_model_out_of_time_leaves_the_decision_to_the_words() -> None:
    for sentence in ("Monthly renewals are not refunded.", "Monthly renewals are refunded.", "Cats sleep."):
        late = check_sentence(sentence, PASSAGES, entailment=Believer(None))
        assert late == check_sentence(sentence, PASSAGES)


def test_the_model_is_not_asked_about_what_claims_nothing() -> None:
    model = Believer(0.0)
    fixed = ("I can't find that in the help centre.",)
    assert check_sentence("Is that all right?", PASSAGES, entailment=model).supported
    assert check_sentence(fixed[0], PASSAGES, fixed=fixed, entailment=model).supported
    assert check_sentence("You are welcome.", PASSAGES, entailment=model).supported
    assert model.asked == []


def test_the_signs_say_what_words_and_values_found() -> None:
    signs = word_signs("Monthly renewals are refunded for $15.", PASSAGES)
    assert signs.missing == ("$15",)
    assert signs.contrary is not None
    assert signs.contrary.word == "refunded"
    assert signs.faults == ("$15", "refunded: a passage says the contrary")
    assert signs.overlap > 0.5
    assert word_signs("Monthly renewals are not refunded.", PASSAGES).contrary is None


def test_a_number_within_a_word_leaves_no_name_behind() -> None:
    passage = Passage(n=1, title="", text="Backup runs on Windows 10 22H2 or newer.", start=0, end=40)
    assert check_sentence("Yes, Backup runs on Windows 10 22H2.", [passage]).supported
