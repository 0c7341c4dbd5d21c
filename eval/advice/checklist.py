"""The framework's checklist, answered from the logs. What a run cannot know is no evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from eval.advice.deciding import TRAINS, Decision, Verdict
from eval.advice.eligibility import Standing
from eval.advice.evidence import ArmLog, Logs
from eval.advice.facts import Diagnosis
from eval.advice.layers import Group
from eval.advice.matrix import NO_EVIDENCE, Answer
from eval.arms import ArmKind
from eval.labelling.labels import Label


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRow:
    """An item of the checklist."""

    item: str
    answer: Answer
    evidence: str


def checklist(logs: Logs, found: Diagnosis | None, decision: Decision) -> Iterator[CheckRow]:
    """Every item, those that the framework has twice once."""
    for item, check in _CHECKS.items():
        if found is None:
            answer, evidence = Answer.NO_EVIDENCE, f"{NO_EVIDENCE}: no arm to diagnose"
        else:
            answer, evidence = check(logs, found, decision)
        yield CheckRow(item=item, answer=answer, evidence=evidence)


def _questions(_: Logs, found: Diagnosis, __: Decision) -> tuple[Answer, str]:
    rows = found.end.rows
    clusters = len({row.cluster for row in rows})
    return Answer.YES if len(rows) >= 20 else Answer.NO, f"{len(rows)} questions in {clusters} clusters"


def _labelled(logs: Logs, found: Diagnosis, __: Decision) -> tuple[Answer, str]:
    failed = [row for row in found.end.decided if row.failed]
    if not failed:
        return Answer.NOT_APPLICABLE, f"{found.end.name} has no failure"
    decided = sum(row.label is not Label.UNDETERMINED for row in failed)
    evidence = f"{decided} of {len(failed)} failures have a cause (criteria {', '.join(logs.criteria)})"
    return Answer.YES if decided == len(failed) else Answer.NO, evidence


def _rag_first(_: Logs, found: Diagnosis, decision: Decision) -> tuple[Answer, str]:
    information = found.groups[Group.INFORMATION]
    evidence = f"information {information.share.k} of {information.share.n} in {found.end.name}"
    if decision.verdict is Verdict.NOT_ENOUGH:
        return Answer.NO_EVIDENCE, f"{NO_EVIDENCE}: {evidence}, and no order yet"
    if not found.facts.needs_information:
        return Answer.NOT_APPLICABLE, evidence
    return Answer.YES, f"{evidence}; the order begins with it"


def _tune_only(_: Logs, found: Diagnosis, decision: Decision) -> tuple[Answer, str]:
    eligible = [each.behaviour for each in found.eligibility if each.standing is Standing.ELIGIBLE]
    if decision.verdict not in TRAINS:
        return Answer.NOT_APPLICABLE, "no training is advised"
    return Answer.YES, f"eligible: {', '.join(eligible)}"


def _no_facts(_: Logs, found: Diagnosis, __: Decision) -> tuple[Answer, str]:
    k = found.groups[Group.INFORMATION].share.k
    return Answer.YES, f"{k} failures lack information, and none of them is offered for training"


def _no_crutch(_: Logs, found: Diagnosis, __: Decision) -> tuple[Answer, str]:
    behaviour = found.groups[Group.BEHAVIOUR].share
    if found.oracle_arm is None:
        return Answer.NO_EVIDENCE, f"{NO_EVIDENCE}: no oracle arm tells behaviour from retrieval"
    return Answer.YES, f"behaviour {behaviour.k} of {behaviour.n}, held against {found.oracle_arm.name}"


def _tested_rag(logs: Logs, _: Diagnosis, __: Decision) -> tuple[Answer, str]:
    return _has_metrics(_rag(logs), ("citations_valid", "abstained_when_due"))


def _strong_baseline(logs: Logs, found: Diagnosis, __: Decision) -> tuple[Answer, str]:
    if found.tuned is None:
        return Answer.NO_EVIDENCE, f"{NO_EVIDENCE}: no tuned arm was measured"
    tuned = found.tuned
    return Answer.YES, (
        f"{tuned.second} passes {tuned.second_passed} of {tuned.n}, {tuned.first} {tuned.first_passed}"
    )


def _separate(_: Logs, found: Diagnosis, __: Decision) -> tuple[Answer, str]:
    wanted: tuple[str, ...] = ("answer_right", "format_valid", "hallucination_draft", "would_be_corrected")
    if found.end.kind is not ArmKind.PROMPT:
        wanted = ("hit", *wanted)
    return _has_metrics(found.end, wanted)


def _hybrid_last(_: Logs, found: Diagnosis, decision: Decision) -> tuple[Answer, str]:
    if decision.verdict not in TRAINS or not found.facts.needs_information:
        return Answer.NOT_APPLICABLE, "hybrid is not advised"
    behaviour = found.groups[Group.BEHAVIOUR]
    return Answer.YES, (
        f"information is needed; behaviour fails {behaviour.share.k} of {behaviour.share.n}, eligible"
    )


def _hits(logs: Logs, _: Diagnosis, __: Decision) -> tuple[Answer, str]:
    return _has_metrics(_rag(logs), ("hit",))


def _rollback(_: Logs, __: Diagnosis, ___: Decision) -> tuple[Answer, str]:
    return Answer.NO_EVIDENCE, f"{NO_EVIDENCE}: not in a run's logs; `twinrail rails` shows both pointers"


def _rag(logs: Logs) -> ArmLog | None:
    return logs.of_kind(ArmKind.RAG_PLUS) or logs.of_kind(ArmKind.RAG)


def _has_metrics(arm: ArmLog | None, names: tuple[str, ...]) -> tuple[Answer, str]:
    if arm is None:
        return Answer.NO_EVIDENCE, f"{NO_EVIDENCE}: no RAG arm was measured"
    if not arm.metrics:
        return Answer.NO_EVIDENCE, f"{NO_EVIDENCE}: the run has no report (twinrail eval score)"
    figures: Mapping[str, str] = {
        name: f"{name} {figure.k} of {figure.n}"
        for name in names
        if (figure := arm.metrics.get(name)) and figure.n
    }
    missing = [name for name in names if name not in figures]
    evidence = "; ".join(figures.values())
    if missing:
        lacks = f"not measured: {', '.join(missing)}"
        return Answer.NO, f"{evidence}; {lacks}" if evidence else lacks
    return Answer.YES, evidence


_CHECKS: dict[str, Callable[[Logs, Diagnosis, Decision], tuple[Answer, str]]] = {
    "Write down the top 20 real user questions or tasks before choosing an architecture.": _questions,
    "Label each failure by its cause.": _labelled,
    "Use RAG first for missing, private, changing or source-dependent information.": _rag_first,
    "Use fine-tuning only for repeated failures of behaviour, tone, classification or format.": _tune_only,
    "Do not fine-tune frequently changing facts into model weights.": _no_facts,
    "Do not use RAG to compensate for a model that cannot follow basic instructions.": _no_crutch,
    "Test RAG with source citations and low-confidence fallback.": _tested_rag,
    "Test fine-tuning against a strong prompt baseline before paying for it.": _strong_baseline,
    "Keep separate metrics for retrieval, answers, format, hallucination and corrections.": _separate,
    "Move to hybrid only after logs prove that both layers are needed.": _hybrid_last,
    "Have you measured retrieval hit quality separately from answer quality?": _hits,
    "Have you planned separate roll-back paths for retrieval and model changes?": _rollback,
}
