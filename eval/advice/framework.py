"""The decision framework filled in from the data: matrix, failure-to-fix map, cost comparison and checklist.

What the framework says stands beside what this run shows. Unmeasured cells say `no evidence`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from eval.advice.costs import Amount, Costs
from eval.advice.counts import Share, State, share_of
from eval.advice.deciding import TRAINS, Decision
from eval.advice.eligibility import Standing
from eval.advice.evidence import ArmLog, Logs
from eval.advice.facts import Diagnosis
from eval.advice.layers import Group
from eval.advice.team import Team
from eval.arms import ArmKind
from eval.labelling.labels import Label

NO_EVIDENCE = "no evidence"
#: Documents that change in a week, as a share of all, from which knowledge changes often.
_OFTEN = 0.01
_WEEK_HOURS = 168
#: Answers a month from which volume is high, as the framework has it: thousands.
_HIGH_VOLUME = 1000


class Answer(StrEnum):
    """What the data says to a question of the framework."""

    YES = "yes"
    NO = "no"
    NO_EVIDENCE = "no evidence"
    NOT_APPLICABLE = "does not apply"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell of the matrix: the framework's word and what was measured."""

    fit: str
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixRow:
    """A signal, whether it is there, and what each architecture does about it."""

    signal: str
    present: Answer
    evidence: str
    rag: Cell
    fine_tuning: Cell
    hybrid: Cell
    interpretation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MapRow:
    """A failure, the framework's first fix, and ours with its evidence."""

    failure: str
    framework_fix: str
    seen: Share | None
    fix: str
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRow:
    """A cost that belongs to one side."""

    side: str
    cost: Amount
    per: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRow:
    """An item of the checklist."""

    item: str
    answer: Answer
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """All four tables."""

    matrix: tuple[MatrixRow, ...]
    failure_map: tuple[MapRow, ...]
    cost_comparison: tuple[ComparisonRow, ...]
    checklist: tuple[CheckRow, ...]


def fill_in(
    logs: Logs, found: Diagnosis | None, decision: Decision, costs: Costs | None, team: Team
) -> Framework:
    """Every cell from the data."""
    return Framework(
        matrix=tuple(_matrix(logs, team)),
        failure_map=tuple(_failure_map(found)),
        cost_comparison=tuple(_cost_comparison(costs)) if costs else (),
        checklist=tuple(_checklist(logs, found, decision)),
    )


# ---- matrix ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signal:
    name: str
    fits: tuple[str, str, str]
    interpretation: str
    #: A metric of the report, or labels that are counted instead.
    metric: str = ""
    labels: frozenset[Label] = frozenset()
    present: Callable[[Logs, Team], tuple[Answer, str]]


def _matrix(logs: Logs, team: Team) -> Iterator[MatrixRow]:
    for signal in _SIGNALS:
        present, evidence = signal.present(logs, team)
        cells = [
            Cell(fit=fit, evidence=_measured(signal, logs, kinds))
            for fit, kinds in zip(signal.fits, _COLUMNS, strict=True)
        ]
        yield MatrixRow(
            signal=signal.name,
            present=present,
            evidence=evidence,
            rag=cells[0],
            fine_tuning=cells[1],
            hybrid=cells[2],
            interpretation=signal.interpretation,
        )


#: Kinds of arms that show what a column of the matrix does, the best first.
_COLUMNS = ((ArmKind.RAG_PLUS, ArmKind.RAG), (ArmKind.TUNED,), (ArmKind.HYBRID,))


def _measured(signal: _Signal, logs: Logs, kinds: tuple[ArmKind, ...]) -> str:
    arm = next((arm for kind in kinds if (arm := logs.of_kind(kind))), None)
    if arm is None:
        return f"{NO_EVIDENCE}: no arm of kind {kinds[-1]} was measured"
    shown = _figure(signal, arm)
    without = logs.of_kind(ArmKind.PROMPT)
    beside = _figure(signal, without) if without else None
    if shown is None:
        return f"{NO_EVIDENCE}: {signal.metric} was not measured in {arm.name}"
    return f"{shown}; {beside}" if beside else shown


def _figure(signal: _Signal, arm: ArmLog) -> str | None:
    if signal.metric:
        figure = arm.metrics.get(signal.metric)
        return f"{arm.name} {figure.k} of {figure.n}" if figure and figure.n else None
    share = share_of(arm.decided, lambda row: row.label in signal.labels)
    return f"{arm.name} fails {share.k} of {share.n}"


def _changes_often(_: Logs, team: Team) -> tuple[Answer, str]:
    known = team.knowledge
    changed, documents, hours = known.documents_changed_a_week, known.documents, known.freshness_hours
    if hours is not None and hours <= _WEEK_HOURS:
        return Answer.YES, f"a change has to be in the answers within {hours:g} hours"
    if changed is None or not documents:
        return Answer.NO_EVIDENCE, f"{NO_EVIDENCE}: knowledge.documents and documents_changed_a_week"
    often = changed >= _OFTEN * documents
    return Answer.YES if often else Answer.NO, f"{changed:g} of {documents} documents change in a week"


def _strict_output(logs: Logs, _: Team) -> tuple[Answer, str]:
    measured = [arm.metrics["format_valid"] for arm in logs.arms if "format_valid" in arm.metrics]
    scored = sum(figure.n for figure in measured)
    if not scored:
        return Answer.NO_EVIDENCE, f"{NO_EVIDENCE}: format_valid was not measured"
    return Answer.YES, f"{scored} drafts were held against the task's schema"


def _citations(logs: Logs, team: Team) -> tuple[Answer, str]:
    if team.regulated:
        return Answer.YES, "the team is regulated (team file)"
    scored = sum(arm.metrics["citations_valid"].n for arm in logs.arms if "citations_valid" in arm.metrics)
    if not scored:
        return Answer.NO_EVIDENCE, f"{NO_EVIDENCE}: citations_valid was not measured"
    return Answer.YES, f"{scored} answers had to cite"


def _tone(logs: Logs, _: Team) -> tuple[Answer, str]:
    scored = sum(arm.metrics["tone_kept"].n for arm in logs.arms if "tone_kept" in arm.metrics)
    if not scored:
        return Answer.NO_EVIDENCE, f"{NO_EVIDENCE}: tone_kept was not measured"
    return Answer.YES, f"{scored} answers were held against the house tone"


def _private(_: Logs, team: Team) -> tuple[Answer, str]:
    private = team.knowledge.private
    if private is None:
        return Answer.NO_EVIDENCE, f"{NO_EVIDENCE}: knowledge.private"
    return Answer.YES if private else Answer.NO, "knowledge.private (team file)"


def _volume(_: Logs, team: Team) -> tuple[Answer, str]:
    if team.answers_a_month is None:
        return Answer.NO_EVIDENCE, f"{NO_EVIDENCE}: answers_a_month"
    high = team.answers_a_month >= _HIGH_VOLUME
    return Answer.YES if high else Answer.NO, f"{team.answers_a_month:g} answers a month (team file)"


_INFORMATION_LABELS = frozenset({Label.MISSING_KNOWLEDGE, Label.STALE_KNOWLEDGE, Label.WRONG_RETRIEVAL})

_SIGNALS = (
    _Signal(
        name="Knowledge changes often",
        fits=("Strong fit", "Weak fit", "Possible later"),
        interpretation="Use retrieval when facts, documents, prices or policies change often.",
        labels=frozenset({Label.STALE_KNOWLEDGE}),
        present=_changes_often,
    ),
    _Signal(
        name="Need strict JSON or schema",
        fits=("Limited help", "Strong fit", "Strong fit"),
        interpretation="Consistent output is behaviour: constrain the decoding, then tune.",
        metric="format_valid",
        present=_strict_output,
    ),
    _Signal(
        name="Need source citations",
        fits=("Strong fit", "Weak fit", "Strong fit"),
        interpretation="Citations come from retrieval and a prompt that is bound to the sources.",
        metric="citations_valid",
        present=_citations,
    ),
    _Signal(
        name="Need branded tone",
        fits=("Limited help", "Strong fit", "Strong fit"),
        interpretation="Retrieval does not reliably change the tone.",
        metric="tone_kept",
        present=_tone,
    ),
    _Signal(
        name="Private internal documents",
        fits=("Strong fit", "Weak fit", "Possible later"),
        interpretation="Keep documents outside the model and refresh the index as they change.",
        labels=_INFORMATION_LABELS,
        present=_private,
    ),
    _Signal(
        name="High-volume repeated classification",
        fits=("Maybe", "Strong fit", "Maybe"),
        interpretation="Repeated, stable tasks may justify tuning on their own data.",
        metric="intent_right",
        present=_volume,
    ),
)


# ---- failure-to-fix map ------------------------------------------------------------------------

_MAP: tuple[tuple[str, str, frozenset[Label], str, str], ...] = (
    (
        "Model gives outdated answers",
        "RAG",
        frozenset({Label.STALE_KNOWLEDGE, Label.MISSING_KNOWLEDGE}),
        "",
        "retrieval of current documents, with validity dates",
    ),
    ("Model ignores exact response format", "Fine-tuning", frozenset({Label.BAD_FORMAT}), "", ""),
    (
        "Answer lacks citations or references",
        "RAG",
        frozenset({Label.HALLUCINATION}),
        "citation",
        "supply the sources at run time and check every quote",
    ),
    ("Support tone feels inconsistent", "Fine-tuning", frozenset({Label.WRONG_TONE}), "", ""),
    (
        "Retrieved docs are wrong or noisy",
        "Improve RAG pipeline",
        frozenset({Label.WRONG_RETRIEVAL}),
        "",
        "chunking, filters, reranking, measured by retrieval alone",
    ),
)


def _failure_map(found: Diagnosis | None) -> Iterator[MapRow]:
    for failure, framework_fix, labels, sub, fix in _MAP:
        if found is None:
            yield MapRow(
                failure=failure, framework_fix=framework_fix, seen=None, fix=fix, evidence=NO_EVIDENCE
            )
            continue
        seen = share_of(
            found.end.decided,
            lambda row, labels=labels, sub=sub: row.label in labels and sub in ("", row.sub),  # type: ignore[misc]
        )
        ours, evidence = fix, f"{found.end.name}: {seen.k} of {seen.n}, in {seen.clusters} clusters"
        if not fix:
            ours, behaves = _behaviour_fix(found, labels)
            evidence = f"{evidence}; {behaves}" if behaves else evidence
        yield MapRow(failure=failure, framework_fix=framework_fix, seen=seen, fix=ours, evidence=evidence)
    yield _both(found)


def _behaviour_fix(found: Diagnosis, labels: frozenset[Label]) -> tuple[str, str]:
    """Ours differs from the framework's here: what is cheaper than training comes first."""
    for each in found.eligibility:
        if each.behaviour.partition(".")[0] in labels:
            met = sum(condition.met is True for condition in each.conditions)
            return each.advice, f"{met} of {len(each.conditions)} conditions of training met"
    return "nothing to mend", ""


def _both(found: Diagnosis | None) -> MapRow:
    failure, fix = "Need current docs plus strict output policy", "Hybrid"
    if found is None:
        return MapRow(failure=failure, framework_fix=fix, seen=None, fix="", evidence=NO_EVIDENCE)
    information, behaviour = found.groups[Group.INFORMATION], found.groups[Group.BEHAVIOUR]
    both = found.facts.needs_information and behaviour.state is State.SERIOUS
    return MapRow(
        failure=failure,
        framework_fix=fix,
        seen=None,
        fix="retrieval first, measure again, then the stable behaviour" if both else "not both are needed",
        evidence=f"information {information.share.k} of {information.share.n} ({information.state}), "
        f"behaviour {behaviour.share.k} of {behaviour.share.n} ({behaviour.state})",
    )


# ---- cost comparison ---------------------------------------------------------------------------


def _cost_comparison(costs: Costs) -> Iterator[ComparisonRow]:
    for amount in costs.rag_fixed_a_month:
        yield ComparisonRow(side="RAG", cost=amount, per="month")
    yield ComparisonRow(side="RAG", cost=_retrieval_calls(costs), per="answer")
    yield ComparisonRow(side="RAG", cost=_longer_prompts(costs), per="answer")
    yield ComparisonRow(
        side="RAG",
        cost=Amount(name="orchestration", amount=None, basis=f"{NO_EVIDENCE}: no run measures it"),
        per="month",
    )
    for amount in costs.tuning_once:
        yield ComparisonRow(side="Fine-tuning", cost=amount, per="once")
    yield ComparisonRow(side="Fine-tuning", cost=costs.tuning_a_year, per="year")
    yield ComparisonRow(
        side="Fine-tuning",
        cost=Amount(name="version maintenance", amount=None, basis=f"{NO_EVIDENCE}: no run measures it"),
        per="month",
    )


def _layer(costs: Costs, kinds: tuple[ArmKind, ...], name: str) -> Amount | None:
    for kind in kinds:
        for arm in costs.arms:
            if arm.kind is kind:
                return next(layer for layer in arm.layers if layer.name == name)
    return None


def _retrieval_calls(costs: Costs) -> Amount:
    found = _layer(costs, (ArmKind.RAG_PLUS, ArmKind.RAG), "retrieval")
    if found is None:
        return Amount(name="retrieval calls", amount=None, basis=f"{NO_EVIDENCE}: no RAG arm was measured")
    return Amount(name="retrieval calls", amount=found.amount, basis=found.basis)


def _longer_prompts(costs: Costs) -> Amount:
    long = _layer(costs, (ArmKind.RAG_PLUS, ArmKind.RAG), "prompt")
    short = _layer(costs, (ArmKind.PROMPT,), "prompt")
    if long is None or short is None or long.amount is None or short.amount is None:
        return Amount(
            name="longer prompts",
            amount=None,
            basis=f"{NO_EVIDENCE}: wants a prompt-only arm and a RAG arm with token counts and prices",
        )
    return Amount(
        name="longer prompts",
        amount=long.amount - short.amount,
        basis=f"{long.basis}, beside {short.basis} without retrieval",
    )


# ---- checklist ---------------------------------------------------------------------------------


def _checklist(logs: Logs, found: Diagnosis | None, decision: Decision) -> Iterator[CheckRow]:
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
