"""The decision matrix: which signals are there, and what each architecture was measured to do about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from eval.advice.counts import share_of
from eval.advice.evidence import ArmLog, Logs, Row
from eval.advice.layers import Group, group_of
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
class _Signal:
    name: str
    fits: tuple[str, str, str]
    interpretation: str
    #: A metric of the report, or failures that are counted instead, with a word for them.
    metric: str = ""
    failures: tuple[str, Callable[[Row, ArmKind], bool]] | None = None
    present: Callable[[Logs, Team], tuple[Answer, str]]


def matrix_rows(logs: Logs, team: Team) -> Iterator[MatrixRow]:
    """Every signal of the framework, with what shows that it is there."""
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
    if signal.failures is None:
        return None
    word, counts = signal.failures
    share = share_of(arm.decided, lambda row: counts(row, arm.kind))
    return f"{arm.name}: {word} in {share.k} of {share.n}"


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


def _is_stale(row: Row, _: ArmKind) -> bool:
    return row.label is Label.STALE_KNOWLEDGE


def _lacks_information(row: Row, kind: ArmKind) -> bool:
    return group_of(row, kind) is Group.INFORMATION


_SIGNALS = (
    _Signal(
        name="Knowledge changes often",
        fits=("Strong fit", "Weak fit", "Possible later"),
        interpretation="Use retrieval when facts, documents, prices or policies change often.",
        failures=("stale knowledge", _is_stale),
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
        failures=("information missing", _lacks_information),
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
