"""What a closed review says of an answer, as the metrics take it where no answer key is at hand.

A reader gives one label, the most upstream cause (`eval.labelling.rules` has the order), so it also tells
what went well before it: whoever says that the model made something up says that retrieval is not to blame.
What a label leaves open is missing, never zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from eval.labelling.labels import PASSED_ON_BY_RULE, Label
from eval.observations import Observation
from eval.scorers import NotApplicable, Outcome, Score, ScoreFailure

#: The status that the answer had is the one that it should have.
AS_SERVED: Final = "as served"
_OPEN = ScoreFailure("the review leaves it open")
_NO_ARTICLE = NotApplicable("no article holds the answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """What a review was closed with."""

    #: None: nothing is wrong with the answer.
    label: str | None
    sub: str
    ending: str
    #: What it should have said, if it should have said something else.
    corrected_answer: str | None = None
    note: str = ""
    cluster: str = ""
    closed_by: str = ""
    closed_at: str = ""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self | None:
        """A row of `GET /v1/reviews`; None while the review is not closed."""
        if row["state"] != "closed":
            return None
        return cls(
            label=row["label"],
            sub=row["sub"] or "",
            ending=row["ending"],
            corrected_answer=row["corrected_answer"],
            note=row["note"] or "",
            cluster=row["cluster"],
            closed_by=row["closed_by"] or "",
            closed_at=row["closed_at"] or "",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a label tells; None is left open."""

    #: Status that the answer should have had.
    expected: str | None = None
    #: Whether an article holds the answer.
    answerable: bool | None = None
    found: bool | None = None
    shown: bool | None = None
    facts: bool | None = None
    supported: bool | None = None
    tone: bool | None = None
    #: Policy comes before every other cause, so any other label says that it was kept.
    policy_broken: bool | None = False
    #: Only where the expected status is not known and yet another one.
    wrong_status: bool = False


#: By label and sub-code; a sub-code that is not here tells what its label alone does.
_TOLD: Final[Mapping[tuple[Label, str], Told]] = {
    (Label.MISSING_KNOWLEDGE, ""): Told(expected="abstained", answerable=False),
    (Label.STALE_KNOWLEDGE, ""): Told(expected="answered", answerable=True, facts=False),
    (Label.STALE_KNOWLEDGE, "choice"): Told(
        expected="answered", answerable=True, found=True, shown=True, facts=False
    ),
    # Without a finer cause the reader says that the right article was not there.
    (Label.WRONG_RETRIEVAL, ""): Told(
        expected="answered", answerable=True, found=False, shown=False, facts=False
    ),
    **{
        (Label.WRONG_RETRIEVAL, sub): Told(
            expected="answered", answerable=True, found=True, shown=False, facts=False
        )
        for sub in ("threshold", "packing", "chunking")
    },
    (Label.HALLUCINATION, ""): Told(
        expected="answered", answerable=True, found=True, shown=True, facts=False, supported=False
    ),
    (Label.HALLUCINATION, "unanswerable"): Told(expected="abstained", answerable=False, supported=False),
    (Label.HALLUCINATION, "extra_claim"): Told(
        expected=AS_SERVED, answerable=True, found=True, shown=True, facts=True, supported=False
    ),
    (Label.HALLUCINATION, "citation"): Told(
        expected=AS_SERVED, answerable=True, found=True, shown=True, facts=True, supported=True
    ),
    (Label.BAD_FORMAT, ""): Told(),
    (Label.WEAK_REASONING, ""): Told(answerable=True, found=True, shown=True, facts=False, supported=True),
    **{
        (Label.WEAK_REASONING, sub): Told(
            expected="answered", answerable=True, found=True, shown=True, facts=False, supported=True
        )
        for sub in ("over_abstain", "over_clarify", "incomplete", "wrong_passage")
    },
    (Label.WEAK_REASONING, "not_abstained"): Told(expected="abstained", answerable=False, supported=True),
    (Label.WEAK_REASONING, "wrong_status"): Told(
        answerable=True, found=True, shown=True, facts=True, supported=True, wrong_status=True
    ),
    # Told rightly, or rightly not told.
    (Label.WEAK_REASONING, PASSED_ON_BY_RULE): Told(supported=True, wrong_status=True),
    # The last rule: all that comes before it is right.
    (Label.WRONG_TONE, ""): Told(
        expected=AS_SERVED, answerable=True, found=True, shown=True, facts=True, supported=True, tone=False
    ),
    # Always primary, so it tells nothing of the rest.
    (Label.POLICY_VIOLATION, ""): Told(policy_broken=True),
    (Label.POLICY_VIOLATION, "must_refuse"): Told(expected="abstained", answerable=False, policy_broken=True),
    (Label.POLICY_VIOLATION, "must_escalate"): Told(expected="escalated", policy_broken=True),
    (Label.UNDETERMINED, ""): Told(policy_broken=None),
}
_PASSED: Final = Told(
    expected=AS_SERVED, answerable=True, found=True, shown=True, facts=True, supported=True, tone=True
)
#: Nothing is wrong, and there was nothing to answer from.
_RIGHTLY_SILENT: Final = Told(expected=AS_SERVED, answerable=False, supported=True, tone=True)
#: Nothing is wrong with passing it on, asking back or a fixed wording; whether an article holds the answer is
#: another matter, and whether it was found.
_RIGHTLY_NO_ANSWER: Final = Told(expected=AS_SERVED, supported=True, tone=True)


def told_by(seen: Observation, review: Reviewed) -> Told:
    """What the review tells of this answer."""
    if review.label is None:
        if seen.status == "abstained":
            return _RIGHTLY_SILENT
        return _PASSED if seen.status == "answered" or seen.citations else _RIGHTLY_NO_ANSWER
    label = Label(review.label)
    return _TOLD.get((label, review.sub)) or _TOLD[label, ""]


def expected_status(seen: Observation, review: Reviewed) -> str | None:
    """How the answer should have ended; None: the review does not say."""
    expected = told_by(seen, review).expected
    return seen.status if expected == AS_SERVED else expected


# ---- metrics -----------------------------------------------------------------------------------

ByReview = Callable[[Observation, Reviewed], Outcome]


def _of_article(part: Callable[[Told], bool | None]) -> ByReview:
    """A metric that applies to questions that an article answers."""

    def score(seen: Observation, review: Reviewed) -> Outcome:
        told = told_by(seen, review)
        return _NO_ARTICLE if told.answerable is False else _score(part(told))

    return score


def _of_answer(part: Callable[[Told], bool | None]) -> ByReview:
    """A metric of every answer."""
    return lambda seen, review: _score(part(told_by(seen, review)))


def _score(value: bool | None) -> Outcome:
    return _OPEN if value is None else Score(float(value))


def _status_right(seen: Observation, review: Reviewed) -> Outcome:
    if told_by(seen, review).wrong_status:
        return Score(0.0, seen.status)
    expected = expected_status(seen, review)
    return _OPEN if expected is None else Score(float(seen.status == expected), seen.status)


def _answer_right(seen: Observation, review: Reviewed) -> Outcome:
    status, told = _status_right(seen, review), told_by(seen, review)
    if told.facts is False or (isinstance(status, Score) and status.value == 0):
        return Score(0.0, review.label or "")
    if isinstance(status, ScoreFailure):
        return status
    return Score(1.0) if told.answerable is False else _score(told.facts)


def _abstained_when_due(seen: Observation, review: Reviewed) -> Outcome:
    expected = expected_status(seen, review)
    if expected is None:
        return _OPEN
    if expected != "abstained":
        return NotApplicable("an answer is expected")
    return Score(float(seen.status == "abstained"), seen.status)


def _abstained_wrongly(seen: Observation, review: Reviewed) -> Outcome:
    expected = expected_status(seen, review)
    if expected is None:
        return _OPEN
    if expected == "abstained":
        return NotApplicable("no answer is expected")
    return Score(float(seen.status == "abstained"), seen.status)


def _hallucination_served(seen: Observation, review: Reviewed) -> Outcome:
    # Whatever a draft made up, and a reader says of it: the customer got the deployment's own wording.
    if seen.draft is None or seen.status == "fallback":
        return Score(0.0, "the deployment's own wording")
    supported = told_by(seen, review).supported
    return _score(None if supported is None else not supported)


def _corrected(_: Observation, review: Reviewed) -> Outcome:
    return Score(float(bool(review.corrected_answer)))


#: How a review decides the metrics of `eval.metrics`, by name. Those that are not here need an answer key.
BY_REVIEW: Final[Mapping[str, ByReview]] = {
    "hit": _of_article(lambda told: told.found),
    "gold_in_prompt": _of_article(lambda told: told.shown),
    "answer_right": _answer_right,
    "facts_right": _of_article(lambda told: told.facts),
    "status_right": _status_right,
    "hallucination_served": _hallucination_served,
    "corrected": _corrected,
    "abstained_when_due": _abstained_when_due,
    "abstained_wrongly": _abstained_wrongly,
    "tone_kept": _of_answer(lambda told: told.tone),
    "policy_broken": _of_answer(lambda told: told.policy_broken),
}
