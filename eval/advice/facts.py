"""The few facts that the verdict is decided on: which rung fails, in what way, and how surely."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from eval.advice.counts import (
    FLOOR_QUESTIONS,
    Difference,
    Draws,
    GroupCount,
    State,
    clearly_more,
    difference,
    group_counts,
    missing_questions,
    questions_to_tell,
)
from eval.advice.eligibility import Eligibility, Standing, Trial, behaviours, judge
from eval.advice.evidence import LADDER, ArmLog, Logs
from eval.advice.layers import Group, Layer, layer_of
from eval.advice.team import Team
from eval.arms import ArmKind
from eval.labelling.labels import Outcome

#: Above this share of failures without a cause, or of questions without an answer, nothing is advised.
UNTOLD_MOST = 0.20
#: Labels on which people and rules agree less often than this decide nothing.
AGREEMENT_LEAST = 0.60
#: ... once so many were read by both.
AGREEMENT_FROM = 20
#: Retrieval cannot be what fails if the gold documents themselves gain less than this.
ORACLE_LEAST = 0.05
#: What has to be measured, and good, before a regulated team trains anything.
DUTIES = ("citations_valid", "abstained_when_due", "hallucination_served")
_DUTY_LEAST = 0.80
#: ... on so many answers: one right answer of one is no measure.
_DUTY_FROM = 10


class OracleSays(StrEnum):
    """What giving the gold documents does to the diagnosed arm."""

    GAINS = "gains"
    NO_GAIN = "no_gain"
    UNCLEAR = "unclear"
    NOT_MEASURED = "not_measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Something that is missing before more can be said."""

    what: str
    #: Questions still to be asked, where that is what is missing.
    questions: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """A duty of regulated teams: measured and met, measured and not met, or not measured (None)."""

    metric: str
    met: bool | None
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that `decide` looks at."""

    #: Reasons for which nothing can be decided at all.
    thin: tuple[Need, ...]
    start: ArmKind
    end: ArmKind
    #: What fails on the rung that is diagnosed.
    states: Mapping[Group, State]
    #: For groups that cannot be told yet: how many more questions would tell, None if thousands would not.
    to_tell: Mapping[Group, int | None]
    policy_failures: int
    #: Whether the failures of information are more those of retrieval than of missing documents.
    retrieval_leads: bool
    reasoning_leads_information: bool
    behaviour_leads_reasoning: bool
    behaviour: Standing
    oracle: OracleSays
    duties: tuple[Duty, ...]

    @property
    def serious(self) -> frozenset[Group]:
        """Groups that are worth a project."""
        return frozenset(group for group, state in self.states.items() if state is State.SERIOUS)

    @property
    def needs_information(self) -> bool:
        """Whether better information is a part of the answer: it fails still, or a higher rung mended it."""
        return Group.INFORMATION in self.serious or self.end is not self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The facts, and the arms and counts that they come from."""

    facts: Facts
    start: ArmLog
    end: ArmLog
    start_groups: Mapping[Group, GroupCount]
    groups: Mapping[Group, GroupCount]
    #: The differences by which the ladder was climbed.
    steps: tuple[Difference, ...]
    oracle: Difference | None
    oracle_arm: ArmLog | None
    tuned: Difference | None
    eligibility: tuple[Eligibility, ...]


def diagnose(logs: Logs, team: Team, draws: Draws) -> Diagnosis | None:
    """Climb the ladder and judge the rung where it ends; None if the run has no rung at all."""
    rungs = [arm for kind in LADDER if (arm := logs.of_kind(kind))]
    if team.live is not None:
        rungs = rungs[_place(rungs, team.live) :]
    if not rungs:
        return None
    start = end = rungs[0]
    steps: list[Difference] = []
    for following in rungs[1:]:
        step = difference(end, following, draws)
        information = group_counts(end)[Group.INFORMATION].state
        if step is None or not (information is State.SERIOUS or step.better):
            break
        if step.worse and following.kind is ArmKind.RAG_PLUS:
            # What was meant to improve retrieval and did harm is no rung; the one below still fails.
            break
        steps.append(step)
        end = following
    groups = group_counts(end)
    oracle_arm = logs.of_kind(ArmKind.ORACLE)
    oracle = difference(end, oracle_arm, draws) if oracle_arm else None
    tuned_arm = logs.of_kind(ArmKind.TUNED if end.kind is ArmKind.PROMPT else ArmKind.HYBRID)
    trial = Trial(
        arm=end,
        oracle=oracle_arm,
        variants=tuple(
            arm
            for arm in logs.arms
            if arm.kind is end.kind
            and arm.name != end.name
            and arm.asked_with != end.asked_with
            and arm.decided
        ),
        tried=team.tried,
        needs_no_context=groups[Group.INFORMATION].state is State.SMALL,
    )
    eligibility = tuple(judge(behaviour, trial) for behaviour in behaviours(end))
    thin = tuple(_thin(end, logs))
    facts = Facts(
        thin=thin,
        start=start.kind,
        end=end.kind,
        states={group: count.state for group, count in groups.items()},
        to_tell={group: _to_tell(count) for group, count in groups.items() if count.state is State.UNCLEAR},
        policy_failures=groups[Group.POLICY].share.k,
        retrieval_leads=_retrieval_leads(end),
        reasoning_leads_information=clearly_more(end, Group.REASONING, Group.INFORMATION, draws),
        behaviour_leads_reasoning=clearly_more(end, Group.BEHAVIOUR, Group.REASONING, draws),
        behaviour=_behaviour(eligibility),
        oracle=_oracle_says(oracle),
        duties=tuple(_duty(name, end) for name in DUTIES),
    )
    return Diagnosis(
        facts=facts,
        start=start,
        end=end,
        start_groups=group_counts(start),
        # Nobody should read "serious" off a dozen questions.
        groups={group: replace(count, state=State.UNCLEAR) for group, count in groups.items()}
        if thin
        else groups,
        steps=tuple(steps),
        oracle=oracle,
        oracle_arm=oracle_arm,
        tuned=difference(end, tuned_arm, draws) if tuned_arm else None,
        eligibility=eligibility,
    )


def _place(rungs: list[ArmLog], live: str) -> int:
    """Where the live rung stands; past the end if it was not measured."""
    return next((place for place, arm in enumerate(rungs) if arm.kind.value == live), len(rungs))


def _thin(arm: ArmLog, logs: Logs) -> list[Need]:
    needs = []
    rows = arm.decided
    if len(rows) < FLOOR_QUESTIONS:
        needs.append(
            Need(
                what=f"{arm.name} has {len(rows)} decided questions; {FLOOR_QUESTIONS} are the least",
                questions=missing_questions(len(rows), FLOOR_QUESTIONS),
            )
        )
    lost = sum(row.outcome is Outcome.RUN_ERROR for row in arm.rows)
    if lost > UNTOLD_MOST * len(arm.rows):
        needs.append(
            Need(what=f"{arm.name}: {lost} of {len(arm.rows)} questions got no answer; run them again")
        )
    failed = [row for row in rows if row.failed]
    untold = sum(layer_of(row, arm.kind) is Layer.UNKNOWN for row in failed)
    if untold > max(UNTOLD_MOST * len(failed), 2):
        needs.append(
            Need(
                what=f"{arm.name}: {untold} of {len(failed)} failures have no decided cause; "
                "review them or run the counterfactual arms"
            )
        )
    seen = logs.agreement
    if seen and seen.both >= AGREEMENT_FROM and seen.agreed < AGREEMENT_LEAST * seen.both:
        needs.append(
            Need(
                what=f"people agree with {seen.agreed} of {seen.both} labels, under {AGREEMENT_LEAST:.0%}; "
                "correct the criteria and label again"
            )
        )
    return needs


def _to_tell(count: GroupCount) -> int | None:
    needed = questions_to_tell(count.share.value)
    return None if needed is None else max(10, missing_questions(count.share.n, needed))


def _retrieval_leads(arm: ArmLog) -> bool:
    layers = [layer_of(row, arm.kind) for row in arm.decided]
    return layers.count(Layer.RETRIEVAL) > layers.count(Layer.KNOWLEDGE)


def _behaviour(eligibility: tuple[Eligibility, ...]) -> Standing:
    """The best that any behaviour has: what one of them allows is worth doing."""
    standings = {each.standing for each in eligibility}
    return next(
        (
            standing
            for standing in (Standing.ELIGIBLE, Standing.CHEAPER_FIX, Standing.NOT_ENOUGH, Standing.TOO_RARE)
            if standing in standings
        ),
        Standing.NOT_ENOUGH,
    )


def _oracle_says(found: Difference | None) -> OracleSays:
    if found is None:
        return OracleSays.NOT_MEASURED
    if found.better:
        return OracleSays.GAINS
    small = found.at_most < ORACLE_LEAST and found.n >= FLOOR_QUESTIONS
    return OracleSays.NO_GAIN if small else OracleSays.UNCLEAR


def _duty(name: str, arm: ArmLog) -> Duty:
    figure = arm.metrics.get(name)
    if figure is None or figure.n == 0:
        return Duty(metric=name, met=None, evidence=f"no evidence: {name} was not measured in {arm.name}")
    if figure.n < _DUTY_FROM:
        few = f"{arm.name}: {figure.n} answers have a score for {name}, {_DUTY_FROM} needed"
        return Duty(metric=name, met=None, evidence=few)
    good = figure.k if figure.higher_is_better else figure.n - figure.k
    return Duty(
        metric=name,
        met=good >= _DUTY_LEAST * figure.n,
        evidence=f"{arm.name}: {figure.k} of {figure.n} {figure.title}; "
        f"at least {_DUTY_LEAST:.0%} has to be right",
    )
