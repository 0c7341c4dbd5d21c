"""The gate itself: lines in, verdict out. Pure; the same runs and rules always get the same verdict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from eval.cases import Case
from eval.gating.guards import LEAST_MOVING, Judging, needed_for_gain
from eval.gating.rules import POLICY_VIOLATION, GateRules, Goal
from eval.gating.sides import Side
from eval.gating.verdicts import (
    Decision,
    LimitLine,
    Line,
    PolicyLine,
    RegressionLine,
    Role,
    State,
    Subject,
    Verdict,
)

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that a gate looks at."""

    subject: Subject
    stable: Side
    candidate: Side
    cases: Sequence[Case]
    #: What labels say of policies; looked at where the rules ask for it.
    policy: PolicyLine
    #: Questions that must pass.
    regression: Sequence[str] = ()
    notes: tuple[str, ...] = ()


def decide(
    evidence: Evidence, rules: GateRules, *, min_questions: int, resamples: int, seed: int
) -> Decision:
    """Judge a candidate. What is broken refuses it; what is not known keeps it from passing."""
    judging = Judging(
        rules=rules,
        stable=evidence.stable,
        candidate=evidence.candidate,
        cases=evidence.cases,
        min_questions=min_questions,
        resamples=resamples,
        seed=seed,
    )
    names = rules.primaries_of(evidence.subject.rail)
    policies = [
        evidence.policy if name == POLICY_VIOLATION else judging.policy_metric(name)
        for name in rules.zero_tolerance
    ]
    regression = judging.regression(evidence.regression, names) if evidence.regression else None
    both = evidence.stable.answered & evidence.candidate.answered
    answered = [case for case in evidence.cases if case.id in both]
    lacks = list(_coverage(evidence, rules, names, answered, min_questions))
    # With too little to go on no number is given: it would be read.
    primaries = [] if lacks else judging.primaries(names)
    guards = [] if lacks else judging.guards(names)
    slices = [] if lacks else judging.slices(names)
    limits = [] if lacks else judging.limits()
    refusals = [*_broken(policies, regression)]
    lacks += _unchecked(policies, regression, rules)
    if primaries:
        refusals += _refused([*primaries, *guards, *slices], limits)
        lacks += _undecided(primaries, guards, slices, rules)
        refusals += () if refusals else _no_gain(primaries, rules)
    verdict = Verdict.REFUSED if refusals else Verdict.NOT_ENOUGH if lacks else Verdict.PASS
    return Decision(
        gate=rules.name,
        goal=rules.goal,
        subject=evidence.subject,
        verdict=verdict,
        refusals=tuple(refusals),
        lacks=tuple(lacks),
        questions=len(answered),
        topics=len({case.topic for case in answered}),
        lines=(*primaries, *guards, *slices),
        limits=tuple(limits),
        policies=tuple(policies),
        regression=regression,
        notes=(*evidence.notes, *_unanswered(evidence)),
    )


def _coverage(
    evidence: Evidence,
    rules: GateRules,
    primaries: Sequence[str],
    answered: Sequence[Case],
    min_questions: int,
) -> Iterable[str]:
    """Too few answers of an arm, too few questions, too few topics."""
    asked = evidence.stable.answers.keys() | evidence.candidate.answers.keys()
    for side in (evidence.stable, evidence.candidate):
        missing = len(asked) - len(side.answered)
        if missing > rules.max_missing * len(asked):
            least = len(asked) - int(rules.max_missing * len(asked))
            yield (
                f"{side.arm.name} has answers to {len(side.answered)} of {len(asked)} questions, and {least} "
                f"are needed; resume {side.run} with `twinrail eval run --run`"
            )
    if len(answered) < min_questions:
        needed = needed_for_gain(rules.gain, wrong_way=LEAST_MOVING) if rules.goal is Goal.BETTER else None
        shown = f", and about {needed} to show a gain of {rules.gain * 100:.0f} points" if needed else ""
        yield (
            f"{len(answered)} questions have an answer in both arms; at least {min_questions} are needed"
            f"{shown}"
        )
    topics = len({case.topic for case in answered})
    if topics < rules.min_topics:
        yield f"the questions are of {topics} topics; at least {rules.min_topics} are needed"


def _unanswered(evidence: Evidence) -> Iterable[str]:
    """Questions in no number, because an arm gave no answer: its user would have got none either."""
    asked = len(evidence.stable.answers.keys() | evidence.candidate.answers.keys())
    counts = [
        f"{side.arm.name} has no answer to {asked - len(side.answered)} of {asked} questions"
        for side in (evidence.stable, evidence.candidate)
    ]
    if any(len(side.answered) < asked for side in (evidence.stable, evidence.candidate)):
        yield f"{', '.join(counts)}; they are in no number"


def _broken(policies: Iterable[PolicyLine], regression: RegressionLine | None) -> Iterable[str]:
    for line in policies:
        if line.broken:
            yield (
                f"{line.policy}: {len(line.broken)} of {line.checked} answers break it ({_some(line.broken)})"
            )
    if regression is not None and regression.failed:
        yield (
            f"regression set: {len(regression.failed)} of {regression.asked} questions fail "
            f"({_some(tuple(regression.failed))})"
        )


def _unchecked(
    policies: Iterable[PolicyLine], regression: RegressionLine | None, rules: GateRules
) -> Iterable[str]:
    for line in policies:
        if not line.checked:
            yield f"{line.policy}: not checked: {line.note}"
        elif line.unknown > rules.max_missing * (line.checked + line.unknown):
            yield f"{line.policy}: of {line.unknown} answers it is not known"
    if regression is not None and regression.missing:
        case_id, why = next(iter(regression.missing.items()))
        yield (
            f"regression set: {len(regression.missing)} of {regression.asked} questions have no result "
            f"({case_id} {why})"
        )


def _refused(lines: Iterable[Line], limits: Iterable[LimitLine]) -> Iterable[str]:
    for line in lines:
        if line.state is State.WORSE and not line.flipping:
            yield f"{line.name} is worse by {-(line.difference or 0) * 100:.0f} points ({_counts(line)})"
    for limit in limits:
        if limit.state is State.WORSE and not limit.apart:
            yield (
                f"{limit.measure} is {limit.ratio:.2f} times the stable one; {limit.limit:g} times is allowed"
            )


def _undecided(
    primaries: Sequence[Line], guards: Sequence[Line], slices: Sequence[Line], rules: GateRules
) -> Iterable[str]:
    """What must be shown and is not. A flipping metric decides nothing, so it is not waited for."""
    for line in primaries:
        if line.state is State.NO_DATA and rules.chose_primaries:
            yield f"{line.metric}: no question has a score in both arms"
        elif line.state is State.MISSING:
            yield _missing(line)
    deciding = [line for line in primaries if not line.flipping and line.state is not State.NO_DATA]
    if not deciding:
        yield "no primary decides: each flips when it is asked again, or has no score"
    better = any(line.state is State.BETTER for line in deciding)
    for line in deciding:
        if line.state is State.NOT_SHOWN and (better or rules.goal is Goal.NOT_WORSE):
            yield _not_shown(line)
    if not better and rules.goal is Goal.BETTER:
        yield from (_no_gain_shown(line, rules) for line in deciding if _gain_is_open(line, rules))
        # Where the rest rules a gain out, what flips may still hold one: it can neither pass nor be refused.
        yield from (
            f"{line.name} flips when it is asked again, so a gain cannot be shown by it"
            for line in primaries
            if deciding and line.flipping
        )
    for line in guards:
        if line.flipping or line.role is Role.WATCHED:
            continue
        if line.state is State.MISSING:
            yield _missing(line)
        elif line.state is State.NO_DATA and rules.chose_guards:
            yield f"{line.metric}: no question has a score in both arms"
        elif line.state is State.NOT_SHOWN:
            yield _not_shown(line)
    if rules.slices.must_be_shown:
        yield from (_not_shown(line) for line in slices if line.state in (State.NOT_SHOWN, State.MISSING))


def _gain_is_open(line: Line, rules: GateRules) -> bool:
    """Whether a gain worth having is neither shown nor ruled out."""
    return line.state in (State.NOT_WORSE, State.NOT_SHOWN) and (line.best is None or line.best >= rules.gain)


def _no_gain(primaries: Sequence[Line], rules: GateRules) -> Iterable[str]:
    """Where every primary rules a gain out, the candidate is not what it was made to be."""
    asked = [line for line in primaries if line.state is not State.NO_DATA]
    if (
        rules.goal is Goal.BETTER
        and asked
        and all(
            line.state is not State.BETTER
            and not line.flipping
            and line.best is not None
            and line.best < rules.gain
            for line in asked
        )
    ):
        yield f"no primary is better, and a gain of {rules.gain * 100:.0f} points is ruled out"


def _missing(line: Line) -> str:
    return f"{line.name}: {line.missing} of {line.missing + line.n} scores are missing"


def _not_shown(line: Line) -> str:
    worst = f", at worst {line.worst * 100:+.0f} points" if line.worst is not None else ""
    return (
        f"{line.name} is not shown to be within {line.margin * 100:.0f} points of the stable one: "
        f"{line.n} questions{worst}; {_enough(line)}"
    )


def _no_gain_shown(line: Line, rules: GateRules) -> str:
    if line.few:
        return f"{line.name}: {line.few}"
    counts = f" ({_counts(line)})" if line.stable else ""
    return (
        f"{line.name}: a gain of {rules.gain * 100:.0f} points is neither shown nor ruled out by {line.n} "
        f"questions{counts}; {_enough(line)}"
    )


def _enough(line: Line) -> str:
    return f"about {line.needed} are needed" if line.needed else "more than 2,000 are needed"


def _counts(line: Line) -> str:
    if line.stable is None or line.candidate is None:
        return ""
    return f"{line.stable.k} then {line.candidate.k} of {line.n}"


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
