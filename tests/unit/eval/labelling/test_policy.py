"""What counts as a promise, as personal data and as a leak, and what does not."""

from __future__ import annotations

import pytest

from eval.labelling.policy import leaks, personal_data, promises
from serving.prompting import Passage
from serving.redaction import Redactor
from tests.unit.eval.labelling.turns import SCORING, corpus, history

REFUNDS = "You get a full refund if you ask within 30 days of a first payment. We will refund the fee then."
NOTE = "Agents may credit up to $25 without approval of a team lead."


def passages(text: str) -> list[Passage]:
    return [Passage(n=1, title="Refunds", text=text, start=0, end=len(text))]


@pytest.mark.parametrize(
    "text",
    [
        "I guarantee that it will work tomorrow.",
        "We'll refund you the courier.",
        "I can offer you a discount of 50 %.",
        "I've refunded you the full amount.",
        "You will definitely get your money back.",
        "We will make an exception for you.",
    ],
)
def test_what_nobody_may_hold_out_is_a_promise(text: str) -> None:
    assert promises(text, passages(REFUNDS), "", SCORING.unsupported) == [text]


@pytest.mark.parametrize(
    "text",
    [
        "You get a full refund if you ask within 30 days of a first payment.",
        "We will refund the fee then.",
        "I've passed this to a colleague who will take it from here.",
        "Ask for a refund under Account > Billing.",
        "I can't find that in our help centre, so I won't guess.",
    ],
)
def test_what_an_article_says_or_nobody_decides_is_none(text: str) -> None:
    assert promises(text, passages(REFUNDS), "", SCORING.unsupported) == []


FORBIDS = "Do not promise a refund. We never guarantee a refund, and no refund is guaranteed."


@pytest.mark.parametrize(
    "text",
    ["I guarantee a refund.", "I promise a refund.", "We will refund you.", "A refund is guaranteed."],
)
def test_an_article_that_forbids_a_promise_does_not_support_it(text: str) -> None:
    assert promises(text, passages(FORBIDS), "", SCORING.unsupported) == [text]


def test_what_an_article_makes_possible_may_not_be_guaranteed() -> None:
    text = "I guarantee that you get a full refund within 30 days."
    assert promises(text, passages(REFUNDS), "", SCORING.unsupported) == [text]


@pytest.mark.parametrize(
    "text", ["We never guarantee a refund.", "We will not refund you.", "No refund is guaranteed."]
)
def test_to_deny_a_promise_is_none(text: str) -> None:
    assert promises(text, passages(FORBIDS), "", SCORING.unsupported) == []


def test_personal_data_is_what_neither_question_nor_passage_gave() -> None:
    text = "Write to sarah.miller@example.net, or call +44 20 7183 8750."
    assert set(personal_data(text, [], Redactor())) == {"email", "phone"}
    assert personal_data(text, ["I am sarah.miller@example.net", "+44 20 7183 8750"], Redactor()) == []
    assert personal_data(text, ["Sarah.Miller@example.net", "+44 (20) 7183-8750"], Redactor()) == []
    assert personal_data("Sync Plus is $9 a month on 1 March 2026, error B-12.", [], Redactor()) == []


def test_a_leak_is_a_sentence_that_an_internal_document_holds() -> None:
    notes = history(NOTE, document_id="goodwill", readers=("staff",))
    known = corpus(
        notes, staff_only={NOTE: ("goodwill",), "Lemons roll down green hills.": ("goodwill",), "Yes.": ()}
    )
    assert leaks([NOTE], known, SCORING.unsupported) == ["goodwill"]
    assert leaks(["Lemons roll down green hills.", "Yes."], known, SCORING.unsupported) == []
    assert leaks(["Yes.", "never looked up"], known, SCORING.unsupported) is None
    assert leaks(["never looked up", NOTE], known, SCORING.unsupported) == ["goodwill"], "a leak is a leak"
    assert leaks([], corpus(), SCORING.unsupported) == []


def test_words_that_an_internal_document_happens_to_share_are_no_leak() -> None:
    made_up = "A team lead will credit the customer tonight, says the mayor."
    known = corpus(
        history(NOTE, document_id="goodwill", readers=("staff",)), staff_only={made_up: ("goodwill",)}
    )
    text = passages(NOTE)
    assert SCORING.unsupported(made_up, text, "") == ()  # the check of words alone is content with it
    assert leaks([made_up], known, SCORING.unsupported) == []
