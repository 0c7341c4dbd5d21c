"""Labels as tables for a terminal and for `report.md`, and as JSON, with the same numbers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.labelling.labels import Label, LabelRecord, Outcome
from eval.labelling.records import AUTO, HUMAN, Changes
from eval.report import Table, as_markdown, as_text, bullets, rate, rate_json
from eval.stats import Rate

HEADING = "## Failures by cause"
_EXAMPLES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmLabels:
    """The failures of one arm by primary label."""

    arm: str
    #: Answers that were judged: without those that the machinery lost.
    judged: int
    lost: int
    labels: Mapping[Label, int]
    subs: Mapping[str, int]
    #: Labels that stand beside a primary one.
    contributing: Mapping[Label, int]
    #: What was noted of answers that passed: drafts made good, questions rightly not answered.
    noted: Mapping[str, int]
    #: Failures whose cause is open.
    open: Rate | None

    def rate(self, label: Label) -> Rate | None:
        """How many of the judged answers failed for this cause; None without any."""
        return Rate(k=self.labels.get(label, 0), n=self.judged) if self.judged else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Everything that a labelling shows."""

    run: str
    criteria: str
    arms: tuple[ArmLabels, ...]
    #: Failures by cluster, the most first, and label.
    clusters: tuple[tuple[str, Mapping[Label, int]], ...]
    changes: Changes
    human: int
    #: Turns of which a person and the rules say the same primary label, of those that a person judged.
    agreement: Rate | None
    #: What the rules say and what people say of the same turn, with the people's finer cause.
    said: Mapping[tuple[str, str], int]
    examples: tuple[str, ...]


def count_labels(records: Sequence[LabelRecord], changed: Changes) -> Labels:
    """The rules' labels, counted. People's own are counted apart: they judge a choice, not all."""
    auto = [record for record in records if record.source == AUTO]
    failed = [record for record in auto if record.primary is not None]
    clusters: defaultdict[str, Counter[Label]] = defaultdict(Counter)
    for record in failed:
        clusters[record.cluster][_primary(record)] += 1
    return Labels(
        run=auto[0].run if auto else "",
        criteria=auto[0].criteria if auto else "",
        arms=tuple(
            _arm(arm, [record for record in auto if record.arm == arm])
            for arm in dict.fromkeys(record.arm for record in auto)
        ),
        clusters=tuple(sorted(clusters.items(), key=lambda item: (-sum(item[1].values()), item[0]))),
        changes=changed,
        human=sum(record.source == HUMAN for record in records),
        agreement=_agreement(records),
        said=_said(records),
        examples=tuple(_examples(failed)),
    )


def _agreement(records: Sequence[LabelRecord]) -> Rate | None:
    said = {(record.case_id, record.arm): record.primary for record in records if record.source == AUTO}
    pairs = [
        (said.get((record.case_id, record.arm)), record.primary)
        for record in records
        if record.source == HUMAN and (record.case_id, record.arm) in said
    ]
    same = sum((one and one.label) == (two and two.label) for one, two in pairs)
    return Rate(k=same, n=len(pairs)) if pairs else None


def _said(records: Sequence[LabelRecord]) -> Mapping[tuple[str, str], int]:
    ours = {(record.case_id, record.arm): record for record in records if record.source == AUTO}
    pairs = Counter(
        (_named(ours[record.case_id, record.arm]).partition(".")[0], _named(record))
        for record in records
        if record.source == HUMAN and (record.case_id, record.arm) in ours
    )
    return dict(sorted(pairs.items(), key=lambda item: (-item[1], item[0])))


def _named(record: LabelRecord) -> str:
    """The primary label with its finer cause, or `passed`."""
    if record.primary is None:
        return str(Outcome.PASSED)
    return ".".join(filter(None, (record.primary.label, record.primary.sub)))


def _primary(record: LabelRecord) -> Label:
    return record.primary.label if record.primary else Label.UNDETERMINED


def _arm(arm: str, records: Sequence[LabelRecord]) -> ArmLabels:
    judged = [record for record in records if record.outcome is not Outcome.RUN_ERROR]
    failed = [record for record in judged if record.primary is not None]
    labels = Counter(_primary(record) for record in failed)
    return ArmLabels(
        arm=arm,
        judged=len(judged),
        lost=len(records) - len(judged),
        labels=labels,
        subs=Counter(
            f"{record.primary.label}.{record.primary.sub}"
            for record in failed
            if record.primary and record.primary.sub
        ),
        contributing=Counter(finding.label for record in failed for finding in record.contributing),
        noted=Counter(
            f"{finding.label}.{finding.sub}"
            for record in judged
            if record.primary is None
            for finding in record.contributing
        ),
        open=Rate(k=labels[Label.UNDETERMINED], n=len(failed)) if failed else None,
    )


def _examples(failed: Sequence[LabelRecord]) -> Iterable[str]:
    """A few failures of each label, with what the label rests on."""
    for label in Label:
        for record in [record for record in failed if _primary(record) is label][:_EXAMPLES]:
            assert record.primary is not None
            rests_on = [check for name in record.primary.evidence if (check := record.check(name))]
            why = "; ".join(
                f"{check.name} {_word(check.value)} ({check.detail[:120]})"
                for check in rests_on
                if check.name not in ("answerable", "given")
            )
            sub = f".{record.primary.sub}" if record.primary.sub else ""
            yield f"{label}{sub} (rule {record.primary.rule}): {record.case_id} in {record.arm}: {why}"


def _word(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "open"}[value]


# ---- tables ------------------------------------------------------------------------------------


def text_labels(labels: Labels) -> str:
    """For a terminal."""
    parts = [_line(labels), *(as_text(table) for table in _tables(labels))]
    return "\n\n".join([*parts, bullets("Examples with their evidence", labels.examples)]) + "\n"


def markdown_labels(labels: Labels) -> str:
    """A section of the run's report."""
    parts = [HEADING, _line(labels)]
    parts += [f"### {table.title}\n\n{as_markdown(table)}" for table in _tables(labels)]
    if labels.examples:
        parts.append("### Examples with their evidence\n\n" + bullets("", labels.examples).strip())
    return "\n\n".join(parts) + "\n"


def json_labels(labels: Labels) -> dict[str, Any]:
    """For programs."""
    return {
        "run": labels.run,
        "criteria": labels.criteria,
        "arms": {
            arm.arm: {
                "judged": arm.judged,
                "run_errors": arm.lost,
                "labels": {
                    label.value: rate_json(arm.rate(label)) for label in Label if arm.labels.get(label)
                },
                "subs": dict(sorted(arm.subs.items())),
                "contributing": {
                    label.value: arm.contributing[label] for label in Label if arm.contributing.get(label)
                },
                "noted_of_passed": dict(sorted(arm.noted.items())),
                "undetermined_share": rate_json(arm.open),
            }
            for arm in labels.arms
        },
        "clusters": {
            cluster: {label.value: counted[label] for label in Label if counted.get(label)}
            for cluster, counted in labels.clusters
        },
        "changes": {
            "new": labels.changes.new,
            "changed": labels.changes.changed,
            "reopened": labels.changes.reopened,
            "gone": labels.changes.gone,
        },
        "labelled_by_people": labels.human,
        "agreement_with_people": rate_json(labels.agreement),
        "said_by_people": [
            {"rules": rules, "people": people, "n": count} for (rules, people), count in labels.said.items()
        ],
    }


def _line(labels: Labels) -> str:
    changed = labels.changes
    again = f" ({changed.reopened} of them opened again by other criteria)" if changed.reopened else ""
    return (
        f"Criteria {labels.criteria}: {changed.new} rows new, {changed.changed} changed{again}; "
        f"{labels.human} by people" + (f", same label {rate(labels.agreement)}." if labels.agreement else ".")
    )


def _tables(labels: Labels) -> Iterable[Table]:
    if not labels.arms:
        return
    header = ("", *(arm.arm for arm in labels.arms))
    shown = [label for label in Label if any(arm.labels.get(label) for arm in labels.arms)]
    rows = [(label.value, *(_cell(arm.rate(label)) for arm in labels.arms)) for label in shown]
    rows.append(("cause open, of the failures", *(_cell(arm.open) for arm in labels.arms)))
    rows.append(("lost by the machinery", *(str(arm.lost) for arm in labels.arms)))
    yield Table(title="Failures by primary label, k/n and 95 % interval", header=header, rows=tuple(rows))
    for title, counted in (
        ("Finer causes", [arm.subs for arm in labels.arms]),
        (
            "Beside another cause",
            [{label.value: count for label, count in arm.contributing.items()} for arm in labels.arms],
        ),
        ("Noted of answers that passed", [arm.noted for arm in labels.arms]),
    ):
        names = sorted({name for each in counted for name in each})
        if names:
            yield Table(
                title=title,
                header=header,
                rows=tuple((name, *(str(each.get(name, 0)) for each in counted)) for name in names),
            )
    yield from _people(labels.said)
    yield Table(
        title="Failures by cluster, all arms",
        header=("", *(label.value for label in shown), "all"),
        rows=tuple(
            (
                cluster,
                *(str(found.get(label, 0) or "-") for label in shown),
                str(sum(found.values())),
            )
            for cluster, found in labels.clusters
        ),
    )


def _people(said: Mapping[tuple[str, str], int]) -> Iterable[Table]:
    if said:
        yield Table(
            title="The rules' label and the people's, with their finer cause",
            header=("rules", "people", "turns"),
            rows=tuple((rules, people, str(count)) for (rules, people), count in said.items()),
        )


def _cell(shown: Rate | None) -> str:
    return rate(shown) if shown else "-"
