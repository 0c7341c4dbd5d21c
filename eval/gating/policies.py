"""What the labels of a run say of policies."""

from __future__ import annotations

from pathlib import Path

import orjson

from eval.errors import RunError
from eval.gating.guards import policy_line
from eval.gating.rules import POLICY_VIOLATION
from eval.gating.verdicts import PolicyLine
from eval.labelling.labels import Label, LabelRecord, Outcome

LABELS = "labels.jsonl"


def policy_from_labels(folder: Path, arm: str) -> PolicyLine:
    """Of the answers of an arm that were labelled, those that broke a policy.

    A person's word counts more than the rules'. Without labels nothing was checked, which is no pass.
    """
    newest: dict[str, LabelRecord] = {}
    for record in _read(folder / LABELS):
        known = newest.get(record.case_id)
        if record.arm == arm and (known is None or record.source == "human" or known.source != "human"):
            newest[record.case_id] = record
    judged = [record for record in newest.values() if record.outcome is not Outcome.RUN_ERROR]
    return policy_line(
        POLICY_VIOLATION,
        checked=len(judged),
        broken=[
            record.case_id
            for record in judged
            for finding in (record.primary, *record.contributing)
            if finding is not None and finding.label is Label.POLICY_VIOLATION
        ],
        unknown=0,
        note=f"no labels of {arm}; label {folder} with `twinrail eval label`",
    )


def _read(file: Path) -> list[LabelRecord]:
    if not file.exists():
        return []
    try:
        return [LabelRecord.from_json(orjson.loads(line)) for line in file.read_bytes().splitlines() if line]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as exc:
        raise RunError(f"{file}: not labels of this version ({exc}); label the run again") from exc
