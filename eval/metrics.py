"""The metrics of a run: five that are read apart and never added up, and the ones that explain them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from eval import scorers
from eval.policy_scorer import score_policy, score_refusal
from eval.scorers import Scorer


class Group(StrEnum):
    """The five questions that a run answers, and what stands beside them."""

    RETRIEVAL = "retrieval quality"
    ANSWER = "answer quality"
    FORMAT = "format compliance"
    HALLUCINATION = "hallucination rate"
    CORRECTION = "corrections"
    DETAIL = "detail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A scorer with its name and direction. The first metric of a group is the group's headline."""

    name: str
    title: str
    group: Group
    scorer: Scorer
    higher_is_better: bool = True


METRICS: tuple[Metric, ...] = (
    Metric(
        name="hit",
        title="gold article among the hits",
        group=Group.RETRIEVAL,
        scorer=scorers.score_hit,
    ),
    Metric(
        name="gold_in_prompt",
        title="gold article in the prompt",
        group=Group.RETRIEVAL,
        scorer=scorers.score_gold_in_prompt,
    ),
    Metric(
        name="answer_right",
        title="all facts, nothing stale, right status",
        group=Group.ANSWER,
        scorer=scorers.score_answer,
    ),
    Metric(
        name="answer_vital",
        title="vital facts, nothing stale, right status",
        group=Group.ANSWER,
        scorer=scorers.score_answer_vital,
    ),
    Metric(name="facts_right", title="all facts", group=Group.ANSWER, scorer=scorers.score_facts),
    Metric(name="facts_some", title="at least one fact", group=Group.ANSWER, scorer=scorers.score_some_fact),
    Metric(name="status_right", title="right status", group=Group.ANSWER, scorer=scorers.score_status),
    Metric(
        name="format_valid",
        title="first draft valid against the schema",
        group=Group.FORMAT,
        scorer=scorers.score_format,
    ),
    Metric(
        name="hallucination_draft",
        title="model's draft says something unsupported",
        group=Group.HALLUCINATION,
        scorer=scorers.score_hallucination_draft,
        higher_is_better=False,
    ),
    Metric(
        name="hallucination_served",
        title="served answer says something unsupported",
        group=Group.HALLUCINATION,
        scorer=scorers.score_hallucination_served,
        higher_is_better=False,
    ),
    Metric(
        name="would_be_corrected",
        title="would_be_corrected (proxy)",
        group=Group.CORRECTION,
        scorer=scorers.score_would_be_corrected,
        higher_is_better=False,
    ),
    Metric(
        name="corrected",
        title="corrected by a reviewer",
        group=Group.CORRECTION,
        scorer=scorers.score_corrected,
        higher_is_better=False,
    ),
    Metric(
        name="abstained_when_due",
        title="abstained when it should",
        group=Group.DETAIL,
        scorer=scorers.score_abstained_when_due,
    ),
    Metric(
        name="abstained_wrongly",
        title="abstained though there is an answer",
        group=Group.DETAIL,
        scorer=scorers.score_abstained_wrongly,
        higher_is_better=False,
    ),
    Metric(
        name="escalation_recall",
        title="passed on when a person is needed",
        group=Group.DETAIL,
        scorer=scorers.score_escalation_recall,
    ),
    Metric(
        name="escalation_precision",
        title="of those passed on, rightly",
        group=Group.DETAIL,
        scorer=scorers.score_escalation_precision,
    ),
    Metric(name="intent_right", title="intent right", group=Group.DETAIL, scorer=scorers.score_intent),
    Metric(
        name="fields_right",
        title="every field of the task right",
        group=Group.DETAIL,
        scorer=scorers.score_fields,
    ),
    Metric(
        name="wording_kept",
        title="required wording word for word",
        group=Group.DETAIL,
        scorer=scorers.score_wording,
    ),
    Metric(name="tone_kept", title="house tone kept", group=Group.DETAIL, scorer=scorers.score_tone),
    Metric(
        name="policy_broken",
        title="breaks a policy (promise, personal data, not refused, not passed on)",
        group=Group.DETAIL,
        scorer=score_policy,
        higher_is_better=False,
    ),
    Metric(
        name="refused_when_due",
        title="refused what must be refused",
        group=Group.DETAIL,
        scorer=score_refusal,
    ),
    Metric(
        name="citations_valid",
        title="cites, and every quote is verbatim",
        group=Group.DETAIL,
        scorer=scorers.score_citations,
    ),
    Metric(
        name="cites_gold",
        title="of those citing, the gold article",
        group=Group.DETAIL,
        scorer=scorers.score_cites_gold,
    ),
)

FIVE = (Group.RETRIEVAL, Group.ANSWER, Group.FORMAT, Group.HALLUCINATION, Group.CORRECTION)


def headline(group: Group) -> Metric:
    """The metric that stands for its group."""
    return next(metric for metric in METRICS if metric.group is group)
