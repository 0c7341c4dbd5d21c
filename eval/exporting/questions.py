"""Reviewed turns as questions of a set: what every later version has to pass, and what policy forbids."""

from __future__ import annotations

from datetime import date
from typing import Any, Final

from eval.exporting.examples import example_id
from eval.exporting.reviewed_turns import ReviewedTurn
from eval.exporting.wanted import supporting, wanted_answer, written
from eval.labelling.labels import Label
from eval.reviewed import expected_status
from eval.scorers import Scoring
from eval.sets.questions import Question, Status
from eval.sets.telling_values import facts_of, values_in

#: What a question is whose answer should end so.
_STATUSES: Final[dict[str, Status]] = {
    "answered": "answerable",
    "abstained": "unanswerable",
    "escalated": "must_escalate",
}
#: What a policy case is, by the sub-code of its label. A promise or somebody's data may stand in an answer to
#: a question that has a right one, so these say nothing of the question.
_POLICY: Final[dict[str, Status]] = {
    "must_refuse": "must_refuse",
    "must_escalate": "must_escalate",
    "internal": "must_refuse",
}
#: Causes that put values into an answer which must not come back.
_WRONG_VALUES: Final = (Label.STALE_KNOWLEDGE, Label.HALLUCINATION)


def regression_test(reviewed: ReviewedTurn, scoring: Scoring) -> Question:
    """The question with the facts of the wanted answer. Without a value in it, a person has to write some."""
    expected = expected_status(reviewed.seen, reviewed.review)
    return _question(reviewed, scoring, status=_STATUSES.get(expected or ""))


def policy_case(reviewed: ReviewedTurn, scoring: Scoring) -> Question:
    """The question as one that policy has something to say about."""
    status = _POLICY.get(reviewed.review.sub)
    if status is None and reviewed.review.label != Label.POLICY_VIOLATION:
        # Nothing was wrong, or something else: how it should end is the rule that it is a case of.
        expected = expected_status(reviewed.seen, reviewed.review)
        status = "must_refuse" if expected == "abstained" else _STATUSES.get(expected or "")
    return _question(reviewed, scoring, status=status, kind="policy")


def needs_facts(question: Question) -> bool:
    """Whether a program cannot tell yet if the question is answered rightly."""
    return question.status in (None, "answerable") and not question.facts


def _question(reviewed: ReviewedTurn, scoring: Scoring, *, status: Status | None, kind: str = "") -> Question:
    turn, review = reviewed.turn, reviewed.review
    wanted = wanted_answer(reviewed, scoring)
    expects_facts = wanted is not None and status in (None, "answerable")
    facts: dict[str, Any] = {}
    if wanted is not None and expects_facts:
        facts = {
            "facts": facts_of(wanted.text, besides=turn.question),
            "gold": tuple(
                dict.fromkeys(
                    item.document_id
                    for item in supporting(wanted.text, reviewed, scoring)
                    if item.document_id and not item.document_id.startswith("context:")
                )
            ),
        }
        if wanted.corrected and review.label in _WRONG_VALUES:
            right = {value.key for text in (wanted.text, turn.question) for value in values_in(text)}
            facts["stale_values"] = tuple(
                dict.fromkeys(
                    value.text for value in values_in(written(reviewed, scoring)) if value.key not in right
                )
            )
    cause = ".".join(filter(None, (review.label or "", review.sub)))
    remarks = (cause, review.note, f"Wanted: {wanted.text}" if wanted is not None else "")
    return Question(
        id=example_id(turn.id),
        text=turn.question,
        asked_at=date.fromisoformat(turn.created_at[:10]),
        source=f"turn:{turn.id}",
        asker="staff" if turn.asker == "staff" else "customer",
        history=reviewed.history,
        cluster=review.cluster,
        status=status,
        kind=kind,
        note="\n".join(filter(None, remarks)),
        **facts,
    )
