"""Every rule with the fewest checks that make it fire, and what stands upstream of it."""

from __future__ import annotations

import pytest

from eval.labelling.checks import KINDS, check
from eval.labelling.labels import Check, Label, Outcome
from eval.labelling.rules import CONTRIBUTING_ONLY, COVERAGE_GAP, RULES, decide

#: A turn on which everything went well.
FINE: dict[str, bool | None] = {
    "ran": True,
    "answerable": True,
    "in_scope": True,
    "must_refuse": False,
    "must_escalate": False,
    "status_right": True,
    "abstained": False,
    "asked_back": False,
    "no_promise": True,
    "no_personal_data": True,
    "nothing_internal": True,
    "given": True,
    "known": True,
    "current": True,
    "shown": True,
    "enough": True,
    "old_in_context": False,
    "repaired": False,
    "complete": True,
    "valid": True,
    "told": True,
    "facts_right": True,
    "some_facts": True,
    "old_said": False,
    "supported": True,
    "cited": True,
    "tone_kept": True,
}
#: How a fault shows beside the check that its rule is about.
WRONG: dict[str, bool | None] = {
    "status_right": False,
    "told": False,
    "facts_right": False,
    "some_facts": False,
}
NOT_THERE: dict[str, bool | None] = {
    **WRONG,
    "abstained": True,
    "enough": False,
    "old_live": False,
    "stored": True,
}
NOT_FOUND: dict[str, bool | None] = {
    **NOT_THERE,
    "readable": True,
    "found": True,
    "findable": True,
    "fact_found": True,
}
#: Rule -> what differs from a turn on which everything went well.
CASES: dict[str, dict[str, bool | None]] = {
    "1a": {"nothing_internal": False},
    "1b": {"no_personal_data": False},
    "1c": {"no_promise": False},
    "1d": {"answerable": False, "must_refuse": True, "refused": False, "status_right": False},
    "1e": {"must_escalate": True, "handed_over": False, "status_right": False},
    "2a": {**WRONG, "given": False, "supported": False},
    "2b": {**NOT_THERE, "known": False, "old_live": True},
    "2c": {**NOT_THERE, "known": False, "stored": False},
    "2d": {**NOT_THERE, "known": False},
    "2e": {**NOT_THERE, "current": False, "live_now": True, "in_force": False},
    "2f": {**NOT_THERE, "current": False, "live_now": True, "in_force": True},
    "2g": {**NOT_THERE, "current": False, "live_now": False, "old_live": True},
    "2h": {**NOT_THERE, "current": False, "live_now": False},
    "3a": {**NOT_FOUND, "old_in_context": True, "found": False, "old_said": True},
    "3b": {**NOT_FOUND, "readable": False, "found": False, "findable": False},
    "3c": {**NOT_FOUND, "shown": False},
    "3d": {**NOT_FOUND, "found": False},
    "3e": NOT_FOUND,
    "3f": {**NOT_FOUND, "fact_found": False},
    "3g": {**NOT_FOUND, "found": False, "findable": False},
    "3h": {**NOT_FOUND, "found": None, "findable": None, "fact_found": None, "shown": True},
    "4a": {**WRONG, "complete": False, "valid": False},
    "4b": {**WRONG, "valid": False},
    "5a": {"answerable": False, "supported": False, "status_right": False},
    "5b": {"answerable": False, "status_right": False},
    "5c": {"answerable": False, "abstained": True, "supported": False},
    "5e": {"answerable": False, "abstained": True, "by_rule": True, "status_right": False},
    "6a": {**WRONG, "old_said": True},
    "6b": {**WRONG, "abstained": True},
    "6c": {**WRONG, "asked_back": True},
    "6d": {**WRONG, "status_right": True, "supported": False},
    "6e": {**WRONG, "status_right": True, "some_facts": True},
    "6f": {**WRONG, "status_right": True},
    "7a": {"told": False, "status_right": False, "supported": False},
    "7b": {"supported": False},
    "7c": {"cited": False},
    "7d": {"old_said": True, "enough": False},
    "7e": {"must_escalate": True, "handed_over": True, "status_right": False},
    "7f": {"status_right": False},
    "7g": {"by_rule": True, "status_right": False},
    "8": {"tone_kept": False},
}
BY_ID = {rule.id: rule for rule in RULES}


def made(differs: dict[str, bool | None]) -> list[Check]:
    values = {**FINE, **differs}
    return [check(name, values[name], "", checker="test") for name in KINDS if name in values]


def test_a_turn_on_which_all_went_well_has_no_label() -> None:
    assert decide(made({})) == (Outcome.PASSED, None, ())


@pytest.mark.parametrize("rule_id", CASES)
def test_each_rule_fires_on_its_fault_and_comes_first(rule_id: str) -> None:
    decision = decide(made(CASES[rule_id]))
    assert decision.outcome is Outcome.FAILED
    assert decision.primary is not None
    assert decision.primary.rule == rule_id, decision
    assert (decision.primary.label, decision.primary.sub) == (BY_ID[rule_id].label, BY_ID[rule_id].sub)
    assert set(decision.primary.evidence) == set(BY_ID[rule_id].when)


def test_no_rule_is_left_untested_or_names_a_check_that_is_never_made() -> None:
    assert {rule.id for rule in RULES} - CONTRIBUTING_ONLY == set(CASES)
    assert len({rule.id for rule in RULES}) == len(RULES)
    for rule in (*RULES, COVERAGE_GAP):
        assert set(rule.when) <= set(KINDS), rule.id


@pytest.mark.parametrize(
    ("upstream", "downstream"),
    [("2c", "4b"), ("2b", "6d"), ("3c", "8"), ("4b", "8"), ("6d", "8"), ("1c", "2c"), ("1b", "7a")],
)
def test_of_two_faults_the_upstream_one_is_primary(upstream: str, downstream: str) -> None:
    both = {**CASES[downstream], **CASES[upstream]}
    both |= {
        name: value
        for name, value in CASES[downstream].items()
        if name in ("supported", "tone_kept", "valid")
    }
    decision = decide(made(both))
    assert decision.primary is not None
    assert decision.primary.label is BY_ID[upstream].label
    assert BY_ID[downstream].label in {finding.label for finding in decision.contributing}


def test_a_cause_that_cannot_be_told_is_open_though_something_else_is_wrong_too() -> None:
    decision = decide(made({**NOT_THERE, "known": None, "current": None, "supported": False}))
    assert decision.primary is not None
    assert decision.primary.label is Label.UNDETERMINED
    assert "known" in decision.primary.evidence
    assert [finding.label for finding in decision.contributing] == [Label.HALLUCINATION]


def test_what_only_refines_a_label_does_not_keep_it_open() -> None:
    decision = decide(made({**NOT_FOUND, "fact_found": None}))
    assert decision.primary is not None
    assert (decision.primary.label, decision.primary.sub) == (Label.WRONG_RETRIEVAL, "")


def test_staff_look_ups_that_were_not_made_keep_nothing_open() -> None:
    decision = decide(made({"nothing_internal": None, "tone_kept": False}))
    assert decision.primary is not None
    assert decision.primary.label is Label.WRONG_TONE


def test_a_failure_that_no_rule_explains_is_open() -> None:
    decision = decide(made({"answerable": False, "abstained": True, "status_right": False}))
    assert decision.primary is not None
    assert (decision.primary.label, decision.primary.rule) == (Label.UNDETERMINED, "10")
    assert decision.primary.evidence == ("status_right",)


def test_an_error_of_the_machinery_is_no_failure() -> None:
    assert decide([check("ran", False, "504")]) == (Outcome.RUN_ERROR, None, ())


def test_a_repair_that_was_served_leaves_a_note_and_no_failure() -> None:
    decision = decide(made({"repaired": True, "valid": False, "draft_supported": False}))
    assert decision.outcome is Outcome.PASSED
    assert [(each.label, each.sub) for each in decision.contributing] == [
        (Label.BAD_FORMAT, "repaired"),
        (Label.HALLUCINATION, "repaired"),
    ]


def test_a_question_rightly_not_answered_is_a_gap_for_the_owner_of_the_content() -> None:
    decision = decide(made({"answerable": False, "abstained": True}))
    assert decision.outcome is Outcome.PASSED
    assert [(each.label, each.sub) for each in decision.contributing] == [
        (Label.MISSING_KNOWLEDGE, "coverage_gap")
    ]


def test_a_check_that_does_not_apply_fires_nothing() -> None:
    no_draft = [each for each in made(NOT_FOUND) if each.name not in ("valid", "complete", "repaired")]
    decision = decide(no_draft)
    assert decision.primary is not None
    assert decision.primary.label is Label.WRONG_RETRIEVAL
