"""Advice: one structure that the verdict, the JSON and the page are all read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from eval.advice.choosing import Choice, choose_arms
from eval.advice.costs import Costs, costs_of
from eval.advice.counts import (
    ASKED_GAIN,
    FLOOR_QUESTIONS,
    SERIOUS_ABOVE,
    SMALL_BELOW,
    ClusterCount,
    Difference,
    Draws,
    GroupCount,
    LabelCount,
    Share,
    cluster_counts,
    label_counts,
    questions_for_gain,
    share_of,
)
from eval.advice.deciding import TITLES, Change, Decision, Verdict, decide, order_of, what_would_change
from eval.advice.effects import CandidateFix, candidate_fixes
from eval.advice.eligibility import LEAST_CLUSTERS, LEAST_PROMPTS, LEAST_ROWS, LEAST_SEEN, Eligibility
from eval.advice.evidence import ArmLog, Logs, MetricFigure
from eval.advice.facts import Diagnosis, Need, diagnose
from eval.advice.framework import Framework, fill_in
from eval.advice.layers import FIX_TEXTS, Fix, Group
from eval.advice.speaking import sentence_of
from eval.advice.team import Team
from eval.arms import ArmKind
from eval.labelling.labels import Outcome
from eval.metrics import FIVE, headline
from eval.stats import smallest_visible_gain, wilson

#: Raised when the same logs may give another verdict or another field.
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmView:
    """An arm at a glance: what passed, why the rest failed, and the five metrics that are read apart."""

    name: str
    kind: ArmKind
    asked: int
    run_errors: int
    passed: Share
    labels: Mapping[str, int]
    #: Headline of each group of metrics; null where the run's report has none.
    metrics: Mapping[str, MetricFigure | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosed:
    """The arm whose failures the advice is about."""

    arm: str
    kind: ArmKind
    start: str
    start_information: GroupCount
    groups: tuple[GroupCount, ...]
    labels: tuple[LabelCount, ...]
    clusters: tuple[ClusterCount, ...]
    #: Questions that were rightly not answered, because no document says it: to be read by the content owner.
    coverage_gaps: int
    #: By which differences a rung was left for the next.
    steps: tuple[Difference, ...]
    oracle: Difference | None
    tuned: Difference | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderedStep:
    """What to do, by whom and when."""

    place: int
    fix: Fix
    title: str
    steps: str
    owner: str
    when: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerView:
    """What so many questions can show, and how many more are needed."""

    questions: int
    visible_gain: float | None
    asked_gain: float
    questions_for_asked_gain: int | None
    #: 0 where nothing is missing, null where questions alone do not help.
    missing: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementView:
    """How often people and the rules agree on the same turn."""

    k: int
    n: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """The rules that decided, so that a reader can check them."""

    floor_questions: int = FLOOR_QUESTIONS
    serious_above: float = SERIOUS_ABOVE
    small_below: float = SMALL_BELOW
    tune_rows: int = LEAST_ROWS
    tune_seen: int = LEAST_SEEN
    tune_clusters: int = LEAST_CLUSTERS
    tune_prompts: int = LEAST_PROMPTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Everything that is shown, in any form."""

    run: str
    verdict: Verdict
    title: str
    sentence: str
    by_evidence: Verdict
    adjusted: tuple[str, ...]
    needs: tuple[Need, ...]
    order: tuple[OrderedStep, ...]
    arms: tuple[ArmView, ...]
    #: Which arm stands for its kind, where several have it.
    choices: tuple[Choice, ...]
    diagnosed: Diagnosed | None
    fixes: tuple[CandidateFix, ...]
    eligibility: tuple[Eligibility, ...]
    costs: Costs | None
    framework: Framework
    changes: tuple[Change, ...]
    power: PowerView
    agreement: AgreementView | None
    team: Mapping[str, Any]
    criteria: tuple[str, ...]
    question_set_sha256: str
    labels_sha256: str
    thresholds: Thresholds = Thresholds()
    format: int = _FORMAT

    def as_json(self) -> dict[str, Any]:
        """Plain data; the page is made from this and from nothing else."""
        plain: dict[str, Any] = orjson.loads(orjson.dumps(self, option=orjson.OPT_NON_STR_KEYS))
        return plain


def advise(logs: Logs, team: Team, draws: Draws) -> Advice:
    """The advice that these logs allow. The same logs, team and seed give the same advice."""
    settled = choose_arms(logs, team, draws)
    logs = settled.logs
    found = diagnose(logs, team, draws)
    decision = decide(found.facts, team) if found else _nothing_to_diagnose(logs, team)
    # A handful of questions gives neither effects nor costs: figures would be read as if they meant much.
    enough = found if found and not found.facts.thin else None
    costs = costs_of(logs.arms, enough.end, team, draws) if enough else None
    fixes = candidate_fixes(enough, draws) if enough else ()
    return Advice(
        run=logs.run,
        verdict=decision.verdict,
        title=TITLES[decision.verdict],
        sentence=sentence_of(decision, found, fixes),
        by_evidence=decision.by_evidence,
        adjusted=decision.adjusted,
        needs=decision.needs,
        order=_order(found, decision),
        arms=tuple(_arm_view(arm) for arm in logs.arms if arm.decided),
        choices=settled.choices,
        diagnosed=_diagnosed(found) if found else None,
        fixes=fixes,
        eligibility=found.eligibility if found else (),
        costs=costs,
        framework=fill_in(logs, found, decision, costs, team),
        changes=what_would_change(found.facts, team, decision.verdict) if found else (),
        power=_power(found, decision),
        agreement=_agreement(logs),
        team=team.model_dump(mode="json"),
        criteria=logs.criteria,
        question_set_sha256=logs.question_set_sha256,
        labels_sha256=logs.labels_sha256,
    )


def _nothing_to_diagnose(logs: Logs, team: Team) -> Decision:
    wanted = team.live or "prompt, rag or rag_plus"
    measured = ", ".join(f"{arm.name} ({arm.kind})" for arm in logs.arms) or "none"
    return Decision(
        verdict=Verdict.NOT_ENOUGH,
        by_evidence=Verdict.NOT_ENOUGH,
        adjusted=(),
        needs=(
            Need(
                what=f"no answered arm of kind {wanted} in the run (it has {measured})",
                questions=FLOOR_QUESTIONS,
            ),
        ),
    )


def _order(found: Diagnosis | None, decision: Decision) -> tuple[OrderedStep, ...]:
    if found is None:
        return ()
    return tuple(
        OrderedStep(
            place=place,
            fix=step.fix,
            title=FIX_TEXTS[step.fix].title,
            steps=FIX_TEXTS[step.fix].steps,
            owner=FIX_TEXTS[step.fix].owner,
            when=step.when,
            why=step.why,
        )
        for place, step in enumerate(order_of(found.facts, decision), start=1)
    )


def _arm_view(arm: ArmLog) -> ArmView:
    labels: dict[str, int] = {}
    for row in arm.decided:
        if row.label:
            labels[row.label.value] = labels.get(row.label.value, 0) + 1
    return ArmView(
        name=arm.name,
        kind=arm.kind,
        asked=len(arm.rows),
        run_errors=sum(row.outcome is Outcome.RUN_ERROR for row in arm.rows),
        passed=share_of(arm.decided, lambda row: not row.failed),
        labels=dict(sorted(labels.items())),
        metrics={group.value: arm.metrics.get(headline(group).name) for group in FIVE},
    )


def _diagnosed(found: Diagnosis) -> Diagnosed:
    return Diagnosed(
        arm=found.end.name,
        kind=found.end.kind,
        start=found.start.name,
        start_information=found.start_groups[Group.INFORMATION],
        groups=tuple(found.groups.values()),
        labels=label_counts(found.end),
        clusters=cluster_counts(found.end),
        coverage_gaps=sum(row.coverage_gap for row in found.end.decided),
        steps=found.steps,
        oracle=found.oracle,
        tuned=found.tuned,
    )


def _power(found: Diagnosis | None, decision: Decision) -> PowerView:
    questions = len(found.end.decided) if found else 0
    wanted = [need.questions for need in decision.needs]
    known = [count for count in wanted if count is not None]
    if decision.verdict is Verdict.NOT_ENOUGH and found and not found.facts.thin:
        known += [each.questions_missing for each in found.eligibility if each.questions_missing]
    return PowerView(
        questions=questions,
        visible_gain=smallest_visible_gain(questions) if questions else None,
        asked_gain=ASKED_GAIN,
        questions_for_asked_gain=questions_for_gain(ASKED_GAIN),
        missing=max(known, default=None if wanted else 0),
    )


def _agreement(logs: Logs) -> AgreementView | None:
    seen = logs.agreement
    if seen is None:
        return None
    interval = wilson(seen.agreed, seen.both)
    return AgreementView(
        k=seen.agreed,
        n=seen.both,
        value=seen.agreed / seen.both,
        low=interval.low,
        high=interval.high,
    )
