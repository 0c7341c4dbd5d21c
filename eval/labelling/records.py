"""The labels of a run: every answer judged, and `labels.jsonl` in the run's folder.

What people said is kept beside what the rules say, never in its place. A row that comes out as it was keeps
its line and its time, so that labelling again changes nothing where nothing has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from eval.arms import Arm
from eval.cases import Case
from eval.errors import RunError
from eval.labelling.checks import KINDS
from eval.labelling.corpus import Corpus
from eval.labelling.counterfactuals import Reruns, rerun_checks, settle
from eval.labelling.evidence import Turn, collect_checks, unsupported_sentences
from eval.labelling.labels import Finding, Label, LabelRecord, Outcome
from eval.labelling.rules import COVERAGE_GAP, DRAFT_FAILS, FAILS, RULES, Decision, decide
from eval.observations import Observation
from eval.record import RunData, replace_file
from eval.scorers import Scoring, Subject

#: Rises when the criteria change in a way that people should hear of.
CRITERIA_NUMBER = 1
AUTO, HUMAN = "auto", "human"
_FILE = "labels.jsonl"


def criteria_of(scoring: Scoring) -> str:
    """The name of everything that decides: rules, checks and the checkers behind them."""
    rules = [
        [
            rule.id,
            rule.label,
            rule.sub,
            {name: wanted.value for name, wanted in rule.when.items()},
            rule.holds_up,
        ]
        for rule in (*RULES, COVERAGE_GAP)
    ]
    checks = {name: kind.version for name, kind in KINDS.items()}
    plain = orjson.dumps([rules, FAILS, DRAFT_FAILS, checks, scoring.version], option=orjson.OPT_SORT_KEYS)
    return f"c{CRITERIA_NUMBER}-{hashlib.sha256(plain).hexdigest()[:8]}"


def turns_of(data: RunData, scoring: Scoring, corpus: Corpus) -> list[Turn]:
    """The first answers of a run with what they are judged by, in the order of questions and arms."""
    arms = {arm.name: arm for arm in data.record.arms}
    return [
        Turn(subject=_subject(case, arm, data, seen), arm=arm, scoring=scoring, corpus=corpus)
        for case in data.cases
        for arm in arms.values()
        if (seen := data.observations.get((case.id, arm.name))) is not None
    ]


def _subject(case: Case, arm: Arm, data: RunData, seen: Observation) -> Subject:
    knowledge = arm.pin.knowledge or next(iter(data.record.knowledge), "")
    return Subject(
        case=case,
        seen=seen,
        ranking=data.rankings.get((case.id, knowledge)),
        retrieves=arm.retrieves and case.passages != (),
    )


def label_run(
    data: RunData,
    scoring: Scoring,
    corpus: Corpus,
    reruns: Reruns,
    *,
    before: Sequence[LabelRecord] = (),
    at: str,
) -> tuple[LabelRecord, ...]:
    """A record for each answer, and the people's own after them. `at` stamps what is new or changed."""
    criteria = criteria_of(scoring)
    known = {(record.case_id, record.arm): record for record in before if record.source == AUTO}
    records = []
    for turn in turns_of(data, scoring, corpus):
        record = _record(turn, reruns, run=data.record.id, criteria=criteria, at=at)
        earlier = known.get((record.case_id, record.arm))
        same = earlier is not None and replace(record, at=earlier.at) == earlier
        records.append(earlier if same and earlier is not None else record)
    return (*records, *(record for record in before if record.source == HUMAN))


def _record(turn: Turn, reruns: Reruns, *, run: str, criteria: str, at: str) -> LabelRecord:
    case, seen = turn.subject.case, turn.subject.seen
    checks = collect_checks(turn)
    decision: Decision = decide(settle(checks))
    if decision.primary is not None:
        # Only what failed is asked again, so only there re-runs are evidence.
        checks = (
            *checks,
            *rerun_checks(case, turn.arm, reruns, scoring=turn.scoring, corpus=turn.corpus),
        )
    checks = settle(checks)
    if decision.primary is not None:
        decision = decide(checks)
    return LabelRecord(
        run=run,
        turn_id=seen.turn_id,
        case_id=case.id,
        arm=turn.arm.name,
        cluster=case.topic,
        task_type=case.task_type or case.intent or case.kind,
        outcome=decision.outcome,
        primary=decision.primary,
        contributing=decision.contributing,
        checks=checks,
        criteria=criteria,
        source=AUTO,
        at=at,
    )


def human_record(auto: LabelRecord, row: Mapping[str, Any]) -> LabelRecord:
    """What a person said of a turn, as the gateway stores it, beside what the rules said."""
    findings = [
        Finding(label=Label(each["label"]), sub=each["sub"], rule=each["rule"], evidence=())
        for each in (*([row] if row["label"] else []), *row["contributing"])
    ]
    return replace(
        auto,
        outcome=Outcome.FAILED if row["label"] else Outcome.PASSED,
        primary=findings[0] if row["label"] else None,
        contributing=tuple(findings[1:] if row["label"] else findings),
        checks=(),
        criteria=row["criteria"],
        source=HUMAN,
        reviewer=row["reviewer"],
        note=row["note"],
        at=row["created_at"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What labelling again did to the rows of before."""

    new: int
    changed: int
    #: Of those that changed: rows of other criteria, which are open to review again.
    reopened: int
    gone: int


def changes(before: Sequence[LabelRecord], after: Sequence[LabelRecord]) -> Changes:
    """By question, arm, source and reviewer."""
    old, new = _by_key(before), _by_key(after)
    changed = [key for key in old.keys() & new.keys() if old[key] != new[key]]
    return Changes(
        new=len(new.keys() - old.keys()),
        changed=len(changed),
        reopened=sum(old[key].criteria != new[key].criteria for key in changed),
        gone=len(old.keys() - new.keys()),
    )


def _by_key(records: Iterable[LabelRecord]) -> Mapping[tuple[str, ...], LabelRecord]:
    return {
        (record.case_id, record.arm, record.source, record.reviewer, record.turn_id): record
        for record in records
    }


class LabelFile:
    """`labels.jsonl` of a run's folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / _FILE

    @property
    def exists(self) -> bool:
        """Whether the run was labelled."""
        return self.path.is_file()

    def read(self) -> tuple[LabelRecord, ...]:
        """All records; none before the first labelling."""
        if not self.exists:
            return ()
        records = []
        for number, line in enumerate(self.path.read_bytes().splitlines(), start=1):
            try:
                records.append(LabelRecord.from_json(orjson.loads(line)))
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as exc:
                raise RunError(
                    f"{self.path}:{number}: no label of this version ({exc}); delete the file, label again"
                ) from exc
        return tuple(records)

    def write(self, records: Iterable[LabelRecord]) -> None:
        """Replace the file as a whole."""
        replace_file(self.path, b"".join(orjson.dumps(record.as_json()) + b"\n" for record in records))


def is_looked_up(turns: Iterable[Turn], corpus: Corpus, *, as_staff: bool) -> bool:
    """Whether every gold article was read and, with the staff's key, every sentence looked up that no passage
    supports."""
    return all(
        all(document in corpus.documents for document in turn.subject.case.gold)
        and (not as_staff or all(sentence in corpus.staff_only for sentence in unsupported_sentences(turn)))
        for turn in turns
    )
