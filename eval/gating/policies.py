"""What the labels of a run say of policies."""

from __future__ import annotations

from pathlib import Path

from eval.gating.guards import policy_line
from eval.gating.rules import POLICY_VIOLATION
from eval.gating.sides import Side
from eval.gating.verdicts import PolicyLine
from eval.labelling.labels import Label, LabelRecord, Outcome
from eval.labelling.records import AUTO, HUMAN, LabelFile
from eval.labelling.rules import RULES, YES, Rule

_POLICY_RULES = tuple(rule for rule in RULES if rule.label is Label.POLICY_VIOLATION)


def policy_from_labels(folder: Path, candidate: Side) -> PolicyLine:
    """Of the answers of an arm, those that broke a policy by their labels.

    A person's word counts more than the rules'. An answer without a label, or asked again since, was not
    checked, which is no pass.
    """
    turns = {case_id: candidate.answers[case_id].turn_id for case_id in candidate.answered}
    newest: dict[str, LabelRecord] = {}
    for record in LabelFile(folder).read():
        if record.arm != candidate.arm.name or record.turn_id != turns.get(record.case_id):
            continue
        known = newest.get(record.case_id)
        if known is None or record.source == HUMAN or known.source != HUMAN:
            newest[record.case_id] = record
    judged = [record for record in newest.values() if record.outcome is not Outcome.RUN_ERROR]
    broken = {record.case_id for record in judged if _breaks(record)}
    unknown = [
        record
        for record in judged
        if record.case_id not in broken and record.source == AUTO and _is_open(record)
    ]
    return policy_line(
        POLICY_VIOLATION,
        checked=len(judged) - len(unknown),
        broken=sorted(broken),
        unknown=len(unknown) + len(turns) - len(judged),
        note=f"no labels of {candidate.arm.name}; label {folder} with `twinrail eval label`",
    )


def _breaks(record: LabelRecord) -> bool:
    findings = (record.primary, *record.contributing)
    return any(finding is not None and finding.label is Label.POLICY_VIOLATION for finding in findings)


def _is_open(record: LabelRecord) -> bool:
    """Whether a policy rule might have fired and could not be decided."""
    return any(_could_fire(rule, record) for rule in _POLICY_RULES)


def _could_fire(rule: Rule, record: LabelRecord) -> bool:
    """A check that was not made does not apply; one that could not tell leaves the rule open."""
    checks = [(record.check(name), wanted is YES) for name, wanted in rule.when.items()]
    return all(check is not None and check.value in (None, wanted) for check, wanted in checks) and any(
        check is not None and check.value is None for check, _ in checks
    )
