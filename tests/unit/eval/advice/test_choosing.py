"""Several arms of one kind: the one that is shown to be better stands for it, else the cheapest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.advice_logs import STARTUP
from eval.advice.advice import advise
from eval.advice.choosing import Choice, choose_arms
from eval.advice.command import advice_text
from eval.advice.counts import Draws
from eval.advice.evidence import ArmLog, CaseUsage, Logs, Row
from eval.advice.page import advice_page
from eval.advice.team import Prices
from eval.arms import ArmKind
from eval.labelling.labels import Label, Outcome
from serving.pricing import TokenCounts

DRAWS = Draws(resamples=400, seed=1)
#: Nobody has said what anything costs.
UNPRICED = STARTUP.model_copy(update={"prices": Prices()})


def arm(
    name: str,
    *,
    failing: Sequence[int],
    n: int = 100,
    tokens: int | None = 1000,
    kind: ArmKind = ArmKind.RAG_PLUS,
    clusters: int = 20,
) -> ArmLog:
    """An arm that fails some of its questions, because retrieval does."""
    rows = tuple(
        Row(
            case_id=f"q{i:03d}",
            cluster=f"c{i % clusters}",
            task_type="",
            outcome=Outcome.FAILED if i in failing else Outcome.PASSED,
            label=Label.WRONG_RETRIEVAL if i in failing else None,
        )
        for i in range(n)
    )
    used = None if tokens is None else TokenCounts(prompt=tokens, cached=0, completion=50)
    usage = tuple(
        CaseUsage(case_id=row.case_id, tokens=used, cached_known=True, retrieval_ms=20.0, handed_off=False)
        for row in rows
    )
    return ArmLog(name=name, kind=kind, model="m-base-1", rows=rows, usage=usage)


PRICED = STARTUP.model_copy(
    update={"prices": Prices(prompt_per_million=1.0, completion_per_million=4.0, retrieval_hour=0.5)}
)


def logs(*arms: ArmLog) -> Logs:
    return Logs(run="made-up", question_set_sha256="0", labels_sha256="0", criteria=("c1",), arms=arms)


def choice(*arms: ArmLog, priced: bool = True) -> Choice:
    (found,) = choose_arms(logs(*arms), PRICED if priced else UNPRICED, DRAWS).choices
    return found


def test_the_better_one_stands_for_the_kind_whatever_it_costs_and_wherever_it_is() -> None:
    dear = arm("dear", failing=range(5), tokens=3000)
    cheap = arm("cheap", failing=range(30), tokens=500)
    for arms in ((dear, cheap), (cheap, dear)):
        found = choice(*arms)
        assert (found.arm, found.others) == ("dear", ("cheap",))
        assert found.because.startswith("it passes 95 of 100, cheap 70 (p 0.000")
        settled = choose_arms(logs(*arms), STARTUP, DRAWS).logs
        assert settled.of_kind(ArmKind.RAG_PLUS) is dear


def test_on_a_tie_the_cheaper_one_does() -> None:
    dear = arm("a_dear", failing=range(20), tokens=3000)
    cheap = arm("b_cheap", failing=range(20), tokens=500)
    for arms in ((dear, cheap), (cheap, dear)):
        assert choice(*arms).arm == "b_cheap"
        assert "costs least" in choice(*arms).because


def test_a_gain_that_is_not_shown_is_not_paid_for() -> None:
    dear = arm("dear", failing=range(17), tokens=3000)
    cheap = arm("cheap", failing=range(20), tokens=500)
    assert choice(dear, cheap).arm == "cheap"


def test_a_gain_in_two_clusters_is_chance_though_every_draw_agrees() -> None:
    dear = arm("dear", failing=range(18), tokens=3000, clusters=2)
    cheap = arm("cheap", failing=range(20), tokens=500, clusters=2)
    assert choice(dear, cheap).arm == "cheap"


def test_without_prices_tokens_decide_and_without_tokens_the_name() -> None:
    many, few = arm("a", failing=range(20), tokens=900), arm("b", failing=range(20), tokens=500)
    found = choice(many, few, priced=False)
    assert (found.arm, "takes the fewest tokens" in found.because) == ("b", True)
    unknown = choice(
        arm("b", failing=range(20), tokens=None), arm("a", failing=range(20), tokens=None), priced=False
    )
    assert (unknown.arm, "no cost is known" in unknown.because) == ("a", True)


def test_an_arm_with_a_few_answers_stands_for_nothing_however_right_they_are() -> None:
    whole = arm("whole", failing=range(20), tokens=3000)
    nearly_gone = arm("nearly_gone", failing=(), n=30, tokens=10)
    found = choice(nearly_gone, whole)
    assert (found.arm, found.because) == ("whole", "the others have too few answers")


def test_one_of_many_has_to_be_better_by_more() -> None:
    # Ten questions more and four fewer: p 0.012 beside one other arm, not among six.
    cheap = arm("cheap", failing=range(12), tokens=100)
    better = arm("z_better", failing=[0, 40], tokens=900)
    assert choice(cheap, better).arm == "z_better"
    others = [arm(f"m{i}", failing=range(12), tokens=200 + i) for i in range(8)]
    assert choice(cheap, *others, better).arm == "cheap"


def test_prompts_that_were_tried_do_not_compete() -> None:
    first = arm("rag_a", failing=range(40), kind=ArmKind.RAG)
    other = arm("rag_b", failing=range(5), kind=ArmKind.RAG)
    found = choose_arms(logs(first, other), PRICED, DRAWS)
    assert found.choices == ()
    assert found.logs.of_kind(ArmKind.RAG) is first


def test_one_arm_of_a_kind_needs_no_choice() -> None:
    found = choose_arms(
        logs(arm("rag", failing=range(9), kind=ArmKind.RAG), arm("plus", failing=())), STARTUP, DRAWS
    )
    assert found.choices == ()
    plus = found.logs.of_kind(ArmKind.RAG_PLUS)
    assert plus is not None
    assert plus.name == "plus"


def test_an_arm_without_an_answer_is_no_arm() -> None:
    lost = arm("lost", failing=(), tokens=1)
    lost = replace(lost, rows=tuple(replace(row, outcome=Outcome.RUN_ERROR) for row in lost.rows))
    found = choose_arms(logs(lost, arm("there", failing=())), STARTUP, DRAWS)
    assert found.choices == ()
    there = found.logs.of_kind(ArmKind.RAG_PLUS)
    assert there is not None
    assert there.name == "there"


def test_the_ladder_climbs_to_the_chosen_one_and_every_form_says_why() -> None:
    rag = arm("rag", failing=range(60), kind=ArmKind.RAG)
    good = arm("good", failing=range(10), tokens=1500)
    bad = arm("bad", failing=range(55), tokens=1500)
    for arms in ((rag, good, bad), (rag, bad, good)):
        advice = advise(logs(*arms), STARTUP, DRAWS)
        assert advice.diagnosed is not None
        assert advice.diagnosed.arm == "good"
        assert "good stands for rag_plus: it passes 90 of 100, bad 45" in advice_text(advice)
        assert "stands for" in advice_page(advice.as_json())


def test_an_improvement_that_did_harm_is_no_rung() -> None:
    rag = arm("rag", failing=range(20), kind=ArmKind.RAG)
    harmed = arm("harmed", failing=range(60))
    advice = advise(logs(rag, harmed), STARTUP, DRAWS)
    assert advice.diagnosed is not None
    assert advice.diagnosed.arm == "rag"
    assert advice.verdict == "improved_rag"
    assert "harmed" not in advice.sentence
