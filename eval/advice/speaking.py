"""The verdict in one sentence, with the counts that it stands on."""

from __future__ import annotations

from collections.abc import Sequence

from eval.advice.counts import Share
from eval.advice.deciding import Decision, Verdict
from eval.advice.effects import Basis, CandidateFix, Effect
from eval.advice.eligibility import Standing
from eval.advice.facts import Diagnosis
from eval.advice.layers import Fix, Group


def sentence_of(decision: Decision, found: Diagnosis | None, fixes: Sequence[CandidateFix]) -> str:
    """For a reader who reads nothing else."""
    if decision.verdict is Verdict.NOT_ENOUGH or found is None:
        return f"Not enough evidence: {'; '.join(_needs(decision))}."
    sentence = _SENTENCES[decision.verdict](found, fixes)
    if decision.adjusted:
        return f"{sentence} Training is put off: {'; '.join(decision.adjusted)}."
    return sentence


def _needs(decision: Decision) -> list[str]:
    return [
        f"{need.what} ({need.questions} more questions)" if need.questions else need.what
        for need in decision.needs
    ]


def _counted(share: Share) -> str:
    return f"{share.k} of {share.n} ({share.low:.0%} to {share.high:.0%})"


def _prompt(found: Diagnosis, _: Sequence[CandidateFix]) -> str:
    groups = found.groups
    serious = sorted(found.facts.serious, key=lambda group: -groups[group].share.k)
    if not serious:
        failed = sum(row.failed for row in found.end.decided)
        return (
            f"Keep {found.end.name} as it is: {failed} of {len(found.end.decided)} answers fail, and no "
            "layer fails often enough to be worth retrieval or training."
        )
    most = serious[0]
    what = {
        Group.BEHAVIOUR: "search the prompt and constrain the output",
        Group.GROUNDING: "enforce the support check and abstain",
        Group.POLICY: "add policy rules and a person",
    }.get(most, "mend the prompt")
    return (
        f"Stay with prompting and rules: {what}, because {_counted(groups[most].share)} answers of "
        f"{found.end.name} fail in {most}, which costs least to mend; measure again before training."
    )


def _rag(found: Diagnosis, fixes: Sequence[CandidateFix]) -> str:
    if found.end is not found.start:
        last = found.steps[-1]
        return (
            f"Use RAG: {last.second} passes {last.second_passed} of {last.n} answers and {last.first} "
            f"{last.first_passed}{_range(last.value, last.low, last.high)}."
        )
    information = found.groups[Group.INFORMATION]
    if Group.INFORMATION in found.facts.serious:
        return (
            f"Add retrieval: {_counted(information.share)} answers of {found.end.name} lack knowledge"
            f"{_effect(fixes, Fix.ADD_RETRIEVAL)}."
        )
    failed = sum(row.failed for row in found.end.decided)
    return (
        f"Keep RAG as it is: {failed} of {len(found.end.decided)} answers of {found.end.name} fail, and no "
        "layer fails often enough to be worth a project."
    )


def _improved_rag(found: Diagnosis, fixes: Sequence[CandidateFix]) -> str:
    information = found.groups[Group.INFORMATION]
    if Group.INFORMATION not in found.facts.serious:
        return (
            f"Use the improved retrieval of {found.end.name}: information fails there in "
            f"{_counted(information.share)} answers, and before, in {found.start.name}, in "
            f"{_counted(found.start_groups[Group.INFORMATION].share)}."
        )
    fix = Fix.RETRIEVAL if found.facts.retrieval_leads else Fix.DOCUMENTS
    what = "improve retrieval" if fix is Fix.RETRIEVAL else "write and sync the missing documents"
    return (
        f"Improve RAG before anything else: {what}, because {_counted(information.share)} answers of "
        f"{found.end.name} lack the right information{_effect(fixes, fix)}."
    )


def _fine_tune(found: Diagnosis, fixes: Sequence[CandidateFix]) -> str:
    return (
        f"Fine-tune {_eligible(found)}: {_counted(_trained(fixes))} answers of "
        f"{found.end.name} fail in behaviour that survives searched prompts and the gold documents"
        f"{_effect(fixes, Fix.TUNE)}; retrieval stays as it is."
    )


def _hybrid(found: Diagnosis, fixes: Sequence[CandidateFix]) -> str:
    information = found.groups[Group.INFORMATION]
    if Group.INFORMATION in found.facts.serious:
        first = f"{_counted(information.share)} answers of {found.end.name} lack the right information"
    else:
        first = f"{found.end.name} mends what {found.start.name} cannot know"
    return (
        f"Hybrid, retrieval first: {first}; measure again, then fine-tune {_eligible(found)}, which fails in "
        f"{_counted(_trained(fixes))} and survives everything cheaper"
        f"{_effect(fixes, Fix.TUNE)}."
    )


def _stronger(found: Diagnosis, _: Sequence[CandidateFix]) -> str:
    return (
        f"Neither retrieval nor training: {_counted(found.groups[Group.REASONING].share)} answers of "
        f"{found.end.name} had what they needed and reasoned wrongly; try a stronger model or smaller tasks."
    )


def _eligible(found: Diagnosis) -> str:
    return " and ".join(each.behaviour for each in found.eligibility if each.standing is Standing.ELIGIBLE)


def _trained(fixes: Sequence[CandidateFix]) -> Share:
    return next(each.addresses for each in fixes if each.fix is Fix.TUNE)


def _effect(fixes: Sequence[CandidateFix], fix: Fix) -> str:
    effect = next((each.effect for each in fixes if each.fix is fix), None)
    if effect is None:
        return ""
    return f"; {_expected(effect)}{_range(effect.value, effect.low, effect.high)}"


def _expected(effect: Effect) -> str:
    return "measured gain" if effect.basis is Basis.MEASURED else "gain at most"


def _range(value: float, low: float | None, high: float | None) -> str:
    points = f" {value * 100:+.0f} points"
    if low is None or high is None:
        return points
    return f"{points} ({low * 100:+.0f} to {high * 100:+.0f})"


_SENTENCES = {
    Verdict.PROMPT: _prompt,
    Verdict.RAG: _rag,
    Verdict.IMPROVED_RAG: _improved_rag,
    Verdict.FINE_TUNE: _fine_tune,
    Verdict.HYBRID: _hybrid,
    Verdict.STRONGER_MODEL: _stronger,
}
