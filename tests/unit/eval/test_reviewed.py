"""What a review tells the metrics, and what it leaves open."""

from __future__ import annotations

import pytest

from eval.labelling.labels import Label
from eval.labelling.rules import RULES
from eval.metrics import METRICS
from eval.observations import Citation, Draft, Observation
from eval.reviewed import BY_REVIEW, Reviewed, told_by
from eval.scorers import NotApplicable, Score, ScoreFailure

CITED = (Citation(n=1, document_id="plus", quote="$9", start=0, end=2),)


def seen(status: str = "answered", **more: object) -> Observation:
    values: dict[str, object] = {
        "case_id": "q",
        "arm": "live",
        "status": status,
        "answer": "Sync Plus is $9.",
        "citations": CITED if status == "answered" else (),
        "draft": Draft(text="{}") if status == "answered" else None,
    }
    return Observation(**{**values, **more})  # type: ignore[arg-type]


def said(label: str | None, sub: str = "", **more: str) -> Reviewed:
    return Reviewed(label=label, sub=sub, ending="training_example", **more)


def scored(observation: Observation, review: Reviewed) -> dict[str, float | str]:
    """Scores as numbers; `open` is missing, `-` does not apply."""
    shown: dict[str, float | str] = {}
    for name, decide in BY_REVIEW.items():
        outcome = decide(observation, review)
        if isinstance(outcome, Score):
            shown[name] = outcome.value
        else:
            shown[name] = "-" if isinstance(outcome, NotApplicable) else "open"
    return shown


def test_each_of_them_is_a_metric_of_a_run() -> None:
    assert set(BY_REVIEW) <= {metric.name for metric in METRICS}


def test_an_answer_without_fault() -> None:
    assert scored(seen(), said(None)) == {
        "hit": 1,
        "gold_in_prompt": 1,
        "answer_right": 1,
        "facts_right": 1,
        "status_right": 1,
        "hallucination_served": 0,
        "corrected": 0,
        "abstained_when_due": "-",
        "abstained_wrongly": 0,
        "tone_kept": 1,
        "policy_broken": 0,
    }


def test_rightly_not_answered_is_no_retrieval_miss() -> None:
    found = scored(seen("abstained"), said(None))
    assert (found["hit"], found["facts_right"], found["answer_right"]) == ("-", "-", 1)
    assert (found["abstained_when_due"], found["abstained_wrongly"]) == (1, "-")
    missing = scored(seen("abstained"), said("missing_knowledge"))
    assert (missing["hit"], missing["answer_right"], missing["abstained_when_due"]) == ("-", 1, 1)


@pytest.mark.parametrize("status", ["escalated", "clarify", "fallback"])
def test_rightly_no_answer_says_nothing_of_the_article(status: str) -> None:
    found = scored(seen(status), said(None))
    assert (found["hit"], found["status_right"], found["answer_right"]) == ("open", 1, "open")


@pytest.mark.parametrize(
    ("label", "sub", "wanted"),
    [
        ("wrong_retrieval", "", {"hit": 0, "gold_in_prompt": 0, "facts_right": 0}),
        ("wrong_retrieval", "packing", {"hit": 1, "gold_in_prompt": 0, "hallucination_served": "open"}),
        ("stale_knowledge", "index", {"hit": "open", "answer_right": 0}),
        ("hallucination", "", {"hit": 1, "hallucination_served": 1, "answer_right": 0}),
        ("hallucination", "extra_claim", {"hallucination_served": 1, "facts_right": 1, "answer_right": 1}),
        ("hallucination", "unanswerable", {"hit": "-", "status_right": 0, "abstained_when_due": 0}),
        ("wrong_tone", "", {"tone_kept": 0, "facts_right": 1, "hit": 1, "answer_right": 1}),
        ("weak_reasoning", "wrong_status", {"facts_right": 1, "status_right": 0, "answer_right": 0}),
        ("weak_reasoning", "passed_on_by_rule", {"facts_right": "open", "answer_right": 0}),
        ("policy_violation", "promise", {"policy_broken": 1, "hit": "open", "answer_right": "open"}),
        ("wrong_retrieval", "", {"policy_broken": 0}),
        ("bad_format", "", {"hit": "open", "facts_right": "open"}),
        ("undetermined", "", {"policy_broken": "open", "answer_right": "open", "corrected": 0}),
    ],
)
def test_what_a_label_tells(label: str, sub: str, wanted: dict[str, float | str]) -> None:
    found = scored(seen(), said(label, sub))
    assert {name: found[name] for name in wanted} == wanted


def test_abstaining_though_there_is_an_answer() -> None:
    found = scored(seen("abstained"), said("weak_reasoning", "over_abstain"))
    assert (found["abstained_wrongly"], found["status_right"], found["hit"]) == (1, 0, 1)


def test_the_deployments_own_wording_claims_nothing_whatever_the_cause() -> None:
    assert scored(seen("abstained"), said("wrong_retrieval"))["hallucination_served"] == 0
    assert scored(seen("fallback"), said("bad_format"))["hallucination_served"] == 0
    kept_back = seen("fallback", draft=Draft(text="{}", failure="unsupported"))
    assert scored(kept_back, said("hallucination"))["hallucination_served"] == 0


def test_a_corrected_answer_is_a_correction() -> None:
    assert scored(seen(), said(None, corrected_answer="$9 a month."))["corrected"] == 1


def test_every_label_and_sub_code_of_the_rules_is_understood() -> None:
    for rule in RULES:
        told_by(seen(), said(rule.label.value, rule.sub))
    for label in Label:
        assert told_by(seen(), said(label.value, "of our own")) == told_by(seen(), said(label.value))


def test_an_open_review_says_nothing() -> None:
    row = {
        "state": "second",
        "label": None,
        "sub": None,
        "ending": None,
        "corrected_answer": None,
        "note": None,
        "cluster": "",
        "closed_by": None,
        "closed_at": None,
    }
    assert Reviewed.from_row(row) is None
    closed = Reviewed.from_row({**row, "state": "closed", "ending": "no_fault"})
    assert closed is not None
    assert isinstance(BY_REVIEW["hit"](seen("escalated"), closed), ScoreFailure)
