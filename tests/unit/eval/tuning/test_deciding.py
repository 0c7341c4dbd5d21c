"""The verdict on a tuned version, and what tuning was worth in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from eval.arms import Arm, Pin
from eval.cases import Case
from eval.gating.rules import GateRules
from eval.gating.sides import Side
from eval.gating.verdicts import PolicyLine, Verdict
from eval.scoring import build_scoring
from eval.tuning.content import worth
from eval.tuning.contest import Contest
from eval.tuning.deciding import Judged, judge, rules_for
from serving.versions import SCHEMAS
from tests.fakes.gate_sides import cases, marks, side

N = 100
RULES = GateRules.model_validate({"primaries": ["fields_right"], "guards": {}, "limits": {}})
CHECKED = PolicyLine(policy="policy_violation", checked=N, broken=())


def arm(name: str, scored: dict[str, str], of: tuple[Case, ...]) -> Side:
    made = side(name, scored, of)
    return replace(made, arm=Arm(name=name, pin=Pin(knowledge="k-1@3", model=f"m-{name}-1")))


def judged(
    scored: dict[str, int],
    *,
    fixed: str = "",
    unchecked: str = "",
    rules: GateRules = RULES,
    policy: PolicyLine = CHECKED,
) -> Judged:
    """So many of a hundred right in each arm; `fixed` marks the candidate on regression questions."""
    sample = cases(N)
    again = tuple(
        Case(id=f"r{n}", topic="again", split="regression", text=f"again {n}") for n in range(len(fixed))
    )
    asked = (*sample, *again)
    extra = {"candidate": fixed, "strong": "1" * len(fixed), "stable": "1" * len(fixed)}
    sides = {
        name: arm(name, {"fields_right": marks(right, N) + extra[name]}, asked)
        for name, right in scored.items()
    }
    return judge(
        Contest(arms=tuple(each.arm for each in sides.values())),
        sides,
        asked,
        rules=rules,
        policy=policy,
        unchecked=unchecked,
        notes=(),
        min_questions=30,
        resamples=300,
        seed=1,
    )


def test_better_than_the_strong_prompt_and_no_worse_than_the_stable_version_passes() -> None:
    found = judged({"candidate": 80, "strong": 40, "stable": 80})
    assert found.verdict is Verdict.PASS
    assert found.sentence() == "PASS: m-candidate-1: better than the strong arm in fields_right."
    assert judged({"candidate": 80, "strong": 40}).verdict is Verdict.PASS


def test_better_than_the_strong_prompt_and_worse_than_the_stable_version_is_refused() -> None:
    found = judged({"candidate": 70, "strong": 40, "stable": 95})
    assert found.verdict is Verdict.REFUSED
    assert found.refusals == ("against stable: fields_right is worse by 25 points (95 then 70 of 100)",)


def test_no_gain_over_the_strong_prompt_is_refused() -> None:
    found = judged({"candidate": 60, "strong": 60, "stable": 60})
    assert found.refusals == ("against strong: no primary is better, and a gain of 10 points is ruled out",)


def test_what_was_fixed_once_must_be_right_and_is_in_no_statistics() -> None:
    assert judged({"candidate": 80, "strong": 40}, fixed="111").verdict is Verdict.PASS
    found = judged({"candidate": 80, "strong": 40}, fixed="110")
    assert found.refusals == ("regression set: 1 of 3 questions fail (r2)",)
    assert [decision.questions for decision in found.decisions.values()] == [N]
    open_ = judged({"candidate": 80, "strong": 40}, fixed="11-")
    assert (open_.verdict, open_.refusals) == (Verdict.NOT_ENOUGH, ())
    assert "1 of 3 questions have no result (r2 has no score" in open_.lacks[0]


def test_a_policy_that_was_broken_is_said_once() -> None:
    broken = PolicyLine(policy="policy_violation", checked=N, broken=("q001",))
    found = judged({"candidate": 80, "strong": 40, "stable": 60}, policy=broken)
    assert found.refusals == ("policy_violation: 1 of 100 answers break it (q001)",)


def test_questions_that_nobody_held_against_the_training_rows_decide_nothing() -> None:
    found = judged({"candidate": 80, "strong": 40}, unchecked="nobody has looked")
    assert (found.verdict, found.lacks) == (Verdict.NOT_ENOUGH, ("nobody has looked",))
    assert judged({"candidate": 30, "strong": 60}, unchecked="nobody").verdict is Verdict.REFUSED


def test_the_form_is_never_what_a_tuned_version_is_asked_for() -> None:
    support, routing = (
        rules_for(build_scoring(schema=SCHEMAS / f"{task}.json"))
        for task in ("support_answer", "ticket_routing")
    )
    assert support.primaries == routing.primaries == ("fields_right",)
    assert support.guards["hallucination_served"].must_be_shown
    assert routing.zero_tolerance == ()


def row(name: str, says: str, first: int, second: int) -> dict[str, Any]:
    rate = {"n": 40, "value": 0.5}
    return {
        "name": name,
        "arms": {"strong": {"k": first, **rate}, "candidate": {"k": second, **rate}},
        "against": {"strong": {"says": says}},
    }


def test_it_says_plainly_where_tuning_did_not_help() -> None:
    form = row("format_valid", "better", 0, 40)
    tone, fields = row("tone_kept", "worse", 40, 20), row("fields_right", "not shown", 16, 18)
    better, worse, open_, only = worth([form, tone, fields], ["strong"])
    assert (
        better == "Against the strong prompt the candidate is better in format_valid (0 of 40 then 40 of 40)."
    )
    assert worse == "It is worse in tone_kept (40 of 40 then 20 of 40)."
    assert open_ == "Tuning is not shown to have helped in fields_right (16 of 40 then 18 of 40)."
    assert only.startswith("Only the form is better, and valid JSON alone is no reason to tune")
    nothing = list(worth([fields], ["strong"]))
    assert nothing[0] == "Against the strong prompt the candidate is not shown to be better in anything."
    gained = row("fields_right", "better", 10, 30)
    assert len(list(worth([form, gained], ["strong"]))) == 1, "the form is not all that it has"
