"""Training rows: quoted answers hold the facts, cite what they quote, and never teach from memory."""

from __future__ import annotations

from typing import Any

from deploy.tuning import Answers, RowBuilder, quote
from retrieval.hits import Hit
from serving.prompting import Passage, PromptTemplate
from serving.wording import load_wording

TEMPLATE = PromptTemplate(name="p", system="Answer.")
PRICES = (
    "All prices\n\nMonthly \u2014 Free: $0; Plus: $9\nYearly \u2014 Free: $0; Plus: $90\n\n"
    "1. Open Plans.\n2. Choose Plus."
)
REFUNDS = "You can have a refund within 30 days. It arrives in 5 to 10 working days."


def question(**changes: Any) -> dict[str, Any]:
    return {
        "id": "plans-01",
        "text": "what is Plus a year",
        "gold": ["prices"],
        "facts": [["$90"]],
        "status": "answered",
        "intent": "billing",
        "escalate": False,
        "escalation_reason": "none",
        "answer": "Plus costs $90 a year.",
        "follow_up": "Monthly or yearly?",
        **changes,
    }


def passages(*texts: str) -> list[Passage]:
    return [Passage(n=n, title="T", text=text, start=0, end=len(text)) for n, text in enumerate(texts, 1)]


def builder(answers: Answers = Answers.QUOTED) -> RowBuilder:
    return RowBuilder(TEMPLATE, lambda text: len(text.split()), budget_tokens=400, seed=7, answers=answers)


def hit(rank: int, document_id: str, text: str) -> Hit:
    return Hit(
        rank=rank,
        chunk_id=rank,
        document_id=document_id,
        document_version=1,
        title=document_id.title(),
        url="",
        heading_path=(),
        text=text,
        start=0,
        end=len(text),
        score=1 / rank,
        dense_score=0.5,
        lexical_score=1.0,
        effective_from=None,
        effective_to=None,
        metadata={},
    )


def hits() -> list[Hit]:
    return [hit(1, "refunds", REFUNDS), hit(2, "prices", PRICES)]


def test_the_row_of_a_table_that_holds_the_fact_is_quoted_word_for_word() -> None:
    quoted = quote(question(), passages(REFUNDS, PRICES))
    assert quoted is not None
    assert quoted.text == "Yearly \u2014 Free: $0; Plus: $90."
    assert quoted.cited == (2,)


def test_two_facts_of_two_passages_take_two_sentences_and_cite_both() -> None:
    quoted = quote(question(facts=[["$90"], ["30 days"]]), passages(REFUNDS, PRICES))
    assert quoted is not None
    assert set(quoted.cited) == {1, 2}
    assert "You can have a refund within 30 days." in quoted.text


def test_a_fact_is_not_found_inside_a_longer_number_or_word() -> None:
    quoted = quote(question(text="what is Plus", facts=[["$9"]]), passages(PRICES))
    assert quoted is not None
    assert quoted.text == "Monthly \u2014 Free: $0; Plus: $9."
    for fact in "$9", "free", "reissue":
        text = "Plus costs $90 a year. Freelancers have reissued cards."
        assert quote(question(facts=[[fact]]), passages(text)) is None
        hidden = question(facts=[[fact]], gold=["prices"])
        assert builder().rows(hidden, [hit(1, "prices", text)]) == []


def test_list_marks_are_left_out() -> None:
    quoted = quote(question(facts=[["Choose Plus"]]), passages(PRICES))
    assert quoted is not None
    assert quoted.text == "Choose Plus."


def test_a_fact_that_stands_nowhere_is_never_taught() -> None:
    assert quote(question(facts=[["$95"]]), passages(PRICES)) is None
    assert builder().rows(question(facts=[["$95"]]), hits()) == []


def test_a_served_row_quotes_gold_passages_only() -> None:
    served, *_ = builder().rows(question(facts=[["30 days"]], gold=["refunds"]), hits())
    assert served["id"] == "plans-01/served"
    assert served["wanted"]["citations"] == [1]
    assert served["wanted"]["answer"] == "You can have a refund within 30 days."
    assert served["wanted"]["follow_up"] == ""


def test_an_escalated_answer_ends_with_the_fixed_sentence() -> None:
    served, *_ = builder().rows(
        question(status="escalated", escalate=True, escalation_reason="billing_dispute"), hits()
    )
    assert served["wanted"]["answer"].endswith(load_wording().passing_on)
    assert served["wanted"]["escalate"] is True


def test_a_question_without_an_answer_keeps_its_fixed_wording() -> None:
    wording = load_wording().not_in_help_centre
    served, *_ = builder().rows(
        question(gold=[], facts=[], status="abstained", answer=wording, escalate=True), hits()
    )
    assert served["wanted"]["answer"] == wording
    assert served["wanted"]["citations"] == []


def test_written_answers_are_kept_when_asked_for() -> None:
    served, *_ = builder(Answers.WRITTEN).rows(question(), hits())
    assert served["wanted"]["answer"] == "Plus costs $90 a year."
    assert served["wanted"]["follow_up"] == "Monthly or yearly?"
    assert served["wanted"]["citations"] == [2]
