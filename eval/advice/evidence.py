"""What advice rests on: for each arm, how each question came out and why, and what was measured beside it.

Values only, and how several records of one question become one row. Reading the files is `loading`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from eval.arms import ArmKind
from eval.labelling.labels import Label, LabelRecord, Outcome
from serving.pricing import TokenCounts

#: From the cheapest to the most elaborate system without training. Advice climbs it and stops where it may.
LADDER = (ArmKind.PROMPT, ArmKind.RAG, ArmKind.RAG_PLUS)

_COVERAGE_GAP = "coverage_gap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One question in one arm."""

    case_id: str
    cluster: str
    task_type: str
    outcome: Outcome
    #: None unless it failed.
    label: Label | None = None
    sub: str = ""
    contributing: tuple[Label, ...] = ()
    #: Rightly not answered, since no document says it: something for the content owner to read.
    coverage_gap: bool = False

    @property
    def decided(self) -> bool:
        """Whether it passed or failed; a run error says nothing of the system."""
        return self.outcome is not Outcome.RUN_ERROR

    @property
    def failed(self) -> bool:
        """Whether the answer was wrong."""
        return self.outcome is Outcome.FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricFigure:
    """A metric of a run's report. `n` is 0 where nothing was scored."""

    name: str
    title: str
    group: str
    higher_is_better: bool
    k: int
    n: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseUsage:
    """What one answer took."""

    case_id: str
    tokens: TokenCounts | None
    #: False where the gateway does not say how many prompt tokens were cached: all count as computed then.
    cached_known: bool
    #: Milliseconds of embedding, searching, reranking and rewriting.
    retrieval_ms: float | None
    #: Passed to a person.
    handed_off: bool
    #: Milliseconds until the first token, and of all generations.
    first_token_ms: float | None = None
    generation_ms: float | None = None
    #: The part of these times in which the engine worked for this answer and not for another one.
    engine_share: float = 1.0
    #: What its question is about, where that is not told by a label.
    cluster: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmLog:
    """One arm of a run."""

    name: str
    kind: ArmKind
    #: The model version, and the digest of the prompt that it was asked with ("": not known).
    model: str = ""
    prompt_sha256: str = ""
    rows: tuple[Row, ...]
    metrics: Mapping[str, MetricFigure] = field(default_factory=dict)
    usage: tuple[CaseUsage, ...] = ()

    @property
    def asked_with(self) -> tuple[str, str]:
        """What tells arms of one rung apart that differ in their prompt."""
        return self.model, self.prompt_sha256

    @property
    def decided(self) -> tuple[Row, ...]:
        """Rows that passed or failed."""
        return tuple(row for row in self.rows if row.decided)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How often people and the rules give the same outcome and primary label to the same turn."""

    agreed: int
    both: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """Everything about a run that advice reads."""

    run: str
    question_set_sha256: str
    labels_sha256: str
    criteria: tuple[str, ...]
    arms: tuple[ArmLog, ...]
    agreement: Agreement | None = None
    #: The arm that stands for its kind, where several have it (`choosing`).
    chosen: Mapping[ArmKind, str] = field(default_factory=dict)

    def of_kind(self, kind: ArmKind) -> ArmLog | None:
        """The arm that stands for a kind: the chosen one, else that with the most decided rows, the first of
        equals."""
        arms = [arm for arm in self.arms if arm.kind is kind and arm.decided]
        chosen = (arm for arm in arms if arm.name == self.chosen.get(kind))
        return next(chosen, None) or max(arms, key=lambda arm: len(arm.decided), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Records after a person's word took the place of the rules'."""

    rows: Mapping[str, tuple[Row, ...]]
    agreement: Agreement | None
    criteria: tuple[str, ...]


def settle(records: Iterable[LabelRecord]) -> Settled:
    """One row for each question and arm. People overrule the rules; of repeats the commonest result counts.

    Of several records of one source about one turn the last one written counts: the file is append-only.
    """
    newest: dict[tuple[str, str, str], dict[str, LabelRecord]] = defaultdict(dict)
    for record in records:
        turn = record.turn_id or f"{record.case_id}:no turn"
        newest[record.arm, record.case_id, turn][record.source] = record
    by_case: dict[tuple[str, str], list[LabelRecord]] = defaultdict(list)
    agreed = both = 0
    for (arm, case_id, _), by_source in newest.items():
        human, auto = by_source.get("human"), by_source.get("auto")
        if human and auto:
            both += 1
            agreed += _result(human) == _result(auto)
        by_case[arm, case_id].append(human or auto or next(iter(by_source.values())))
    rows: dict[str, list[Row]] = defaultdict(list)
    for (arm, case_id), found in sorted(by_case.items()):
        rows[arm].append(_row(case_id, found))
    return Settled(
        rows={arm: tuple(found) for arm, found in rows.items()},
        agreement=Agreement(agreed=agreed, both=both) if both else None,
        criteria=tuple(
            sorted({record.criteria for found in newest.values() for record in found.values()} - {""})
        ),
    )


def _result(record: LabelRecord) -> tuple[Outcome, Label | None, str]:
    failed = record.outcome is Outcome.FAILED and record.primary is not None
    return (
        record.outcome,
        record.primary.label if failed and record.primary else None,
        record.primary.sub if failed and record.primary else "",
    )


def _row(case_id: str, records: Sequence[LabelRecord]) -> Row:
    """Repeats of one question as one row; a tie goes to the failure, which somebody would have seen."""
    counted = Counter(_result(record) for record in records if record.outcome is not Outcome.RUN_ERROR)
    if not counted:
        counted = Counter(_result(record) for record in records)
    outcome, label, sub = max(
        counted, key=lambda result: (counted[result], result[0] is Outcome.FAILED, result[1] or "", result[2])
    )
    shown = next(record for record in records if _result(record) == (outcome, label, sub))
    if outcome is Outcome.FAILED and label is None:
        label = Label.UNDETERMINED
    return Row(
        case_id=case_id,
        cluster=shown.cluster,
        task_type=shown.task_type,
        outcome=outcome,
        label=label,
        sub=sub,
        contributing=tuple(dict.fromkeys(finding.label for finding in shown.contributing)) if label else (),
        coverage_gap=any(finding.sub == _COVERAGE_GAP for finding in shown.contributing),
    )
