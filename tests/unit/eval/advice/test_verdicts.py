"""Each verdict from logs whose cause is known, and every refusal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.advice_logs import STARTUP, WORLDS, World, make_logs
from eval.advice.advice import Advice, advise
from eval.advice.counts import Draws
from eval.advice.deciding import Verdict
from eval.advice.effects import Basis
from eval.advice.eligibility import Standing
from eval.advice.evidence import ArmLog, Logs
from eval.advice.layers import Fix
from eval.advice.team import Team
from eval.arms import ArmKind

DRAWS = Draws(resamples=400, seed=1)
BOTH = World(
    questions=200, arms=(ArmKind.RAG, ArmKind.ORACLE, ArmKind.HYBRID), retrieval_miss=0.25, bad_format=0.3
)
FORMAT = replace(BOTH, retrieval_miss=0.0)
#: A search in the RAG arm that found nothing better than what the model version has.
SEARCH: dict[str, object] = {
    "folder": "rag",
    "kind": "rag",
    "model": "m-base-1",
    "prompts": 4,
    "questions": 48,
    "best": "current",
    "best_sha256": "",
}
BETTER = {"best": "terse", "best_sha256": "ab" * 32}


def team(**changes: object) -> Team:
    return Team.model_validate({**STARTUP.model_dump(), **changes})


UNTRIED_BUT_DECODED = team(tried={"constrained_decoding": True})


def advice_of(world: World, its_team: Team = STARTUP) -> Advice:
    return advise(make_logs(world, 5), its_team, DRAWS)


@pytest.mark.parametrize(("name", "world", "its_team", "expected"), WORLDS, ids=[name for name, *_ in WORLDS])
def test_the_verdict_of_a_known_cause(name: str, world: World, its_team: Team, expected: str) -> None:
    advice = advice_of(replace(world, questions=200, noise=0.05), its_team)
    assert (advice.verdict, advice.sentence[-1]) == (expected, "."), advice.sentence


def test_the_worlds_cover_every_verdict() -> None:
    assert {expected for *_, expected in WORLDS} == set(Verdict)


@pytest.mark.parametrize("questions", [3, 20, 49])
def test_below_the_floor_nothing_is_advised_and_the_number_missing_is_told(questions: int) -> None:
    advice = advice_of(replace(BOTH, questions=questions, clusters=3))
    assert advice.verdict is Verdict.NOT_ENOUGH
    assert (advice.order, advice.fixes, advice.costs) == ((), (), None)
    assert advice.power.missing is not None
    assert questions + advice.power.missing >= 50
    assert f"rag has {questions} decided questions; 50 are the least" in advice.sentence


def test_the_order_is_retrieval_then_measuring_then_tuning() -> None:
    advice = advice_of(BOTH)
    assert [(step.fix, step.when) for step in advice.order] == [
        (Fix.RETRIEVAL, "now"),
        (Fix.TUNE, "after measuring again"),
    ]


def test_a_policy_violation_comes_first_and_is_never_trained_away() -> None:
    advice = advice_of(replace(BOTH, policy=0.02))
    assert [step.fix for step in advice.order] == [Fix.RULES, Fix.RETRIEVAL, Fix.TUNE]
    assert [step.when for step in advice.order] == ["now", "now", "after measuring again"]
    assert "policy_violation" not in {each.behaviour for each in advice.eligibility}


def test_what_retrieval_gives_at_most_is_the_oracle_arms_gain() -> None:
    advice = advice_of(BOTH)
    assert advice.diagnosed is not None
    oracle = advice.diagnosed.oracle
    fix = next(each for each in advice.fixes if each.fix is Fix.RETRIEVAL)
    assert oracle is not None
    assert (fix.effect.basis, fix.effect.value, fix.effect.low) == (Basis.MEASURED, oracle.value, oracle.low)
    assert oracle.value == pytest.approx((oracle.second_passed - oracle.first_passed) / oracle.n)
    assert fix.addresses.k >= oracle.second_passed - oracle.first_passed > 0


def test_without_an_oracle_arm_a_fix_gives_at_most_what_it_addresses() -> None:
    advice = advice_of(replace(BOTH, arms=(ArmKind.RAG,)))
    fix = next(each for each in advice.fixes if each.fix is Fix.RETRIEVAL)
    assert fix.effect.basis is Basis.AT_MOST
    assert fix.effect.value == pytest.approx(fix.addresses.k / fix.addresses.n)
    assert fix.effect.low is not None
    assert fix.effect.low < fix.effect.value


@pytest.mark.parametrize(
    ("world", "its_team", "condition", "standing", "verdict"),
    [
        (replace(FORMAT, questions=80), team(), "questions", Standing.NOT_ENOUGH, Verdict.NOT_ENOUGH),
        (
            replace(FORMAT, clusters=2),
            team(),
            "clusters",
            Standing.NOT_ENOUGH,
            Verdict.NOT_ENOUGH,
        ),
        (
            FORMAT,
            team(tried={"prompt_searches": [SEARCH | {"prompts": 2}], "constrained_decoding": True}),
            "searched prompts",
            Standing.CHEAPER_FIX,
            Verdict.PROMPT,
        ),
        (
            FORMAT,
            team(tried={"prompt_searches": [SEARCH | {"kind": "prompt"}], "constrained_decoding": True}),
            "searched prompts",
            Standing.CHEAPER_FIX,
            Verdict.PROMPT,
        ),
        (
            FORMAT,
            team(tried={"prompt_searches": [SEARCH | BETTER], "constrained_decoding": True}),
            "searched prompts",
            Standing.CHEAPER_FIX,
            Verdict.PROMPT,
        ),
        (
            FORMAT,
            team(tried={"prompt_searches": [SEARCH], "constrained_decoding": False}),
            "constrained decoding",
            Standing.CHEAPER_FIX,
            Verdict.PROMPT,
        ),
        (
            FORMAT,
            team(tried={"prompt_searches": [SEARCH]}),
            "constrained decoding",
            Standing.CHEAPER_FIX,
            Verdict.PROMPT,
        ),
        (
            replace(FORMAT, arms=(ArmKind.RAG, ArmKind.HYBRID)),
            team(),
            "gold documents given",
            Standing.NOT_ENOUGH,
            Verdict.NOT_ENOUGH,
        ),
    ],
    ids=[
        "rows",
        "clusters",
        "two prompts",
        "searched without passages",
        "a better prompt was found",
        "decoding off",
        "decoding unknown",
        "no oracle",
    ],
)
def test_training_is_refused_with_the_condition_that_it_lacks(
    world: World, its_team: Team, condition: str, standing: Standing, verdict: Verdict
) -> None:
    advice = advice_of(world, its_team)
    behaviour = next(each for each in advice.eligibility if each.behaviour == "bad_format")
    unmet = [each.name for each in behaviour.conditions if each.met is not True]
    assert (unmet, behaviour.standing, advice.verdict) == ([condition], standing, verdict)


def test_what_the_gold_documents_mend_is_no_behaviour_to_train() -> None:
    logs = make_logs(FORMAT, 5)
    kept = {row.case_id for row in logs.arms[0].rows if not row.failed}
    # The oracle arm without any failure: with the documents given the format holds.
    mended = replace(
        logs.arms[1],
        rows=tuple(
            replace(row, label=None, outcome=logs.arms[0].rows[0].outcome.PASSED) for row in logs.arms[1].rows
        ),
    )
    advice = advise(replace(logs, arms=(logs.arms[0], mended, logs.arms[2])), STARTUP, DRAWS)
    assert len(kept) < 200
    assert advice.verdict is Verdict.PROMPT
    behaviour = advice.eligibility[0]
    assert behaviour.standing is Standing.CHEAPER_FIX
    assert behaviour.advice.startswith("improve retrieval")


def test_training_needs_an_arm_with_the_best_prompt_that_was_found() -> None:
    searched = team(tried={"prompt_searches": [SEARCH | BETTER], "constrained_decoding": True})
    logs = make_logs(FORMAT, 5)
    before = advise(logs, searched, DRAWS)
    assert before.eligibility[0].advice == "measure rag with the prompt that rag found best"
    retried = replace(logs.arms[0], prompt_sha256="ab" * 32)
    after = advise(replace(logs, arms=(retried, *logs.arms[1:])), searched, DRAWS)
    assert after.verdict is Verdict.FINE_TUNE
    (condition,) = [each for each in after.eligibility[0].conditions if each.name == "searched prompts"]
    assert condition.evidence == (
        "4 searched on 48 questions (rag), 3 needed; it fails under the best of them, terse"
    )


def test_arms_with_other_prompts_of_one_model_are_measured_prompts() -> None:
    logs = make_logs(FORMAT, 5)
    others = tuple(replace(logs.arms[0], name=f"rag_{n}", prompt_sha256=f"{n}" * 64) for n in range(2))
    measured = advise(replace(logs, arms=(*logs.arms, *others)), UNTRIED_BUT_DECODED, DRAWS)
    assert measured.verdict is Verdict.FINE_TUNE


def test_prompts_that_were_measured_count_more_than_those_that_are_declared() -> None:
    logs = make_logs(FORMAT, 5)
    rag = logs.arms[0]
    others = tuple(replace(rag, name=f"rag_{n}", model=f"m-base-{n}") for n in (2, 3))
    untried = UNTRIED_BUT_DECODED
    measured = advise(replace(logs, arms=(*logs.arms, *others)), untried, DRAWS)
    assert measured.verdict is Verdict.FINE_TUNE
    passing = replace(others[0], rows=_without_failures(rag))
    mended = advise(replace(logs, arms=(*logs.arms, passing, others[1])), untried, DRAWS)
    assert mended.verdict is Verdict.PROMPT
    assert mended.eligibility[0].advice == "use the prompt of rag_2, which mends it"


def _without_failures(arm: ArmLog) -> tuple:  # type: ignore[type-arg]
    passed = next(row for row in arm.rows if not row.failed)
    return tuple(replace(passed, case_id=row.case_id, cluster=row.cluster) for row in arm.rows)


def test_a_solo_team_puts_training_off_unless_it_owns_model_versions() -> None:
    solo = advice_of(BOTH, team(team_size="solo"))
    assert (solo.verdict, solo.by_evidence) == (Verdict.IMPROVED_RAG, Verdict.HYBRID)
    assert "Training is put off" in solo.sentence
    assert advice_of(BOTH, team(team_size="solo", operates_models=True)).verdict is Verdict.HYBRID


def test_a_regulated_team_trains_only_with_grounded_answers_and_a_fallback() -> None:
    logs = make_logs(BOTH, 5)
    regulated = team(regulated=True)
    assert advise(logs, regulated, DRAWS).verdict is Verdict.HYBRID
    unmeasured = _with_metrics(logs, without="abstained_when_due")
    advice = advise(unmeasured, regulated, DRAWS)
    assert advice.verdict is Verdict.IMPROVED_RAG
    assert any("abstained_when_due was not measured" in reason for reason in advice.adjusted)
    once = replace(next(iter(logs.arms[0].metrics.values())), name="abstained_when_due", k=1, n=1)
    single = {**logs.arms[0].metrics, "abstained_when_due": once}
    rare = replace(logs, arms=(replace(logs.arms[0], metrics=single), *logs.arms[1:]))
    advice = advise(rare, regulated, DRAWS)
    assert advice.verdict is Verdict.IMPROVED_RAG
    assert any("1 answers have a score for abstained_when_due" in reason for reason in advice.adjusted)
    bad = _with_metrics(logs, citations_valid=20)
    assert advise(bad, regulated, DRAWS).verdict is Verdict.IMPROVED_RAG


def _with_metrics(logs: Logs, *, without: str = "", **counts: int) -> Logs:
    rag = logs.arms[0]
    metrics = {
        name: replace(figure, k=counts.get(name, figure.k))
        for name, figure in rag.metrics.items()
        if name != without
    }
    return replace(logs, arms=(replace(rag, metrics=metrics), *logs.arms[1:]))


def test_what_is_live_is_what_is_improved() -> None:
    world = World(
        questions=200,
        arms=(ArmKind.PROMPT, ArmKind.RAG, ArmKind.ORACLE, ArmKind.HYBRID),
        needs_document=0.5,
        wrong_tone=0.3,
    )
    assert advice_of(world).verdict is Verdict.HYBRID
    assert advice_of(world, team(live="rag")).verdict is Verdict.FINE_TUNE


def test_a_live_rung_that_was_not_measured_is_named() -> None:
    advice = advice_of(BOTH, team(live="rag_plus"))
    assert advice.verdict is Verdict.NOT_ENOUGH
    assert "no answered arm of kind rag_plus" in advice.sentence


def test_a_log_without_any_arm_is_no_evidence() -> None:
    empty = replace(make_logs(BOTH, 5), arms=())
    advice = advise(empty, STARTUP, DRAWS)
    assert advice.verdict is Verdict.NOT_ENOUGH
    assert advice.diagnosed is None
    assert advice.power.missing == 50
    assert {row.answer for row in advice.framework.checklist} == {"no evidence"}


def test_what_would_change_the_verdict_does() -> None:
    advice = advice_of(BOTH)
    changes = {change.condition: change.verdict for change in advice.changes}
    assert changes["failures of information were rare"] is Verdict.FINE_TUNE
    assert changes["failures of behaviour were rare"] is Verdict.IMPROVED_RAG
    assert changes["the team were solo"] is advice_of(BOTH, team(team_size="solo")).verdict
    assert advice.verdict not in changes.values()


def test_the_same_logs_give_the_same_advice() -> None:
    assert advice_of(BOTH).as_json() == advice_of(BOTH).as_json()


def test_labels_that_blame_retrieval_against_the_oracle_arm_decide_nothing() -> None:
    advice = advice_of(replace(BOTH, retrieval_miss=0.0, bad_format=0.0, blames_retrieval=0.3))
    assert advice.verdict is Verdict.NOT_ENOUGH
    assert "review the labels and the gold documents" in advice.sentence
