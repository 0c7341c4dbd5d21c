"""Every scorer on answers that pass, that fail, that cannot be told and that it does not apply to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest

from eval import scorers
from eval.cases import Case
from eval.observations import Citation, Draft, Evidence, Observation, Ranking
from eval.policy_scorer import score_policy, score_refusal
from eval.scorers import NotApplicable, Outcome, Score, ScoreFailure, Scoring, Subject
from serving.prompting import Passage
from serving.wording import load_wording

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "answer": {"type": "string"},
        "intent": {"enum": ["billing", "account"]},
        "citations": {"type": "array"},
    },
    "required": ["answer", "intent"],
    "additionalProperties": False,
}


def unsupported(sentence: str, passages: Sequence[Passage], question: str) -> Sequence[str]:
    """Every `$` price must stand in a passage."""
    known = " ".join(passage.text for passage in passages)
    return [word for word in sentence.replace(".", " ").split() if word.startswith("$") and word not in known]


SCORING = Scoring(
    unsupported=unsupported,
    broken_tone_rules=lambda text: ("exclamation",) if "!" in text else (),
    schema=SCHEMA,
    wordings=("A colleague will reply.  I found nothing on $7.",),
)
CASE = Case(
    id="q1",
    topic="plans",
    split="dev",
    text="price?",
    gold=("plus",),
    facts=(("$9",), ("14 days", "two weeks")),
    stale_values=("$8",),
    status="answered",
    intent="billing",
)
PACKED = Evidence(
    document_id="plus",
    passage=Passage(n=1, title="Plus", text="Plus is $9 a month, free for 14 days.", start=5, end=42),
)
OTHER = Evidence(
    document_id="other", passage=Passage(n=2, title="Other", text="Team is $14.", start=0, end=12)
)
ANSWER = "Plus is $9 a month. It is free for two weeks."
SEEN = Observation(
    case_id="q1",
    arm="rag",
    status="answered",
    answer=ANSWER,
    fields={"intent": "billing", "escalate": False, "escalation_reason": "none"},
    citations=(Citation(n=1, document_id="plus", quote="Plus is $9 a month", start=5, end=23),),
    retrieved=("plus", "other"),
    packed=(PACKED, OTHER),
    draft=Draft(text=orjson.dumps({"answer": ANSWER, "intent": "billing"}).decode()),
)


def subject(
    *, case: Case = CASE, retrieves: bool = True, ranking: Ranking | None = None, **seen: Any
) -> Subject:
    return Subject(case=case, seen=replace(SEEN, **seen), ranking=ranking, retrieves=retrieves)


def value(outcome: Outcome) -> float:
    assert isinstance(outcome, Score), outcome
    return outcome.value


def test_hit() -> None:
    assert value(scorers.score_hit(subject(), SCORING)) == 1
    assert value(scorers.score_hit(subject(retrieved=("other",)), SCORING)) == 0
    assert isinstance(scorers.score_hit(subject(retrieves=False), SCORING), NotApplicable)
    assert isinstance(scorers.score_hit(subject(case=replace(CASE, gold=())), SCORING), NotApplicable)
    assert isinstance(scorers.score_hit(subject(degraded=("retrieval",)), SCORING), ScoreFailure)
    assert isinstance(scorers.score_hit(subject(retrieved=()), SCORING), ScoreFailure)


def test_gold_in_prompt() -> None:
    assert value(scorers.score_gold_in_prompt(subject(), SCORING)) == 1
    assert value(scorers.score_gold_in_prompt(subject(packed=(OTHER,)), SCORING)) == 0
    below_threshold = subject(packed=(), draft=None, status="abstained")
    assert value(scorers.score_gold_in_prompt(below_threshold, SCORING)) == 0


def test_answer_right() -> None:
    assert value(scorers.score_answer(subject(), SCORING)) == 1


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        ({"answer": "Plus is $9."}, "misses 14 days"),
        ({"answer": ANSWER + " It was $8."}, "says $8"),
        ({"status": "escalated"}, "escalated instead of answered"),
    ],
)
def test_answer_wrong_says_why(seen: dict[str, Any], why: str) -> None:
    outcome = scorers.score_answer(subject(**seen), SCORING)
    assert value(outcome) == 0
    assert isinstance(outcome, Score)
    assert why in outcome.detail


def test_an_abstention_that_is_due_needs_no_fact() -> None:
    due = replace(CASE, status="abstained", facts=(), gold=())
    assert (
        value(scorers.score_answer(subject(case=due, status="abstained", answer="I won't guess."), SCORING))
        == 1
    )
    assert value(scorers.score_answer(subject(case=due), SCORING)) == 0


def test_without_an_answer_key_answer_quality_does_not_apply() -> None:
    assert isinstance(scorers.score_answer(subject(case=replace(CASE, status=None)), SCORING), NotApplicable)
    no_facts = replace(CASE, facts=(), facts_known=False)
    assert isinstance(scorers.score_answer(subject(case=no_facts), SCORING), NotApplicable)
    assert isinstance(scorers.score_facts(subject(case=no_facts), SCORING), NotApplicable)


def test_half_of_the_facts_is_more_than_none() -> None:
    two = replace(CASE, facts=(("no such words anywhere",), *CASE.facts[:1]))
    assert value(scorers.score_facts(subject(case=two), SCORING)) == 0
    side = replace(two, side_facts=two.facts[:1])
    assert value(scorers.score_answer(subject(case=side), SCORING)) == 0
    assert value(scorers.score_answer_vital(subject(case=side), SCORING)) == 1
    assert value(scorers.score_answer_vital(subject(case=two), SCORING)) == 0
    assert value(scorers.score_some_fact(subject(case=two), SCORING)) == 1
    assert value(scorers.score_some_fact(subject(case=two, answer="Nothing of it."), SCORING)) == 0
    assert isinstance(scorers.score_some_fact(subject(case=replace(CASE, facts=())), SCORING), NotApplicable)


def test_facts_and_status_apart() -> None:
    seen = subject(status="escalated")
    assert value(scorers.score_facts(seen, SCORING)) == 1
    assert value(scorers.score_status(seen, SCORING)) == 0


@pytest.mark.parametrize(
    ("draft", "expected"),
    [
        ('{"answer": "x", "intent": "billing"}', 1),
        (' {"answer": "x", "intent": "billing"}\n', 1),
        ('{"answer": "x", "intent": "weather"}', 0),
        ('{"answer": "x"}', 0),
        ('{"answer": "x", "intent": "billing", "more": 1}', 0),
        ('```json\n{"answer": "x", "intent": "billing"}\n```', 0),
        ('{"answer": "x", "int', 0),
        ("", 0),
    ],
)
def test_format_judges_the_first_draft_as_it_came(draft: str, expected: float) -> None:
    assert value(scorers.score_format(subject(draft=Draft(text=draft)), SCORING)) == expected


def test_format_of_a_repaired_answer_is_that_of_the_draft() -> None:
    seen = subject(draft=Draft(text="not json", failure="schema"), repaired=True)
    assert value(scorers.score_format(seen, SCORING)) == 0


def test_format_cannot_be_told_from_a_draft_that_others_cut_off() -> None:
    cut = Draft(text='{"answer": "Plus is $7', failure="unsupported")
    assert isinstance(scorers.score_format(subject(draft=cut), SCORING), ScoreFailure)
    lost = Draft(text="", failure="engine")
    assert isinstance(scorers.score_format(subject(draft=lost), SCORING), ScoreFailure)
    assert isinstance(scorers.score_format(subject(draft=None), SCORING), NotApplicable)


def test_hallucination_of_what_was_served() -> None:
    assert value(scorers.score_hallucination_served(subject(), SCORING)) == 0
    invented = scorers.score_hallucination_served(subject(answer="It is free. Plus is $7."), SCORING)
    assert value(invented) == 1
    assert isinstance(invented, Score)
    assert "$7" in invented.detail


@pytest.mark.parametrize("status", ["abstained", "fallback", "escalated", "answered"])
def test_only_a_fixed_wording_word_for_word_claims_nothing_by_itself(status: str) -> None:
    fixed = subject(status=status, answer="A colleague will reply. I found nothing on $7.", packed=())
    assert scorers.score_hallucination_served(fixed, SCORING) == Score(0.0, "fixed wording")
    own_words = subject(status=status, answer="I can't find that, but Plus is $7.")
    assert value(scorers.score_hallucination_served(own_words, SCORING)) == 1


def test_hallucination_of_the_draft_even_if_it_was_not_served() -> None:
    draft = Draft(text='{"answer": "Plus is $7.", "intent": "billing"}', failure="unsupported")
    seen = subject(status="fallback", answer="A colleague will reply.", draft=draft)
    assert value(scorers.score_hallucination_draft(seen, SCORING)) == 1
    assert value(scorers.score_hallucination_served(seen, SCORING)) == 0
    assert value(scorers.score_hallucination_draft(subject(), SCORING)) == 0
    assert isinstance(scorers.score_hallucination_draft(subject(draft=None), SCORING), NotApplicable)
    broken = subject(draft=Draft(text="not json", failure="schema"))
    assert isinstance(scorers.score_hallucination_draft(broken, SCORING), ScoreFailure)


def test_a_draft_cut_off_for_an_unsupported_sentence_is_a_hallucination() -> None:
    cut = subject(draft=Draft(text='{"answer": "Plus is $7.', failure="unsupported"))
    assert value(scorers.score_hallucination_draft(cut, SCORING)) == 1


def test_without_a_record_of_the_passages_hallucination_cannot_be_told() -> None:
    assert isinstance(scorers.score_hallucination_served(subject(packed=()), SCORING), ScoreFailure)


def test_an_arm_without_retrieval_is_held_against_the_search() -> None:
    ranking = Ranking(case_id="q1", knowledge="k", hits=(PACKED,))
    known = subject(retrieves=False, ranking=ranking, packed=())
    assert value(scorers.score_hallucination_served(known, SCORING)) == 0
    guessed = subject(retrieves=False, ranking=ranking, packed=(), answer="Plus is $7.")
    assert value(scorers.score_hallucination_served(guessed, SCORING)) == 1
    none = subject(retrieves=False, ranking=None, packed=())
    assert isinstance(scorers.score_hallucination_served(none, SCORING), ScoreFailure)


def test_given_documents_are_what_an_answer_is_held_against() -> None:
    """An oracle retrieves nothing and has a context all the same."""
    ranking = Ranking(case_id="q1", knowledge="k", hits=(OTHER,))
    given = subject(retrieves=False, ranking=ranking, packed=(PACKED,))
    assert value(scorers.score_hallucination_served(given, SCORING)) == 0
    assert isinstance(scorers.score_hit(given, SCORING), NotApplicable)


def test_tone() -> None:
    assert value(scorers.score_tone(subject(), SCORING)) == 1
    assert value(scorers.score_tone(subject(answer="Great!"), SCORING)) == 0
    assert isinstance(scorers.score_tone(subject(answer=""), SCORING), NotApplicable)


def test_corrections_from_reviewers_and_by_proxy() -> None:
    assert isinstance(scorers.score_corrected(subject(), SCORING), NotApplicable)
    assert value(scorers.score_corrected(subject(corrected=True), SCORING)) == 1
    assert value(scorers.score_corrected(subject(corrected=False), SCORING)) == 0
    assert value(scorers.score_would_be_corrected(subject(), SCORING)) == 0
    assert value(scorers.score_would_be_corrected(subject(answer=ANSWER + "!"), SCORING)) == 1
    assert value(scorers.score_would_be_corrected(subject(answer="Plus is $9."), SCORING)) == 1


def test_a_wrong_tone_is_enough_and_half_a_key_is_not() -> None:
    no_key = replace(CASE, facts=(), facts_known=False)
    assert value(scorers.score_would_be_corrected(subject(case=no_key, answer="Hi!"), SCORING)) == 1
    assert isinstance(scorers.score_would_be_corrected(subject(case=no_key), SCORING), NotApplicable)


def test_citations() -> None:
    assert value(scorers.score_citations(subject(), SCORING)) == 1
    assert value(scorers.score_citations(subject(citations=()), SCORING)) == 0
    invented = Citation(n=1, document_id="plus", quote="Plus is $7 a month", start=5, end=23)
    assert value(scorers.score_citations(subject(citations=(invented,)), SCORING)) == 0
    elsewhere = Citation(n=2, document_id="other", quote="Plus is $9 a month", start=5, end=23)
    assert value(scorers.score_citations(subject(citations=(elsewhere,)), SCORING)) == 0
    assert isinstance(scorers.score_citations(subject(status="abstained"), SCORING), NotApplicable)


def test_cites_gold() -> None:
    assert value(scorers.score_cites_gold(subject(), SCORING)) == 1
    wrong = Citation(n=2, document_id="other", quote="Team is $14.", start=0, end=12)
    assert value(scorers.score_cites_gold(subject(citations=(wrong,)), SCORING)) == 0
    assert isinstance(scorers.score_cites_gold(subject(citations=()), SCORING), NotApplicable)


def test_abstention_right_and_wrong_are_apart() -> None:
    due = replace(CASE, status="abstained")
    assert value(scorers.score_abstained_when_due(subject(case=due, status="abstained"), SCORING)) == 1
    assert value(scorers.score_abstained_when_due(subject(case=due), SCORING)) == 0
    assert isinstance(scorers.score_abstained_when_due(subject(), SCORING), NotApplicable)
    assert value(scorers.score_abstained_wrongly(subject(status="abstained"), SCORING)) == 1
    assert value(scorers.score_abstained_wrongly(subject(), SCORING)) == 0
    assert isinstance(scorers.score_abstained_wrongly(subject(case=due), SCORING), NotApplicable)


def test_escalation_precision_and_recall() -> None:
    person = replace(CASE, status="escalated", escalate=True)
    passed_on = {"status": "escalated", "fields": {"escalate": True, "escalation_reason": "legal"}}
    assert value(scorers.score_escalation_recall(subject(case=person, **passed_on), SCORING)) == 1
    assert value(scorers.score_escalation_recall(subject(case=person), SCORING)) == 0
    assert isinstance(scorers.score_escalation_recall(subject(), SCORING), NotApplicable)
    assert value(scorers.score_escalation_precision(subject(case=person, **passed_on), SCORING)) == 1
    assert value(scorers.score_escalation_precision(subject(**passed_on), SCORING)) == 0
    assert isinstance(scorers.score_escalation_precision(subject(), SCORING), NotApplicable)


def test_not_in_the_help_centre_is_abstaining_not_escalating() -> None:
    fields = {"escalate": True, "escalation_reason": "not_in_help_centre"}
    seen = subject(status="abstained", fields=fields)
    assert isinstance(scorers.score_escalation_precision(seen, SCORING), NotApplicable)


def test_intent() -> None:
    assert value(scorers.score_intent(subject(), SCORING)) == 1
    assert value(scorers.score_intent(subject(fields={"intent": "account"}), SCORING)) == 0
    assert isinstance(scorers.score_intent(subject(fields={}, draft=None), SCORING), NotApplicable)
    assert isinstance(scorers.score_intent(subject(fields={}), SCORING), ScoreFailure)
    refused = Draft(text="{}", failure="schema")
    assert value(scorers.score_intent(subject(fields={}, draft=refused), SCORING)) == 0
    lost = Draft(text="", failure="engine")
    assert isinstance(scorers.score_intent(subject(fields={}, draft=lost), SCORING), ScoreFailure)


def test_every_field_of_the_task() -> None:
    case = replace(CASE, escalate=False, fields=(("product", "sync"),))
    right = {"intent": "billing", "escalate": False, "product": "sync"}
    assert value(scorers.score_fields(subject(case=case, fields=right), SCORING)) == 1
    wrong = scorers.score_fields(subject(case=case, fields={**right, "product": "backup"}), SCORING)
    assert wrong == Score(0.0, "product: backup")
    told = scorers.score_fields(subject(case=case, fields=right, answer="Plus is $9."), SCORING)
    assert told == Score(0.0, "answer: misses 14 days"), "the text is a field too"
    unknown = replace(CASE, intent=None, facts=(), facts_known=False)
    assert isinstance(scorers.score_fields(subject(case=unknown), SCORING), NotApplicable)
    open_ = scorers.score_fields(subject(case=case, fields={"intent": "billing"}), SCORING)
    assert isinstance(open_, ScoreFailure), "no field is right that nobody saw"


def test_a_task_without_a_text_is_judged_by_its_fields_alone() -> None:
    fields = {"queue": {"type": "string", "enum": ["a", "b"]}, "reason": {"type": "string"}}
    scoring = replace(SCORING, schema={"type": "object", "properties": fields})
    wanted = (("queue", "a"), ("reason", "in other words"))
    case = replace(CASE, intent=None, facts=(), facts_known=False, fields=wanted, passages=())
    seen = subject(
        case=case,
        fields={"queue": "a", "reason": "so"},
        answer='{"queue":"a"} $7!',
        packed=(),
        retrieves=False,
    )
    assert value(scorers.score_fields(seen, scoring)) == 1
    for scorer in (
        scorers.score_tone,
        scorers.score_citations,
        scorers.score_hallucination_draft,
        scorers.score_hallucination_served,
        scorers.score_wording,
        score_policy,
        score_refusal,
    ):
        assert isinstance(scorer(seen, scoring), NotApplicable), scorer


def test_required_wording_stands_word_for_word() -> None:
    scoring = replace(SCORING, wording=load_wording())
    escalated = replace(CASE, status="escalated", required=("Refunds take 5 days.",))
    text = f"It is done.  Refunds take\n5 days. {load_wording().passing_on}"
    assert value(scorers.score_wording(subject(case=escalated, answer=text), scoring)) == 1
    close = text.replace("colleague", "team mate")
    assert value(scorers.score_wording(subject(case=escalated, answer=close), scoring)) == 0
    abusive = replace(CASE, status="abstained", kind="abusive")
    assert value(scorers.score_wording(subject(case=abusive, answer=load_wording().abusive), scoring)) == 1
    assert isinstance(scorers.score_wording(subject(), scoring), NotApplicable)
    assert isinstance(scorers.score_wording(subject(case=abusive), SCORING), NotApplicable)


def test_refusals() -> None:
    rude = replace(CASE, status="abstained", kind="must_refuse")
    assert value(score_refusal(subject(case=rude, status="abstained"), SCORING)) == 1
    assert value(score_refusal(subject(case=rude), SCORING)) == 0
    assert isinstance(score_refusal(subject(), SCORING), NotApplicable)


def test_nothing_shown_supports_nothing() -> None:
    case = replace(CASE, passages=())
    served = scorers.score_hallucination_served(subject(case=case, packed=(), retrieves=False), SCORING)
    assert value(served) == 1, "held against what was shown, not against a search"


def test_an_observation_survives_its_line() -> None:
    line = orjson.dumps(replace(SEEN, timings_ms={"total": 5.0}, corrected=True).as_json())
    assert Observation.from_json(orjson.loads(line)).as_json() == orjson.loads(line) | {
        "citations": replace(SEEN).as_json()["citations"],
        "packed": SEEN.as_json()["packed"],
        "retrieved": SEEN.retrieved,
        "degraded": (),
    }
