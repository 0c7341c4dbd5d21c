"""Records become rows: people overrule rules, repeats are counted, a run error decides nothing."""

from __future__ import annotations

from dataclasses import replace

from eval.advice.evidence import ArmLog, settle
from eval.advice.layers import Fix, Layer, fix_of, layer_of
from eval.arms import ArmKind
from eval.labelling.labels import Finding, Label, LabelRecord, Outcome

FAILED = LabelRecord(
    run="r1",
    turn_id="t1",
    case_id="q1",
    arm="rag",
    cluster="plans",
    task_type="question",
    outcome=Outcome.FAILED,
    primary=Finding(label=Label.WRONG_RETRIEVAL, sub="miss", rule="4b", evidence=("gold_in_candidates",)),
    contributing=(Finding(label=Label.HALLUCINATION, sub="", rule="4d", evidence=("supported",)),),
    criteria="c1-00000000",
)
PASSED = replace(FAILED, outcome=Outcome.PASSED, primary=None, contributing=())


def test_a_failure_keeps_its_label_sub_code_and_cluster() -> None:
    (row,) = settle([FAILED]).rows["rag"]
    assert (row.label, row.sub, row.cluster) == (Label.WRONG_RETRIEVAL, "miss", "plans")
    assert row.contributing == (Label.HALLUCINATION,)


def test_people_overrule_the_rules_and_agreement_is_counted() -> None:
    human = replace(PASSED, source="human", reviewer="a")
    other = [
        replace(record, turn_id="t2", case_id="q2") for record in (FAILED, replace(FAILED, source="human"))
    ]
    settled = settle([human, FAILED, *other])
    assert [row.failed for row in settled.rows["rag"]] == [False, True]
    assert settled.agreement is not None
    assert (settled.agreement.agreed, settled.agreement.both) == (1, 2)


def test_the_last_record_of_a_source_counts() -> None:
    (row,) = settle([FAILED, PASSED]).rows["rag"]
    assert not row.failed
    assert settle([FAILED, PASSED]).agreement is None


def test_of_repeats_the_commonest_result_counts_and_a_tie_is_a_failure() -> None:
    repeats = [replace(record, turn_id=f"t{n}") for n, record in enumerate([PASSED, PASSED, FAILED])]
    assert not settle(repeats).rows["rag"][0].failed
    assert settle(repeats[1:]).rows["rag"][0].failed


def test_a_run_error_is_no_result_beside_one_that_is() -> None:
    lost = replace(PASSED, turn_id="", outcome=Outcome.RUN_ERROR)
    assert settle([lost, FAILED]).rows["rag"][0].failed
    (row,) = settle([lost]).rows["rag"]
    assert ArmLog(name="rag", kind=ArmKind.RAG, rows=(row,)).decided == ()


def test_a_failure_without_a_finding_is_undetermined() -> None:
    (row,) = settle([replace(FAILED, primary=None)]).rows["rag"]
    assert (row.label, layer_of(row, ArmKind.RAG)) == (Label.UNDETERMINED, Layer.UNKNOWN)


def test_the_same_label_is_another_layer_without_context() -> None:
    made_up = replace(FAILED, primary=Finding(label=Label.HALLUCINATION, sub="", rule="5", evidence=()))
    (row,) = settle([made_up]).rows["rag"]
    assert layer_of(row, ArmKind.PROMPT) is Layer.KNOWLEDGE
    assert layer_of(row, ArmKind.RAG) is Layer.GROUNDING
    assert layer_of(replace(row, sub="citation"), ArmKind.RAG) is Layer.BEHAVIOUR


def test_what_a_rule_passed_on_is_mended_in_the_rules() -> None:
    passed_on = Finding(label=Label.WEAK_REASONING, sub="passed_on_by_rule", rule="7g", evidence=())
    (row,) = settle([replace(FAILED, primary=passed_on)]).rows["rag"]
    for kind in (ArmKind.PROMPT, ArmKind.RAG):
        layer = layer_of(row, kind)
        assert layer is not None
        assert fix_of(layer, kind) is Fix.RULES


def test_stale_knowledge_is_mended_where_it_is_stale() -> None:
    (row,) = settle([FAILED]).rows["rag"]
    stale = replace(row, label=Label.STALE_KNOWLEDGE)
    assert layer_of(replace(stale, sub="index"), ArmKind.RAG) is Layer.KNOWLEDGE
    assert layer_of(replace(stale, sub="retrieval"), ArmKind.RAG) is Layer.RETRIEVAL
