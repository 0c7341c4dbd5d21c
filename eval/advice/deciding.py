"""The verdict: a pure function of a few facts and the team. Upstream goes first; doubt is called doubt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from eval.advice.counts import State
from eval.advice.eligibility import Standing
from eval.advice.facts import Facts, Need, OracleSays
from eval.advice.layers import Fix, Group
from eval.advice.team import Team, TeamSize
from eval.arms import ArmKind


class Verdict(StrEnum):
    """What to do next."""

    PROMPT = "prompt"
    RAG = "rag"
    IMPROVED_RAG = "improved_rag"
    FINE_TUNE = "fine_tune"
    HYBRID = "hybrid"
    STRONGER_MODEL = "stronger_model"
    NOT_ENOUGH = "not_enough_evidence"


TITLES = {
    Verdict.PROMPT: "Prompt and rules",
    Verdict.RAG: "RAG",
    Verdict.IMPROVED_RAG: "Improved RAG",
    Verdict.FINE_TUNE: "Fine-tune",
    Verdict.HYBRID: "Hybrid: retrieval first, then fine-tune",
    Verdict.STRONGER_MODEL: "Stronger model or smaller tasks",
    Verdict.NOT_ENOUGH: "Not enough evidence",
}
TRAINS = frozenset({Verdict.FINE_TUNE, Verdict.HYBRID})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A verdict with what it takes, in order."""

    verdict: Verdict
    #: What the failures alone say, before the team's size and duties.
    by_evidence: Verdict
    #: Why the team changes it; empty if it does not.
    adjusted: tuple[str, ...]
    needs: tuple[Need, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the order."""

    fix: Fix
    when: str
    why: str


def decide(facts: Facts, team: Team) -> Decision:
    """The verdict by evidence, then what this team can and must do."""
    by_evidence, needs = _by_evidence(facts)
    adjusted = tuple(_reasons_to_wait(facts, team)) if by_evidence in TRAINS else ()
    verdict = _without_training(facts) if adjusted else by_evidence
    return Decision(verdict=verdict, by_evidence=by_evidence, adjusted=adjusted, needs=needs)


def _by_evidence(facts: Facts) -> tuple[Verdict, tuple[Need, ...]]:
    if facts.thin:
        return Verdict.NOT_ENOUGH, facts.thin
    unclear = tuple(_unclear(facts))
    serious = facts.serious
    if contradiction := _contradiction(facts):
        return Verdict.NOT_ENOUGH, (contradiction,)
    if Group.REASONING in serious and _reasoning_goes_first(facts):
        return Verdict.STRONGER_MODEL, unclear
    if Group.BEHAVIOUR in serious:
        match facts.behaviour:
            case Standing.ELIGIBLE:
                return Verdict.HYBRID if facts.needs_information else Verdict.FINE_TUNE, unclear
            case Standing.NOT_ENOUGH if not facts.needs_information and serious == {Group.BEHAVIOUR}:
                need = Need(
                    what="whether behaviour survives what is cheaper than training cannot be told yet"
                )
                return Verdict.NOT_ENOUGH, (need, *unclear)
            case _:
                pass
    if serious or facts.needs_information:
        return _without_training(facts), unclear
    if unclear:
        return Verdict.NOT_ENOUGH, unclear
    return _without_training(facts), ()


def _contradiction(facts: Facts) -> Need | None:
    """Labels say retrieval, and the gold documents themselves do not help: one of the two is wrong."""
    blamed = Group.INFORMATION in facts.serious and facts.retrieval_leads and facts.end is not ArmKind.PROMPT
    if not blamed or facts.oracle is not OracleSays.NO_GAIN:
        return None
    return Need(
        what="the labels say retrieval, and with the gold documents given no more answers pass: "
        "review the labels and the gold documents"
    )


def _reasoning_goes_first(facts: Facts) -> bool:
    """A base model that is to be replaced is not worth tuning; information goes first unless it is less."""
    if Group.INFORMATION in facts.serious:
        return facts.reasoning_leads_information
    tunable = Group.BEHAVIOUR in facts.serious and facts.behaviour is Standing.ELIGIBLE
    return not (tunable and facts.behaviour_leads_reasoning)


def _without_training(facts: Facts) -> Verdict:
    """The best system without a trained model."""
    if Group.INFORMATION in facts.serious:
        return Verdict.RAG if facts.end is ArmKind.PROMPT else Verdict.IMPROVED_RAG
    if facts.end is facts.start and facts.serious:
        return Verdict.PROMPT
    return {
        ArmKind.PROMPT: Verdict.PROMPT,
        ArmKind.RAG: Verdict.RAG,
        ArmKind.RAG_PLUS: Verdict.IMPROVED_RAG,
    }[facts.end]


def _unclear(facts: Facts) -> Iterator[Need]:
    for group, state in facts.states.items():
        if state is State.UNCLEAR:
            yield Need(
                what=f"whether failures of {group} are serious or small cannot be told yet",
                questions=facts.to_tell.get(group),
            )


def _reasons_to_wait(facts: Facts, team: Team) -> Iterator[str]:
    if not team.can_tune:
        who = "a solo developer" if team.team_size is TeamSize.SOLO else f"a {team.team_size} team"
        yield (
            f"{who} without an owner of model versions should not run a trained model: "
            "prompt and retrieval first (operates_models in the team file)"
        )
    if team.regulated:
        for duty in facts.duties:
            if duty.met is not True:
                yield f"regulated: grounded answers and a safe fallback come before training; {duty.evidence}"


def order_of(facts: Facts, decision: Decision) -> tuple[Step, ...]:
    """What to do, most upstream first. After each step everything is measured again."""
    if decision.verdict is Verdict.NOT_ENOUGH:
        return ()
    steps = list(_steps(facts, decision))
    # Rules of policy wait for nothing, and nothing waits for them.
    first = next((step.fix for step in steps if step.fix is not Fix.RULES), None)
    return tuple(
        replace(step, when="now" if step.fix in (Fix.RULES, first) else "after measuring again")
        for step in steps
    )


def _steps(facts: Facts, decision: Decision) -> Iterator[Step]:
    if facts.policy_failures:
        yield Step(
            fix=Fix.RULES, when="", why="policy is kept by rules, and training alone guarantees nothing"
        )
    if facts.end is not facts.start and facts.start is ArmKind.PROMPT:
        yield Step(fix=Fix.ADD_RETRIEVAL, when="", why="measured: it mends what the prompt alone cannot know")
    if Group.INFORMATION in facts.serious:
        yield Step(fix=_information_fix(facts), when="", why="the most upstream layer that fails")
    elif facts.end is ArmKind.RAG_PLUS and facts.start is not ArmKind.RAG_PLUS:
        yield Step(fix=Fix.RETRIEVAL, when="", why="measured: use the improved version")
    if Group.GROUNDING in facts.serious:
        yield Step(fix=Fix.CHECKS, when="", why="the passage was there and the answer went beyond it")
    if Group.REASONING in facts.serious:
        yield Step(fix=Fix.MODEL, when="", why="neither retrieval nor training mends reasoning")
    if Group.BEHAVIOUR in facts.serious:
        if decision.verdict in TRAINS:
            yield Step(
                fix=Fix.TUNE, when="", why="it survives prompts, constrained decoding and the gold documents"
            )
        elif facts.behaviour is not Standing.ELIGIBLE:
            yield Step(fix=Fix.PROMPT, when="", why="costs least, and is untried or shown to help")


def _information_fix(facts: Facts) -> Fix:
    if facts.end is ArmKind.PROMPT:
        return Fix.ADD_RETRIEVAL
    return Fix.RETRIEVAL if facts.retrieval_leads else Fix.DOCUMENTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A fact that would give another verdict."""

    condition: str
    verdict: Verdict


def what_would_change(facts: Facts, team: Team, verdict: Verdict) -> tuple[Change, ...]:
    """Each fact turned over on its own, and decided again; only what gives another verdict is told."""
    found = [
        Change(condition=condition, verdict=other)
        for condition, changed, whose in _turned(facts, team)
        if (other := decide(changed, whose).verdict) is not verdict
    ]
    return tuple(found)


def _turned(facts: Facts, team: Team) -> Iterator[tuple[str, Facts, Team]]:
    if facts.thin:
        whole = replace(facts, thin=())
        yield "what is missing were there and the shares stayed the same", whole, team
        return
    for group, state in facts.states.items():
        turned = State.SMALL if state is State.SERIOUS else State.SERIOUS
        condition = f"failures of {group} were {'rare' if turned is State.SMALL else 'frequent'}"
        yield condition, replace(facts, states={**facts.states, group: turned}), team
    if Group.BEHAVIOUR in facts.serious:
        if facts.behaviour is Standing.ELIGIBLE:
            yield (
                "a searched prompt, constrained decoding or the gold documents mended the behaviour",
                replace(facts, behaviour=Standing.CHEAPER_FIX),
                team,
            )
        else:
            yield (
                "in 100 questions the behaviour survived prompts, constrained decoding and gold documents",
                replace(facts, behaviour=Standing.ELIGIBLE),
                team,
            )
    if facts.oracle is not OracleSays.NO_GAIN:
        yield (
            "an oracle arm passed no more answers than this one",
            replace(facts, oracle=OracleSays.NO_GAIN),
            team,
        )
    for size in TeamSize:
        if size is not team.team_size:
            yield (
                f"the team were {size}",
                facts,
                team.model_copy(update={"team_size": size, "operates_models": None}),
            )
    if team.can_tune is False:
        yield "somebody owned model versions", facts, team.model_copy(update={"operates_models": True})
    yield (
        "the team were not regulated" if team.regulated else "the team were regulated",
        facts,
        team.model_copy(update={"regulated": not team.regulated}),
    )
