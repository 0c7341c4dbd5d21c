"""The report of an evaluation as plain data: what was decided, every figure, and what they say in words."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from eval.labelling.labels import LabelRecord
from eval.record import RunRecord
from eval.tuning.contest import CANDIDATE, STRONG, Contest, named
from eval.tuning.deciding import Judged
from eval.tuning.figures import (
    FORM,
    Sides,
    abstention_rows,
    field_rows,
    measure_rows,
    metric_rows,
    risk_rows,
    sentence_rows,
    slice_rows,
)
from eval.tuning.labels_moved import moved

#: As the gateway takes names of reports.
_LONGEST_NAME = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What the candidate learnt from, as far as it is known."""

    #: Fingerprint of its dataset, by its manifest.
    sha256: str | None = None
    #: Rows that the questions were held against; None: nobody looked.
    rows: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a report is made of."""

    contest: Contest
    judged: Judged
    sides: Sides
    record: RunRecord
    labels: Sequence[LabelRecord]
    left_out: Mapping[str, int]
    trained: Trained
    rules: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The content under the name that a verdict gives it."""

    name: str
    content: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        """Of the content in canonical JSON: the same answers and rules give the same digest."""
        return hashlib.sha256(orjson.dumps(self.content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def report_of(inputs: Inputs) -> Report:
    """Everything, through JSON once: what is hashed is what a reader of the stored report gets."""
    contest, judged, record = inputs.contest, inputs.judged, inputs.record
    metrics = metric_rows(inputs.sides)
    content = {
        "format": 1,
        "verdict": judged.verdict,
        "sentence": judged.sentence(),
        "refusals": judged.refusals,
        "lacks": judged.lacks,
        "gate": judged.gate,
        "version": judged.version,
        "arms": {
            arm.name: {"version": named(arm), "kind": arm.kind, "pin": arm.pin.as_body()}
            for arm in contest.arms
        },
        "notes": contest.notes,
        "question_set": {
            # Two parts are enough to know it by; the rest is the machine's, and the digest says which it is.
            "name": "/".join(Path(record.question_set).parts[-2:]),
            "sha256": record.question_set_sha256,
            "selection": dict(record.selection),
            "questions": len(inputs.sides.cases),
            "left_out": dict(inputs.left_out),
        },
        "trained_on": asdict(inputs.trained),
        "metrics": metrics,
        "fields": field_rows(inputs.sides),
        "slices": slice_rows(inputs.sides),
        "sentences": sentence_rows(inputs.sides),
        "measures": measure_rows(inputs.sides),
        "risk": risk_rows(inputs.sides),
        "abstaining": abstention_rows(inputs.sides),
        "labels": {
            arm.name: [asdict(each) for each in moved(inputs.labels, candidate=CANDIDATE, other=arm.name)]
            for arm in contest.comparators
        },
        "regression": asdict(judged.regression) if judged.regression else None,
        "worth": list(worth(metrics, [arm.name for arm in contest.comparators])),
        "gates": {name: decision.as_json() for name, decision in judged.decisions.items()},
        "rules": inputs.rules,
        "repeats": record.repeats,
    }
    name = re.sub(r"[^a-z0-9-]+", "-", f"{judged.gate}-{judged.version}-{record.id}".lower())
    return Report(name=name[:_LONGEST_NAME], content=orjson.loads(orjson.dumps(content)))


def worth(metrics: Iterable[Mapping[str, Any]], others: Sequence[str]) -> Iterable[str]:
    """What tuning was worth against each arm, and plainly where it did not help."""
    rows = list(metrics)
    for other in others:
        said = {row["name"]: row for row in rows if other in row["against"]}
        by = {
            state: [name for name, row in said.items() if row["against"][other]["says"] == state]
            for state in ("better", "worse", "not shown")
        }
        than = "the strong prompt" if other == STRONG else f"the {other} version"
        if by["better"]:
            yield f"Against {than} the candidate is better in {_told(by['better'], said, other)}."
        else:
            yield f"Against {than} the candidate is not shown to be better in anything."
        if by["worse"]:
            yield f"It is worse in {_told(by['worse'], said, other)}."
        if by["not shown"]:
            yield f"Tuning is not shown to have helped in {_told(by['not shown'], said, other)}."
        if by["better"] and set(by["better"]) <= FORM:
            yield (
                "Only the form is better, and valid JSON alone is no reason to tune: constrained decoding "
                "gives it to any model."
            )


def _told(names: Iterable[str], rows: Mapping[str, Mapping[str, Any]], other: str) -> str:
    return ", ".join(
        f"{name} ({_count(rows[name], other)} then {_count(rows[name], CANDIDATE)})" for name in names
    )


def _count(row: Mapping[str, Any], arm: str) -> str:
    rate = row["arms"][arm]
    return f"{rate['k']} of {rate['n']}"
