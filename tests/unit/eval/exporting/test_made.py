"""What a reviewed turn becomes: an example, a regression test, a policy case."""

from __future__ import annotations

import json
from typing import Any

import pytest

from eval.cases import case_of
from eval.exporting.cleaning import Cleaner
from eval.exporting.examples import example_of
from eval.exporting.gaps import gaps_markdown
from eval.exporting.questions import needs_facts, policy_case, regression_test
from eval.exporting.reviewed_turns import ReviewedTurn, accepted_draft
from eval.online.recorded import live_turn
from eval.scoring import build_scoring
from eval.sets.questions import Said
from serving.redaction import Redactor
from serving.versions import SCHEMAS

SCORING = build_scoring(schema=SCHEMAS / "support_answer.json")
TEXT = "Sync Plus costs $9 a month or $90 a year."
OTHER = "Refunds take 30 days."
ID = "019a8f3e-7c00-7000-8000-0123456789ab"
QUESTION = "What does Sync Plus cost a month?"


def passage(n: int, document_id: str, text: str) -> dict[str, Any]:
    return {
        "n": n,
        "document_id": document_id,
        "title": document_id,
        "text": text,
        "start": 0,
        "end": len(text),
    }


def reviewed(
    *,
    conversation_id: str = "c-1",
    draft: str = "{}",
    answer: str = "Sync Plus costs $9 a month.",
    status: str = "answered",
    question: str = QUESTION,
    history: tuple[Said, ...] = (),
    fields: Any = None,
    handover: Any = None,
    **review: Any,
) -> ReviewedTurn:
    row = {
        "id": ID,
        "conversation_id": conversation_id,
        "question": question,
        "created_at": "2026-03-01T09:00:00Z",
        "status": status,
        "pinned": False,
        "versions": {"knowledge": "k-a-00000001@1", "model": "m-a-00000001", "prompt": "short"},
        "feedback": [],
        "used": {
            "hits": [{"document_id": "refunds"}, {"document_id": "plus"}],
            "passages": [passage(1, "refunds", OTHER), passage(2, "plus", TEXT)],
            "drafts": [
                {"model": "m-a-00000001", "text": "{", "failure": "schema", "attempt": "first"},
                {"model": "m-a-00000001", "text": draft, "failure": None, "attempt": "repair"},
            ]
            if handover
            else [{"model": "m-a-00000001", "text": draft, "failure": None, "attempt": "first"}],
            "handover": handover,
        },
        "answer": {
            "id": ID,
            "status": status,
            "answer": answer,
            "fields": fields or {"intent": "billing", "escalate": False},
            "citations": [{"n": 2, "document_id": "plus", "quote": TEXT, "start": 0, "end": 10}],
            "versions": {"knowledge": "k-a-00000001@1", "model": "m-a-00000001"},
            "trace_id": "ab" * 16,
        },
    }
    said = {
        "state": "closed",
        "reasons": ["sample"],
        "label": None,
        "sub": "",
        "ending": "regression_test",
        "corrected_answer": None,
        "note": "",
        "cluster": "prices",
        "closed_by": "ann",
        "closed_at": "2026-03-02T09:00:00Z",
        **review,
    }
    turn = live_turn(row, asker="customer", review=said)
    assert turn.seen is not None
    assert turn.review is not None
    return ReviewedTurn(
        turn=turn,
        seen=turn.seen,
        review=turn.review,
        history=history,
        pinned=False,
        accepted=accepted_draft(row),
    )


def test_a_right_answer_is_a_test_with_its_own_facts() -> None:
    question = regression_test(reviewed(), SCORING)
    assert (question.id, question.source) == ("turn-0123456789ab", f"turn:{ID}")
    assert (question.status, question.cluster, question.gold) == ("answerable", "prices", ("plus",))
    (fact,) = question.facts
    assert (fact.match, fact.values) == ("number", ("$9",))
    assert fact.said_in("It is $9.00 a month")
    assert not needs_facts(question)


def test_a_corrected_answer_says_what_must_be_said_and_what_must_not() -> None:
    wrong = reviewed(
        answer="Sync Plus costs $8 a month.",
        label="stale_knowledge",
        sub="choice",
        corrected_answer="It is $9 a month.",
    )
    question = regression_test(wrong, SCORING)
    assert [fact.values for fact in question.facts] == [("$9",)]
    assert question.stale_values == ("$8",)
    assert question.note == "stale_knowledge.choice\nWanted: It is $9 a month."


def test_values_of_the_question_are_no_facts() -> None:
    asked = reviewed(question="Is it $9 a month?", answer="Yes, Sync Plus costs $9 a month.")
    question = regression_test(asked, SCORING)
    assert question.facts == ()
    assert needs_facts(question)


@pytest.mark.parametrize(
    ("status", "label", "sub", "expected"),
    [
        ("abstained", None, "", "unanswerable"),
        ("answered", "hallucination", "unanswerable", "unanswerable"),
        ("abstained", "weak_reasoning", "over_abstain", "answerable"),
        ("escalated", None, "", "must_escalate"),
        ("answered", "undetermined", "", None),
    ],
)
def test_how_the_answer_should_end(status: str, label: str | None, sub: str, expected: str | None) -> None:
    question = regression_test(reviewed(status=status, label=label, sub=sub), SCORING)
    assert question.status == expected
    if expected == "unanswerable":
        assert case_of(question, question.asked_at).status == "abstained"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("label", "sub", "expected"),
    [
        ("policy_violation", "must_refuse", "must_refuse"),
        ("policy_violation", "must_escalate", "must_escalate"),
        ("policy_violation", "internal", "must_refuse"),
        ("policy_violation", "promise", None),
        ("hallucination", "unanswerable", "must_refuse"),
    ],
)
def test_policy_cases(label: str, sub: str, expected: str | None) -> None:
    question = policy_case(reviewed(label=label, sub=sub), SCORING)
    assert (question.status, question.kind) == (expected, "policy")


def test_a_training_example_has_what_the_model_saw_and_should_have_written() -> None:
    earlier = (Said(role="user", text="hi"), Said(role="assistant", text="hello"))
    example = example_of(
        reviewed(
            answer="It costs money!",
            history=earlier,
            ending="training_example",
            label="wrong_tone",
            corrected_answer="Sync Plus costs $9 a month.",
        ),
        SCORING,
    )
    assert example["kind"] == "positive"
    assert example["answer"] == {
        "intent": "billing",
        "escalate": False,
        "answer": "Sync Plus costs $9 a month.",
        "citations": [2],
    }
    assert example["rejected"] == "It costs money!"
    assert example["unsupported"] == []
    assert example["missing_fields"] == ["escalation_reason", "follow_up"]
    assert [item["role"] for item in example["history"]] == ["user", "assistant"]
    assert [item["document_id"] for item in example["passages"]] == ["refunds", "plus"]
    assert (example["conversation_id"], example["created_at"]) == ("c-1", "2026-03-01T09:00:00Z")
    assert example["versions"] == {"knowledge": "k-a-00000001@1", "model": "m-a-00000001", "prompt": "short"}
    assert example["provenance"]["reviewed_by"] == "ann"


def test_a_corrected_answer_that_the_passages_do_not_hold_is_told() -> None:
    example = example_of(
        reviewed(label="wrong_retrieval", corrected_answer="Sync Plus costs $7 a month."), SCORING
    )
    assert example["unsupported"] == ["Sync Plus costs $7 a month."]
    assert example["answer"]["citations"] == []


def test_fields_of_a_turn_that_ended_wrongly_are_nobodys_word() -> None:
    silent = reviewed(
        status="abstained", label="weak_reasoning", sub="over_abstain", corrected_answer="It is $9 a month."
    )
    example = example_of(silent, SCORING)
    assert set(example["answer"]) == {"answer", "citations"}
    assert example["missing_fields"] == ["intent", "escalate", "escalation_reason", "follow_up"]
    asked_back = example_of(reviewed(status="clarify", fields={"choices": [{"title": "Plus"}]}), SCORING)
    assert "choices" not in asked_back["answer"], "no field of the task"


@pytest.mark.parametrize(
    "review", [{}, {"label": "weak_reasoning", "sub": "passed_on_by_rule"}], ids=["no fault", "the rule's"]
)
def test_what_a_rule_passed_on_teaches_no_passing_on(review: dict[str, Any]) -> None:
    draft = {"answer": "It is $9, ann@example.org.", "citations": [2], "intent": "billing"}
    draft |= {"escalate": False, "escalation_reason": "none"}
    passed = {
        "status": "escalated",
        "answer": "It is $9, ann@example.org. I've passed it on.",
        "fields": {"intent": "billing", "escalate": True, "escalation_reason": "legal"},
        "handover": {"reason": "legal", "like": "I will sue you.", "closeness": 0.8},
        **review,
    }
    example = example_of(Cleaner(Redactor()).turn(reviewed(draft=json.dumps(draft), **passed)), SCORING)
    assert (example["kind"], example["rejected"]) == ("positive", None)
    assert example["answer"] == draft | {"answer": "It is $9, [email]."}
    nobody_asked = reviewed(draft="", **passed)
    assert example_of(nobody_asked, SCORING)["answer"] is None, "the rule's own words"


def test_without_a_right_answer_it_is_a_negative() -> None:
    example = example_of(reviewed(label="hallucination"), SCORING)
    assert (example["kind"], example["answer"]) == ("negative", None)
    assert example["rejected"] == "Sync Plus costs $9 a month."


def test_a_draft_that_was_kept_back_is_what_the_model_must_not_write() -> None:
    kept_back: dict[str, Any] = {"answer": "Something went wrong.", "status": "fallback"}
    draft = '{"answer": "Sync Plus costs $7, ann@example.org.", "citations": []}'
    wrong = reviewed(
        **kept_back, draft=draft, label="hallucination", corrected_answer="Sync Plus costs $9 a month."
    )
    clean = Cleaner(Redactor()).turn(wrong)
    assert example_of(clean, SCORING)["rejected"] == "Sync Plus costs $7, [email]."
    assert regression_test(clean, SCORING).stale_values == ("$7",)
    unreadable = reviewed(**kept_back, draft="Sync Plus costs", label="bad_format")
    assert example_of(unreadable, SCORING)["rejected"] == "Sync Plus costs"
    assert example_of(reviewed(**kept_back), SCORING)["kind"] == "negative", "nobody learns to say so"


def test_personal_data_is_taken_out_of_all_that_people_wrote() -> None:
    mail = "ann.smith@example.org"
    dirty = reviewed(
        conversation_id=mail,
        question=f"What does it cost? Write to {mail}",
        answer=f"I wrote to {mail}.",
        history=(Said(role="user", text=f"I am {mail}"),),
        label="wrong_tone",
        note=f"asked by {mail}",
        corrected_answer=f"It is $9, {mail}.",
    )
    cleaner = Cleaner(Redactor())
    clean = cleaner.turn(dirty)
    example, question = example_of(clean, SCORING), regression_test(clean, SCORING)
    assert mail not in str(example)
    assert mail not in question.canonical().decode()
    assert cleaner.found["email"] == 6
    again = cleaner.turn(reviewed(conversation_id=mail))
    assert example["conversation_id"] == again.turn.conversation_id != mail, "a conversation stays one"
    gap = {
        "name": "Prices",
        "questions": [{"asked_at": "2026-03-01T09:00:00Z"}, {"asked_at": "2026-03-04T09:00:00Z"}],
        "draft": f"# Prices\n\nThe article has to answer:\n\n- Who is {mail}?\n",
    }
    page = gaps_markdown([gap], cleaner)
    assert "## Prices" in page
    assert "Asked 2 times, 2026-03-01 to 2026-03-04." in page
    assert mail not in page
