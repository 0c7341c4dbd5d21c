"""What a finished draft amounts to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.outcome import Parsed, Unfit, parse_draft, status_of, text_field, text_of, validator_of
from gateway.schemas.answers import Status
from serving.versions import SCHEMAS, load_task_schema
from serving.wording import load_wording

SUPPORT = load_task_schema(SCHEMAS / "support_answer.json")
ROUTING = load_task_schema(SCHEMAS / "ticket_routing.json")


def draft(**changes: Any) -> dict[str, Any]:
    return {
        "answer": "It is $9.",
        "citations": [1],
        "intent": "billing",
        "escalate": False,
        "escalation_reason": "none",
        "follow_up": "",
    } | changes


def parse(value: Any) -> Parsed | Unfit:
    text = value if isinstance(value, str) else json.dumps(value)
    return parse_draft(text, validator=validator_of(SUPPORT), field=text_field(SUPPORT))


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, Status.ANSWERED),
        ({"escalate": True, "escalation_reason": "legal"}, Status.ESCALATED),
        ({"escalate": True, "escalation_reason": "not_in_help_centre"}, Status.ABSTAINED),
        ({"answer": "", "follow_up": "Which plan?"}, Status.CLARIFY),
        ({"answer": " ", "follow_up": " "}, None),
    ],
)
def test_status(changes: dict[str, Any], status: Status | None) -> None:
    parsed = parse(draft(**changes))
    assert isinstance(parsed, Parsed)
    assert status_of(parsed) is status


@pytest.mark.parametrize(("escalate", "status"), [(True, Status.ESCALATED), (False, Status.ANSWERED)])
def test_a_cited_answer_is_no_abstention_whatever_reason_it_names(escalate: bool, status: Status) -> None:
    parsed = parse(draft(escalate=escalate, escalation_reason="not_in_help_centre"))
    assert isinstance(parsed, Parsed)
    assert status_of(parsed, cited=True) is status
    assert status_of(parsed, cited=False) is Status.ABSTAINED


@pytest.mark.parametrize("field", ["not_in_help_centre", "off_topic", "abusive"])
def test_a_fixed_wording_that_answers_nothing_is_an_abstention(field: str) -> None:
    wording = load_wording()
    text = getattr(wording, field)
    parsed, more = parse(draft(answer=f" {text}\n")), parse(draft(answer=f"{text} It is $9."))
    assert isinstance(parsed, Parsed)
    assert isinstance(more, Parsed)
    assert status_of(parsed, wording=wording) is Status.ABSTAINED
    assert status_of(parsed, cited=True, wording=wording) is Status.ANSWERED
    assert status_of(more, wording=wording) is Status.ANSWERED
    passed_on = parse(draft(answer=text, escalate=True, escalation_reason="asked_for_person"))
    assert isinstance(passed_on, Parsed)
    assert status_of(passed_on, wording=wording) is Status.ESCALATED


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"escalate": True, "escalation_reason": "legal"}, "passing_on"),
        ({"escalate": True, "escalation_reason": "not_in_help_centre"}, "not_in_help_centre"),
    ],
)
def test_where_the_model_says_nothing_the_customer_reads_the_fixed_wording(
    changes: dict[str, Any], field: str
) -> None:
    parsed = parse(draft(answer=" ", follow_up="Your refund was approved.", **changes))
    assert isinstance(parsed, Parsed)
    status = status_of(parsed)
    assert status is not None
    assert text_of(parsed, status, load_wording()) == getattr(load_wording(), field)


def test_fields_stand_apart_from_answer_and_citations() -> None:
    parsed = parse(draft(citations=[1, 2]))
    assert isinstance(parsed, Parsed)
    assert parsed.cited == (1, 2)
    assert set(parsed.fields) == {"intent", "escalate", "escalation_reason", "follow_up"}


@pytest.mark.parametrize(
    "bad",
    ["", "{", "[]", draft(intent="weather"), draft(extra=1), {"answer": "x"}, draft(citations=["1"])],
)
def test_what_does_not_fit(bad: Any) -> None:
    assert isinstance(parse(bad), Unfit)


def test_a_task_without_an_answer_field_is_its_own_text() -> None:
    assert text_field(ROUTING) is None
    value: dict[str, Any] = {}
    for name, schema in ROUTING["properties"].items():
        value[name] = schema["enum"][0] if "enum" in schema else "because"
    text = json.dumps(value)
    parsed = parse_draft(text, validator=validator_of(ROUTING), field=None)
    assert isinstance(parsed, Parsed)
    assert parsed.answer == text
    assert parsed.fields == value
