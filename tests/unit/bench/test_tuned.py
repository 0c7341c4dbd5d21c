"""Scores of drafts: what counts as right, and that recorded drafts can be scored again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.model_tuned import RECORDED, Draft, read_drafts, recorded, score, table

QUESTION = {
    "id": "a",
    "facts": [["$90"], ["6 devices"]],
    "side_facts": ["6 devices"],
    "stale_values": ["$80"],
    "status": "answered",
    "gold": ["plans"],
    "intent": "billing",
    "escalate": False,
    "escalation_reason": "none",
}
DUE = {**QUESTION, "facts": [], "side_facts": [], "gold": [], "status": "abstained"}


def draft(answer: str, **changes: Any) -> dict[str, Draft]:
    said = {
        "answer": answer,
        "citations": [2],
        "intent": "billing",
        "escalate": False,
        "escalation_reason": "none",
        "follow_up": "",
    }
    return {"a": Draft(id="a", text=json.dumps({**said, **changes}), documents={"2": "plans"})}


def test_the_vital_fact_with_the_right_fields_is_right() -> None:
    found = score([QUESTION], draft("Plus costs $90 a year."))
    assert {name for name, (outcome,) in found.items() if outcome} == {
        *("vital facts, nothing stale, right status", "and all fields", "fits the schema"),
        *("tone", "vital facts", "cites gold"),
    }


@pytest.mark.parametrize("answer", ["Plus costs $70.", "It was $80 and is $90 a year."])
def test_a_missing_fact_or_a_stale_value_is_wrong(answer: str) -> None:
    assert score([QUESTION], draft(answer))["vital facts, nothing stale, right status"] == [False]


def test_abstaining_is_right_only_when_it_is_due() -> None:
    said = draft("I can't find that.", citations=[], escalate=True, escalation_reason="not_in_help_centre")
    assert score([DUE], said)["abstained when due"] == [True]
    assert score([QUESTION], said)["abstained though there is an answer"] == [True]
    assert score([QUESTION], said)["vital facts, nothing stale, right status"] == [False]


def test_a_draft_that_is_no_json_is_wrong_and_breaks_nothing() -> None:
    found = score([QUESTION], {"a": Draft(id="a", text="{oops", documents={})})
    assert found["fits the schema"] == [False]


def test_both_sides_are_counted_and_paired(capsys: pytest.CaptureFixture[str]) -> None:
    right, wrong = score([QUESTION], draft("$90")), score([QUESTION], draft("no"))
    row = table({"shipped": wrong, "adapter": right})[0]
    assert (row["shipped"], row["adapter"], row["p"]) == ([0, 1], [1, 1], 1.0)
    assert "adapter   1/  1" in capsys.readouterr().out


def test_the_recorded_drafts_are_of_questions_that_the_shipped_version_was_asked() -> None:
    assert len(set(read_drafts(RECORDED)) & {each.id for each in recorded()}) == 52
