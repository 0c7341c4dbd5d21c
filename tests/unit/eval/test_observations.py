"""An observation is kept as it was read, and those of earlier versions are still read."""

from __future__ import annotations

from typing import Any

from eval.arms import Arm, Pin
from eval.cases import Case
from eval.observations import Observation
from eval.turn_wire import read_observation

CASE = Case(id="q1", topic="t", split="dev", text="A charge is wrong, what does it cost?")
BODY: dict[str, Any] = {"id": "t-1", "status": "escalated", "answer": "It is $9."}


def read(**used: Any) -> Observation:
    return read_observation(BODY, {"used": used}, case=CASE, arm=Arm(name="rag", pin=Pin()), wall_ms=1.0)


def test_the_reason_of_a_rule_is_read_and_kept() -> None:
    seen = read(handover={"reason": "legal", "like": "I will sue you.", "closeness": 0.8})
    assert seen.handover == "legal"
    assert Observation.from_json(seen.as_json()) == seen


def test_turns_without_a_rule_and_rows_of_earlier_versions_name_none() -> None:
    assert read(handover=None).handover == read().handover == ""
    row = {name: value for name, value in read().as_json().items() if name != "handover"}
    assert Observation.from_json(row).handover == ""
