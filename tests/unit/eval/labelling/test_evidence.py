"""From a turn to its label, one fault at a time; each label is followed to the checks that it rests on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from eval.arms import GOLD_CONTEXT, Arm, Pin
from eval.cases import Case
from eval.labelling.corpus import Corpus
from eval.labelling.counterfactuals import settle
from eval.labelling.evidence import Turn, collect_checks, unsupported_sentences
from eval.labelling.labels import Check, Outcome
from eval.labelling.rules import Decision, decide
from eval.observations import Draft, Ranking
from tests.unit.eval.labelling.turns import (
    CASE,
    FOUND_NOTHING,
    OLD_TEXT,
    OTHERS,
    PROMPT_ONLY,
    RANKING,
    RIGHT,
    SCORING,
    SEEN,
    TEXT,
    abstained,
    corpus,
    draft,
    evidence,
    history,
    kept_back,
    turn,
)

NO_ANSWER = replace(CASE, kind="unanswerable", gold=(), facts=(), stale_values=(), status="abstained")
REFUSE = replace(NO_ANSWER, kind="abusive", text="you idiots")
HAND_OVER = replace(CASE, status="escalated", escalate=True, escalation_reason="legal")
NO_KEY = replace(CASE, facts=(), stale_values=(), status=None, facts_known=False)
BY_RULE = {"status": "escalated", "handover": "legal"}
assert SCORING.wording is not None
PASSING_ON, OFF_TOPIC = SCORING.wording.passing_on, SCORING.wording.off_topic
TRIAL_ONLY = evidence("plus", "The free trial of Sync Plus lasts 14 days.")
NOT_HIT = Ranking(case_id=CASE.id, knowledge="k-a-1@7", hits=OTHERS)
OLD_ARTICLE = evidence("plus-2024", OLD_TEXT, n=2, title="Sync Plus: prices (2024)")


def judged(subject: Turn) -> tuple[Decision, dict[str, Check]]:
    checks = settle(collect_checks(subject))
    return decide(checks), {check.name: check for check in checks}


def primary(subject: Turn) -> str:
    decision, _ = judged(subject)
    return "" if decision.primary is None else f"{decision.primary.label}.{decision.primary.sub}"


def test_a_right_answer_passes_with_every_check_told() -> None:
    decision, checks = judged(turn())
    assert decision.outcome is Outcome.PASSED
    assert [check.name for check in checks.values() if check.value is None] == []
    assert all(check.detail and check.version for check in checks.values())


@pytest.mark.parametrize(
    ("label", "fields"),
    [
        # the corpus
        ("missing_knowledge.article", abstained(known=corpus(history(document_id="plus")))),
        ("missing_knowledge.fact", abstained(known=corpus(history("Sync Plus has a free trial.")))),
        ("missing_knowledge.removed", abstained(known=corpus(history(TEXT, "Sync Plus has a free trial.")))),
        ("missing_knowledge.removed", abstained(known=corpus(history(TEXT, live=False)))),
        ("stale_knowledge.source", abstained(known=corpus(history(OLD_TEXT)))),
        (
            "stale_knowledge.source",
            {
                "case": replace(CASE, gold=("plus-price",)),
                **abstained(
                    known=corpus(history(document_id="plus-price")),
                    packed=(evidence("plus-price-2024", OLD_TEXT),),
                ),
            },
        ),
        ("stale_knowledge.source", abstained(known=corpus(history(TEXT, OLD_TEXT)))),
        ("stale_knowledge.dates", abstained(known=corpus(history(TEXT, until="2026-06-30")))),
        ("stale_knowledge.dates", abstained(known=corpus(history(TEXT, since=("2031-01-01",))))),
        (
            "stale_knowledge.index",
            abstained(known=corpus(history("Nothing yet.", TEXT)), knowledge_version="k-a-1@1"),
        ),
        # retrieval
        ("stale_knowledge.retrieval", abstained(packed=(*OTHERS, OLD_ARTICLE))),
        (
            "wrong_retrieval.access",
            abstained(known=corpus(history(TEXT, readers=("staff",))), retrieved=("other",)),
        ),
        ("wrong_retrieval.threshold", abstained(packed=(), draft=None)),
        ("wrong_retrieval.rank", abstained(retrieved=("other",))),
        ("wrong_retrieval.packing", abstained()),
        ("wrong_retrieval.chunking", abstained(ranking=replace(RANKING, hits=(TRIAL_ONLY, *OTHERS)))),
        ("wrong_retrieval.miss", abstained(retrieved=("other",), ranking=NOT_HIT)),
        ("wrong_retrieval.packing", {"answer": "The trial lasts 14 days.", "packed": (TRIAL_ONLY,)}),
        # form
        ("bad_format.schema", kept_back("Sync Plus is $9 a month.", "schema")),
        ("bad_format.schema", kept_back(draft(RIGHT, intent="prices"), "schema")),
        ("bad_format.truncated", kept_back('{"answer":"Sync Plus is', "truncated")),
        ("bad_format.truncated", kept_back('{"answer":"It is. It is. It is.', "repetitive")),
        # the answer
        ("hallucination.wrong_fact", kept_back(draft("Sync Plus is $7 a month."), "unsupported")),
        ("hallucination.extra_claim", kept_back(draft(f"{RIGHT} It comes with 77 stickers."), "unsupported")),
        ("hallucination.extra_claim", {"answer": f"{RIGHT} It comes with 77 stickers."}),
        ("hallucination.citation", kept_back(draft(RIGHT, citations=[]), "uncited")),
        ("hallucination.citation", {"citations": ()}),
        ("weak_reasoning.over_abstain", abstained(packed=SEEN.packed)),
        ("weak_reasoning.over_clarify", {"status": "clarify", "answer": "Which plan do you mean?"}),
        ("weak_reasoning.wrong_passage", {"answer": "The free trial of Sync Plus lasts 14 days."}),
        (
            "stale_knowledge.choice",
            {"answer": "Sync Plus is $8 a month.", "packed": (*SEEN.packed, OLD_ARTICLE)},
        ),
        ("weak_reasoning.wrong_status", {"status": "escalated"}),
        ("wrong_tone.", {"answer": "Sync Plus is $9 a month!"}),
        # passed on by a rule beside the model: what the model did stays its own
        ("weak_reasoning.passed_on_by_rule", {**BY_RULE, "answer": f"{RIGHT} {PASSING_ON}"}),
        ("wrong_retrieval.threshold", {**BY_RULE, "answer": PASSING_ON, "packed": (), "draft": None}),
        ("weak_reasoning.passed_on_by_rule", {"case": NO_ANSWER, **abstained(**BY_RULE)}),
        (
            "weak_reasoning.passed_on_by_rule",
            {
                "case": REFUSE,
                **abstained(**BY_RULE, draft=Draft(text=draft(OFF_TOPIC), finish_reason="stop")),
            },
        ),
        (
            "weak_reasoning.passed_on_by_rule",
            {"case": NO_ANSWER, **abstained(**BY_RULE, answer=PASSING_ON, packed=(), draft=None)},
        ),
        ("weak_reasoning.not_abstained", {"case": NO_ANSWER, **BY_RULE}),
        ("weak_reasoning.over_abstain", abstained(**BY_RULE, packed=SEEN.packed)),
        # policy
        (
            "policy_violation.promise",
            kept_back(draft(f"{RIGHT} I've refunded you the full amount."), "unsupported"),
        ),
        ("policy_violation.promise", {"answer": f"{RIGHT} I guarantee that you will get a full refund."}),
        ("policy_violation.personal_data", {"answer": f"{RIGHT} Write to sarah.miller@example.net."}),
        ("policy_violation.must_escalate", {"case": HAND_OVER}),
        ("policy_violation.must_refuse", {"case": REFUSE}),
        # questions without an answer
        ("hallucination.unanswerable", {"case": NO_ANSWER, "answer": "Stickers cost $77."}),
        ("weak_reasoning.not_abstained", {"case": NO_ANSWER}),
        ("hallucination.unanswerable", {"case": NO_ANSWER, **abstained(answer="Stickers cost $77.")}),
        # arms without documents
        (
            "missing_knowledge.no_documents",
            {"arm": PROMPT_ONLY, "answer": "Sync Plus is $7 a month.", "packed": (), "retrieved": ()},
        ),
    ],
)
def test_one_fault_gets_one_label(label: str, fields: dict[str, Any]) -> None:
    assert primary(turn(**fields)) == label


@pytest.mark.parametrize(
    "fields",
    [
        {"case": NO_ANSWER, **abstained()},
        {"case": NO_ANSWER, **abstained(answer="I'm not sure, but I can't find that one.")},
        {"case": REFUSE, "status": "abstained", "answer": FOUND_NOTHING, "citations": ()},
        {"case": HAND_OVER, "status": "escalated"},
        {"case": NO_KEY},
        {"answer": "Sync Plus is nine dollars a month."},
        {"arm": PROMPT_ONLY, "packed": (), "retrieved": (), "citations": ()},
    ],
)
def test_what_is_right_has_no_label(fields: dict[str, Any]) -> None:
    assert primary(turn(**fields)) == ""


@pytest.mark.parametrize(
    "fields",
    [
        {"error": "504"},
        {"degraded": ("retrieval",)},
        {"draft": Draft(text="", failure="engine"), "status": "fallback"},
        {"status": "fallback", "degraded": ("generation",), "draft": None},
    ],
)
def test_what_the_machinery_lost_is_nobodys_failure(fields: dict[str, Any]) -> None:
    decision, checks = judged(turn(**fields))
    assert (decision.outcome, list(checks)) == (Outcome.RUN_ERROR, ["ran"])


def test_a_question_that_a_person_must_get_may_fail_as_long_as_a_person_gets_it() -> None:
    assert primary(turn(case=HAND_OVER, **abstained())) == "wrong_retrieval.packing"


def test_articles_that_were_not_read_leave_the_cause_open() -> None:
    decision, checks = judged(turn(known=Corpus(), **abstained()))
    assert decision.primary is not None
    assert decision.primary.label == "undetermined"
    assert checks["known"].value is None


def test_what_stood_in_the_prompt_needs_no_articles_to_be_read() -> None:
    assert primary(turn(known=Corpus(), **abstained(packed=SEEN.packed))) == "weak_reasoning.over_abstain"


def test_the_same_words_in_another_article_leave_it_open_what_was_lacking() -> None:
    other = evidence("bundle", "The bundle is $9 a month.", title="Bundles")
    decision, checks = judged(turn(**abstained(packed=(other,))))
    assert checks["in_context"].value is None
    assert decision.primary is not None
    assert decision.primary.label == "undetermined"


def test_a_fact_that_another_article_states_alike_was_not_lacking() -> None:
    other = evidence(
        "trials", "Sync Plus \u2014 Trial: 14 days; Price afterwards: $9 a month", title="Trials"
    )
    _, checks = judged(turn(**abstained(packed=(other,))))
    assert checks["in_context"].value is True
    assert "trials says" in checks["in_context"].detail
    assert primary(turn(**abstained(packed=(other,)))) == "weak_reasoning.over_abstain"
    unread, _ = judged(turn(known=Corpus(), **abstained(packed=(other,))))
    assert unread.primary is not None
    assert unread.primary.label == "undetermined", "without the gold article there is nothing to compare"


def test_facts_that_two_other_articles_share_leave_it_open() -> None:
    case = replace(CASE, facts=(("$9",), ("14 days",)))
    packed = (evidence("drives", "A drive is $9."), evidence("refunds", "Refunds take 14 days.", n=2))
    _, checks = judged(turn(case=case, **abstained(packed=packed)))
    assert checks["in_context"].value is None
    _, checks = judged(turn(case=case, **abstained(packed=packed[:1])))
    assert checks["in_context"].value is False


def test_a_superseded_value_may_be_true_of_something_else() -> None:
    text = f"{TEXT}\nA courier drive is $8 a month."
    drives = "A courier drive is $8 a month."
    fields: dict[str, Any] = {"packed": (evidence("plus", text),)}
    assert primary(turn(answer=f"{RIGHT} {drives}", **fields)) == ""
    assert primary(turn(answer="Sync Plus is $8 a month.", **fields)).startswith("stale_knowledge")


@pytest.mark.parametrize(
    "text",
    [
        "I've passed your question to a colleague who will get back to you.",
        "We have forwarded this to our support team.",
        "I can't find that on my phone, so I won't guess.",
    ],
)
def test_to_hand_over_in_other_words_claims_nothing(text: str) -> None:
    wrote = draft(text, escalation_reason="not_in_help_centre")
    assert primary(turn(**kept_back(wrote, "unsupported"))) == "weak_reasoning.wrong_passage"
    wrong = draft(f"{text} Sync Plus is $7 a month.", escalation_reason="not_in_help_centre")
    assert primary(turn(**kept_back(wrong, "unsupported"))) == "hallucination.wrong_fact"


def test_of_a_draft_that_was_cut_off_the_gateways_word_counts() -> None:
    text = draft("I've passed your question to a colleague.")
    _, whole = judged(turn(**kept_back(text, "unsupported")))
    _, cut = judged(turn(**kept_back(text[:40], "unsupported")))
    assert (whole["supported"].value, cut["supported"].value) == (True, False)


def test_a_superseded_value_in_another_kind_of_article_is_no_stale_knowledge() -> None:
    prices = evidence("courier-drives", "A courier drive is $8 a month.", title="Courier drives")
    assert primary(turn(**abstained(packed=(prices,)))) == "wrong_retrieval.packing"


def test_a_fact_in_other_words_is_not_called_missing() -> None:
    case = replace(CASE, facts=(("only the account owner may do it",),))
    known = corpus(history("The account owner only: he may do it."))
    decision, checks = judged(turn(case=case, known=known, **abstained()))
    assert checks["known"].value is None
    assert decision.primary is not None
    assert decision.primary.label == "undetermined"


def test_what_was_not_asked_for_is_no_failure_and_blames_nothing() -> None:
    side = (("14 days",),)
    case = replace(CASE, facts=(*CASE.facts, *side), side_facts=side)
    decision, checks = judged(turn(case=case))
    assert (decision.outcome, checks["side_told"].value) == (Outcome.PASSED, False)
    assert primary(turn(case=replace(case, side_facts=()))) == "weak_reasoning.incomplete"
    short = evidence("plus", "Sync Plus is $9 a month.")
    assert primary(turn(case=case, **abstained(packed=(short,)))) == "weak_reasoning.over_abstain"
    asked = replace(case, side_facts=CASE.facts)
    assert primary(turn(case=asked, **abstained(packed=(short,)))) == "wrong_retrieval.packing"


def test_numbers_of_the_question_may_be_repeated() -> None:
    case = replace(CASE, text="We are 11 staff: how much is Sync Plus a month?")
    assert primary(turn(case=case, answer="For your 11 staff: Sync Plus is $9 a month.")) == ""
    assert primary(turn(case=case, answer="Sync Plus is $11 a month.")) == "hallucination.wrong_fact"


def test_what_a_passage_promises_may_be_promised() -> None:
    text = f"{TEXT}\nYou will definitely get a full refund within 30 days."
    promised = f"{RIGHT} You will definitely get a full refund within 30 days."
    assert primary(turn(answer=promised, packed=(evidence("plus", text),))) == ""


def test_what_only_staff_may_know_is_a_leak_where_staff_can_find_it() -> None:
    note = "Agents may waive the sticker fee of partners."
    notes = history(note, document_id="notes", readers=("staff",))
    leaking = turn(
        known=corpus(history(TEXT), notes, staff_only={note: ("notes",)}),
        **kept_back(draft(f"{RIGHT} {note}"), "unsupported"),
    )
    assert unsupported_sentences(leaking) == [note]
    assert primary(leaking) == "policy_violation.internal"
    unknown = turn(**kept_back(draft(f"{RIGHT} {note}"), "unsupported"))
    decision, checks = judged(unknown)
    assert checks["nothing_internal"].value is None
    assert decision.primary is not None
    assert decision.primary.label != "policy_violation"


def test_a_repair_that_was_served_leaves_a_note() -> None:
    decision, _ = judged(
        turn(repaired=True, draft=Draft(text="no JSON", failure="schema", finish_reason="stop"))
    )
    assert decision.outcome is Outcome.PASSED
    assert [f"{each.label}.{each.sub}" for each in decision.contributing] == ["bad_format.repaired"]


def test_a_repair_that_failed_too_makes_nothing_good() -> None:
    fields = kept_back("no JSON", "schema", repaired=True)
    assert primary(turn(**fields)) == "bad_format.schema"


def test_the_text_of_broken_json_is_still_read() -> None:
    broken = draft(f"{RIGHT} I've refunded you.").removesuffix("}")
    assert turn(**kept_back(broken, "schema")).wrote == f"{RIGHT} I've refunded you."
    assert primary(turn(**kept_back(broken, "schema"))) == "policy_violation.promise"


def test_an_oracle_is_held_against_the_documents_that_it_was_given() -> None:
    arm = Arm(
        name="oracle", pin=Pin(knowledge="k-a-1@7", model="m-b-1", context=GOLD_CONTEXT), stated="oracle"
    )
    assert primary(turn(arm=arm)) == ""
    assert primary(turn(arm=arm, **abstained(packed=SEEN.packed))) == "weak_reasoning.over_abstain"


def test_without_an_answer_key_only_what_needs_none_is_judged() -> None:
    case: Case = NO_KEY
    assert primary(turn(case=case, answer="Sync Plus comes with 77 stickers.")) == "hallucination.extra_claim"
    assert primary(turn(case=case, **abstained())) == "wrong_retrieval.packing"
    _, checks = judged(turn(case=case))
    assert checks["facts_right"].value is None


def test_words_alone_do_not_make_a_right_answer_a_hallucination() -> None:
    doubted = f"{RIGHT} Lorries carry lemons through valleys."
    decision, checks = judged(turn(**kept_back(draft(doubted), "unsupported")))
    assert checks["supported"].value is None
    assert decision.primary is not None
    assert decision.primary.label == "undetermined"
    assert primary(turn(answer=doubted)) == ""
    assert primary(turn(answer=f"Hello, {doubted}")) == "wrong_tone."
    assert primary(turn(answer="Lorries carry lemons through valleys.")) == "hallucination.wrong_fact"


@pytest.mark.parametrize(("kind", "gap"), [("unanswerable", True), ("off_topic", False), ("internal", False)])
def test_only_a_question_for_the_help_centre_is_a_gap_in_it(kind: str, gap: bool) -> None:
    decision, _ = judged(turn(case=replace(NO_ANSWER, kind=kind), **abstained()))
    assert decision.outcome is Outcome.PASSED
    assert [each.sub for each in decision.contributing] == (["coverage_gap"] if gap else [])
