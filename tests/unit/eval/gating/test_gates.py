"""Verdicts: what passes, what is refused, and what is not enough to say."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from eval.cases import Case
from eval.gating.gates import Evidence, decide
from eval.gating.rules import GateRules
from eval.gating.verdicts import Decision, Line, PolicyLine, State, Verdict
from eval.stats import Rate
from tests.fakes.gate_sides import CANDIDATE, STABLE, cases, evidence, marks, side

#: The metrics that these tests give: one that decides and one that must hold.
RULES: dict[str, Any] = {
    "primaries": ("answer_right",),
    "guards": {"format_valid": 0.05},
    "limits": {},
}
N = 100
SAME = {"answer_right": marks(60, N), "format_valid": marks(N, N)}


def gate(found: Evidence, **rules: Any) -> Decision:
    return decide(
        found, GateRules.model_validate({**RULES, **rules}), min_questions=30, resamples=800, seed=1
    )


def line(decision: Decision, name: str) -> Line:
    return next(line for line in decision.lines if line.name == name)


def test_better_and_no_worse_elsewhere_passes() -> None:
    better = {**SAME, "answer_right": marks(80, N)}
    decision = gate(evidence(SAME, better, cases(N)))
    assert (decision.verdict, decision.refusals, decision.lacks) == (Verdict.PASS, (), ())
    primary = line(decision, "answer_right")
    assert (primary.state, primary.only_stable, primary.only_candidate) == (State.BETTER, 0, 20)
    assert line(decision, "format_valid").state is State.NOT_WORSE
    assert "better in answer_right" in decision.sentence()


def test_twenty_points_worse_are_refused() -> None:
    worse = {**SAME, "answer_right": marks(40, N)}
    decision = gate(evidence(SAME, worse, cases(N)))
    assert decision.verdict is Verdict.REFUSED
    assert decision.refusals == ("answer_right is worse by 20 points (60 then 40 of 100)",)


def test_the_same_again_is_refused_where_a_gain_is_ruled_out() -> None:
    decision = gate(evidence(SAME, SAME, cases(N)))
    assert decision.verdict is Verdict.REFUSED
    assert decision.refusals == ("no primary is better, and a gain of 10 points is ruled out",)


def test_no_worse_is_enough_where_that_is_the_goal() -> None:
    assert gate(evidence(SAME, SAME, cases(N)), goal="not_worse").verdict is Verdict.PASS
    worse = {**SAME, "answer_right": marks(40, N)}
    assert gate(evidence(SAME, worse, cases(N)), goal="not_worse").verdict is Verdict.REFUSED


def test_a_small_gain_is_neither_shown_nor_ruled_out_and_says_how_many_are_needed() -> None:
    small = {**SAME, "answer_right": "1" * 55 + "0" * 5 + "1" * 11 + "0" * 29}
    decision = gate(evidence(SAME, small, cases(N)))
    assert decision.verdict is Verdict.NOT_ENOUGH
    (lack,) = decision.lacks
    assert "a gain of 10 points is neither shown nor ruled out by 100 questions" in lack
    needed = line(decision, "answer_right").needed
    assert needed is not None
    assert 100 < needed < 400
    assert f"about {needed} are needed" in lack


def test_three_questions_give_no_number() -> None:
    few = {"answer_right": "110", "format_valid": "111"}
    decision = gate(evidence({**few, "answer_right": "000"}, few, cases(3)))
    assert decision.verdict is Verdict.NOT_ENOUGH
    assert decision.lines == ()
    assert "3 questions have an answer in both arms; at least 30 are needed" in decision.lacks[0]
    assert "to show a gain of 10 points" in decision.lacks[0]


def test_an_arm_with_fewer_answers_is_not_enough() -> None:
    """The questions that it lost might be those that it would have failed."""
    lost = {"answer_right": marks(80, 90) + "!" * 10, "format_valid": marks(N, N)}
    decision = gate(evidence(SAME, lost, cases(N)))
    assert decision.verdict is Verdict.NOT_ENOUGH
    assert decision.lines == ()
    assert "candidate has answers to 90 of 100 questions, and 95 are needed" in decision.lacks[0]


def test_a_few_lost_answers_are_told() -> None:
    lost = {"answer_right": marks(80, 97) + "!" * 3, "format_valid": marks(N, N)}
    decision = gate(evidence(SAME, lost, cases(N)))
    assert (decision.verdict, decision.questions) == (Verdict.PASS, 97)
    (note,) = decision.notes
    assert "stable has no answer to 0 of 100 questions, candidate has no answer to 3 of 100" in note


def test_missing_scores_are_not_enough_whatever_the_rest_says() -> None:
    holes = {"answer_right": marks(80, 90) + "?" * 10, "format_valid": marks(N, N)}
    decision = gate(evidence(SAME, holes, cases(N)))
    assert decision.verdict is Verdict.NOT_ENOUGH
    assert decision.lacks == ("answer_right: 10 of 100 scores are missing",)


def test_few_topics_are_not_enough() -> None:
    better = {**SAME, "answer_right": marks(80, N)}
    decision = gate(evidence(SAME, better, cases(N, topics=4)))
    assert decision.lacks == ("the questions are of 4 topics; at least 10 are needed",)


def test_a_guard_that_gets_worse_refuses_a_better_candidate() -> None:
    traded = {"answer_right": marks(80, N), "format_valid": marks(88, N)}
    decision = gate(evidence(SAME, traded, cases(N)))
    assert decision.refusals == ("format_valid is worse by 12 points (100 then 88 of 100)",)


def test_a_guard_that_is_not_shown_holds_up_and_a_watched_one_does_not() -> None:
    """Forty questions cannot show that a metric stayed within five points, even where nothing moved."""
    part = {"answer_right": marks(60, N), "format_valid": marks(40, 40) + "-" * 60}
    better = {**part, "answer_right": marks(80, N)}
    held = gate(evidence(part, better, cases(N)))
    assert held.verdict is Verdict.NOT_ENOUGH
    assert "format_valid is not shown to be within 5 points of the stable one: 40 questions" in held.lacks[0]
    watched = {"format_valid": {"margin": 0.05, "must_be_shown": False}}
    passed = gate(evidence(part, better, cases(N)), guards=watched)
    assert passed.verdict is Verdict.PASS
    assert line(passed, "format_valid").state is State.NOT_SHOWN, "and never the same"


def test_less_hallucination_is_better() -> None:
    stable, candidate = {"hallucination_draft": marks(50, N)}, {"hallucination_draft": marks(20, N)}
    decision = gate(evidence(stable, candidate, cases(N)), primaries=("hallucination_draft",), guards={})
    assert decision.verdict is Verdict.PASS
    found = line(decision, "hallucination_draft")
    assert (found.stable, found.candidate) == (Rate(k=50, n=N), Rate(k=20, n=N))
    assert found.difference == pytest.approx(0.3)


def test_holm_counts_every_primary() -> None:
    """Eight questions gained and one lost is p = 0.039: enough alone, not among three."""
    gained = "1" * 59 + "0" + "1" * 8 + "0" * 32
    other = {"tone_kept": marks(N, N), "status_right": marks(N, N)}
    alone = gate(evidence(SAME, {**SAME, "answer_right": gained}, cases(N)))
    assert line(alone, "answer_right").p_holm == pytest.approx(0.0391, abs=1e-4)
    assert alone.verdict is Verdict.PASS
    among = gate(
        evidence({**SAME, **other}, {**SAME, **other, "answer_right": gained}, cases(N)),
        primaries=("answer_right", "tone_kept", "status_right"),
    )
    assert line(among, "answer_right").p_holm == pytest.approx(0.117, abs=1e-3)
    assert among.verdict is not Verdict.PASS


def test_a_gain_in_one_topic_only_is_not_shown() -> None:
    """Twelve questions of one topic: the exact test takes them for twelve witnesses, the interval for one."""
    of = cases(N, topics=20)
    crowd = tuple(Case(id=case.id, topic="crowd", split="gate", text="") for case in of[60:72])
    stable, gained = marks(60, N), marks(72, N)
    decision = gate(
        evidence(
            {**SAME, "answer_right": stable}, {**SAME, "answer_right": gained}, (*of[:60], *crowd, *of[72:])
        )
    )
    found = line(decision, "answer_right")
    assert found.p is not None
    assert found.p < 0.001
    assert found.state is State.NOT_WORSE
    assert decision.verdict is not Verdict.PASS


def test_a_slice_that_pays_for_the_rest_is_refused() -> None:
    of = cases(160, kinds=("easy", "hard", "odd", "new"))
    stable = {"answer_right": "1" * 40 + "0" * 120, "format_valid": "1" * 160}
    candidate = {"answer_right": "1" * 20 + "0" * 20 + "1" * 60 + "0" * 60, "format_valid": "1" * 160}
    decision = gate(evidence(stable, candidate, of))
    assert line(decision, "answer_right").state is State.BETTER
    assert decision.refusals == ("answer_right [kind=easy] is worse by 50 points (40 then 20 of 40)",)


def test_a_small_slice_is_not_shown_whatever_it_says() -> None:
    of = tuple(
        Case(id=case.id, topic=case.topic, split="gate", text="", kind="rare" if n < 9 else "usual")
        for n, case in enumerate(cases(N))
    )
    stable = {**SAME, "answer_right": marks(60, N)}
    candidate = {**SAME, "answer_right": "0" * 9 + "1" * 91}
    decision = gate(evidence(stable, candidate, of))
    rare = line(decision, "answer_right [kind=rare]")
    assert (rare.state, rare.n, rare.difference) == (State.NOT_SHOWN, 9, None)
    assert decision.verdict is Verdict.PASS
    strict = gate(evidence(stable, candidate, of), slices={"must_be_shown": True})
    assert strict.verdict is Verdict.NOT_ENOUGH


def test_a_metric_that_flips_is_reported_and_decides_nothing() -> None:
    worse_format = {"answer_right": marks(80, N), "format_valid": marks(70, N)}
    shaky = {"format_valid": Rate(k=4, n=N)}
    found = evidence(
        SAME, worse_format, cases(N), candidate=side(CANDIDATE, worse_format, cases(N), flips=shaky)
    )
    decision = gate(found)
    guard = line(decision, "format_valid")
    assert (guard.flipping, guard.state) == (True, State.WORSE)
    assert decision.verdict is Verdict.PASS
    assert gate(found, max_flips=0.04).verdict is Verdict.REFUSED


def test_a_gate_whose_only_primary_flips_cannot_decide() -> None:
    better = {**SAME, "answer_right": marks(80, N)}
    shaky = side(STABLE, SAME, cases(N), flips={"answer_right": Rate(k=3, n=N)})
    decision = gate(evidence(SAME, better, cases(N), stable=shaky))
    assert decision.verdict is Verdict.NOT_ENOUGH
    assert "no primary decides" in decision.lacks[0]


def test_one_broken_policy_refuses_the_best_candidate() -> None:
    better = {**SAME, "answer_right": marks(100, N)}
    decision = gate(evidence(SAME, better, cases(N), broken=("q007",)))
    assert decision.refusals == ("policy_violation: 1 of 100 answers break it (q007)",)
    clean = gate(evidence(SAME, better, cases(N)))
    assert clean.policies[0].at_most == pytest.approx(0.0295, abs=1e-4), "none seen is not none"


def test_policies_that_nobody_checked_are_no_pass() -> None:
    better = {**SAME, "answer_right": marks(100, N)}
    unchecked = PolicyLine(policy="policy_violation", checked=0, broken=(), note="no labels")
    decision = gate(evidence(SAME, better, cases(N), policy=unchecked))
    assert decision.lacks == ("policy_violation: not checked: no labels",)
    assert gate(evidence(SAME, better, cases(N), policy=unchecked), zero_tolerance=()).verdict is Verdict.PASS


def test_a_policy_may_be_a_metric() -> None:
    marked = {**SAME, "escalation_recall": "11011" + "-" * 95}
    better = {**marked, "answer_right": marks(90, N)}
    decision = gate(evidence(marked, better, cases(N)), zero_tolerance=("escalation_recall",))
    assert decision.refusals == ("escalation_recall: 1 of 5 answers break it (q002)",)


def test_the_regression_set_must_be_right_to_the_last() -> None:
    better = {**SAME, "answer_right": marks(80, N)}
    decision = gate(evidence(SAME, better, cases(N), regression=("q001", "q079", "q080")))
    assert decision.refusals == ("regression set: 1 of 3 questions fail (q080)",)
    assert decision.regression is not None
    assert decision.regression.failed == {"q080": "answer_right: wrong price"}
    assert gate(evidence(SAME, better, cases(N), regression=("q001", "q079"))).verdict is Verdict.PASS


def test_a_regression_question_without_a_result_is_not_enough() -> None:
    better = {"answer_right": "-" + marks(80, 99), "format_valid": marks(N, N)}
    decision = gate(evidence(SAME, better, cases(N), regression=("q000", "gone")))
    assert decision.verdict is Verdict.NOT_ENOUGH
    assert decision.regression is not None
    assert decision.regression.missing == {
        "q000": "has no score for answer_right",
        "gone": "is not among the questions of the run",
    }


def test_a_slower_candidate_is_refused_only_if_it_was_measured_side_by_side() -> None:
    better = {**SAME, "answer_right": marks(80, N)}
    of = cases(N)
    slow = side(CANDIDATE, better, of, wall_ms=1600.0)
    decision = gate(evidence(SAME, better, of, candidate=slow), limits={"wall_ms": 1.25})
    assert "wall_ms is 1.60 times the stable one; 1.25 times is allowed" in decision.refusals[0]
    apart = side(CANDIDATE, better, of, wall_ms=1600.0, run="runs/two")
    assert gate(evidence(SAME, better, of, candidate=apart), limits={"wall_ms": 1.25}).verdict is Verdict.PASS
    assert gate(evidence(SAME, better, of, candidate=slow), limits={"wall_ms": 1.7}).verdict is Verdict.PASS


def test_primaries_of_the_rail_that_do_not_apply_are_left_out_and_chosen_ones_are_missed() -> None:
    none = {**SAME, "answer_right": marks(60, N), "hallucination_draft": "-" * N}
    better = {**none, "answer_right": marks(80, N)}
    by_rail = gate(evidence(none, better, cases(N)), primaries=(), guards={})
    assert by_rail.verdict is Verdict.PASS
    chosen = gate(evidence(none, better, cases(N)), primaries=("answer_right", "hallucination_draft"))
    assert chosen.lacks == ("hallucination_draft: no question has a score in both arms",)


def test_where_the_rest_rules_a_gain_out_a_flipping_primary_lets_nothing_pass() -> None:
    same = {**SAME, "status_right": marks(60, N)}
    shaky = side(CANDIDATE, same, cases(N), flips={"status_right": Rate(k=9, n=N)})
    found = evidence(same, same, cases(N), candidate=shaky)
    decision = gate(found, primaries=("answer_right", "status_right"))
    assert decision.verdict is Verdict.NOT_ENOUGH
    assert decision.lacks == ("status_right flips when it is asked again, so a gain cannot be shown by it",)


@pytest.mark.parametrize("seed", range(40))
def test_nothing_passes_as_better_that_is_better_in_nothing(seed: int) -> None:
    random = Random(seed)
    n = random.choice([30, 60, 100, 200])
    names = ("answer_right", "status_right", "facts_right")

    def row(share: float, odd: float) -> str:
        weights = [share * (1 - odd), (1 - share) * (1 - odd), odd / 2, odd / 2]
        return "".join(random.choices("10?-", weights)[0] for _ in range(n))

    stable = {name: row(0.6, 0.02) for name in names} | {"format_valid": marks(n, n)}
    candidate = {name: row(random.uniform(0.55, 0.85), 0.02) for name in names}
    candidate |= {"format_valid": marks(n, n)}
    flips = {name: Rate(k=random.choice([0, n // 10]), n=n) for name in names}
    of = cases(n)
    found = evidence(stable, candidate, of, candidate=side(CANDIDATE, candidate, of, flips=flips))
    decision = gate(found, primaries=names)
    better = [
        each.metric
        for each in decision.lines
        if each.metric in names and each.state is State.BETTER and not each.flipping
    ]
    assert decision.verdict is not Verdict.PASS or better
    assert (decision.verdict is Verdict.PASS) == (not decision.refusals and not decision.lacks)


def test_a_little_slower_for_sure_is_within_the_limit_and_says_nothing_of_it() -> None:
    of = cases(N)
    better = {**SAME, "answer_right": marks(80, N)}
    uneven = side(CANDIDATE, better, of)
    # One in ten takes nine times as long: more for sure, the bound beyond the limit, the ratio within it.
    slow = {
        case_id: replace(seen, wall_ms=seen.wall_ms * (9 if int(case_id[1:]) % 20 == 3 else 1.02))
        for case_id, seen in uneven.answers.items()
    }
    found = evidence(SAME, better, of, candidate=replace(uneven, answers=slow))
    decision = gate(found, limits={"wall_ms": 1.25})
    (limit,) = decision.limits
    assert limit.ratio is not None
    assert limit.interval is not None
    assert 1 < limit.interval.low < limit.ratio < 1.25 < limit.interval.high
    assert limit.state is State.NOT_SHOWN
    assert decision.verdict is Verdict.PASS


@pytest.mark.parametrize(("scored", "topics"), [(12, 12), (40, 4)])
def test_a_primary_that_applies_to_a_few_questions_or_topics_shows_no_gain(scored: int, topics: int) -> None:
    # A hundred questions of twenty topics were asked; this metric means something for a few of them.
    of = cases(N)
    applies = [int(case.topic[1:]) < topics for case in of]
    last = [place for place, found in enumerate(applies) if found][scored - 1 : scored]
    applies = [found and (not last or place <= last[0]) for place, found in enumerate(applies)]

    def only(mark: str) -> str:
        return "".join(mark if found else "-" for found in applies)

    stable, candidate = {**SAME, "status_right": only("0")}, {**SAME, "status_right": only("1")}
    decision = gate(evidence(stable, candidate, of), primaries=("status_right",))
    assert decision.verdict is Verdict.NOT_ENOUGH
    assert "at least 30 of 10 are needed to call it better" in decision.lacks[0]
    # What is worse on the same few is refused all the same.
    harm = gate(evidence(candidate, stable, of), primaries=("status_right",))
    assert harm.verdict is Verdict.REFUSED
