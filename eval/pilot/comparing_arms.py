"""Tables of a pilot's days: what passed, five metrics, causes of failures, what moved between two arms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from eval.advice.counts import Difference, difference, share_of
from eval.advice.evidence import ArmLog, Row
from eval.labelling.labels import Label
from eval.metrics import FIVE, headline
from eval.pilot.measuring import Measured
from eval.report import Table, rate

#: An arm that answered a smaller share of the questions is not compared with those that answered all.
_WHOLE = 0.8
#: What a question that did not fail is called where labels are columns.
PASSED = "passed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Two arms on the same questions."""

    difference: Difference

    def sentence(self) -> str:
        """The comparison in words."""
        seen = self.difference
        between = ""
        # Draws of a handful of clusters that all agree give no width, which says nothing of other questions.
        if seen.low is not None and seen.high is not None and seen.low < seen.high:
            between = f" ({seen.low * 100:+.0f} to {seen.high * 100:+.0f})"
        shown = "" if self.shown else "; so few questions do not show a difference"
        return (
            f"{seen.second} passes {seen.second_passed} of {seen.n} questions, "
            f"{seen.first} {seen.first_passed}: {seen.value * 100:+.0f} points{between}, "
            f"{_p(seen.p)}{shown}."
        )

    @property
    def shown(self) -> bool:
        """Whether test and interval both say that the second arm is another."""
        return self.difference.better or self.difference.worse


def _p(value: float) -> str:
    return "p below 0.001" if value < 0.001 else f"p {value:.3f}"


def arm_log(measured: Measured, name: str) -> ArmLog:
    """How each question came out in an arm."""
    return next(arm for arm in measured.logs.arms if arm.name == name)


def compare_passed(measured: Measured, first: str, second: str) -> Compared | None:
    """Passed answers of two arms; None if they share no question."""
    found = difference(arm_log(measured, first), arm_log(measured, second), measured.draws)
    return Compared(difference=found) if found else None


def most_passed(compared: Mapping[str, Compared], *, of: int) -> str | None:
    """The arm that passes most of so many questions, if it passes more than the one it is compared with."""
    gains = {
        name: found.difference.value
        for name, found in compared.items()
        if found.difference.n >= _WHOLE * of and found.difference.value > 0
    }
    return max(gains, key=lambda name: (gains[name], name), default=None)


def passed_table(measured: Measured, arms: Sequence[str]) -> Table:
    """Answers without any failure."""
    rows = []
    for name in arms:
        arm = arm_log(measured, name)
        if not arm.decided:
            rows.append((name, "no answer", "-", str(len(arm.rows))))
            continue
        share = share_of(arm.decided, lambda row: not row.failed)
        lost = str(len(arm.rows) - len(arm.decided))
        rows.append((name, f"{share.k}/{share.n}", f"{share.low:.0%} to {share.high:.0%}", lost))
    return Table(
        title="Answers without a failure",
        header=("arm", "passed", "95 % interval", "no answer"),
        rows=tuple(rows),
    )


def metrics_table(measured: Measured, arms: Sequence[str]) -> Table:
    """The five headlines, never added up."""
    shown = {result.arm.name: result for result in measured.summary.arms}
    rows = []
    for group in FIVE:
        found = [shown[name].result(headline(group)).rate for name in arms]
        cells = [rate(each) if each else "not measured" for each in found]
        rows.append((f"{group}: {headline(group).title}", *cells))
    return Table(title="Five metrics, k/n and 95 % interval", header=("", *arms), rows=tuple(rows))


def label_table(measured: Measured, arms: Sequence[str]) -> Table:
    """Failures by primary label."""
    counted = {arm.arm: arm for arm in measured.labels.arms}
    shown = [label for label in Label if any(counted[name].labels.get(label) for name in arms)]
    rows = [
        (label.value, *(rate(found) if (found := counted[name].rate(label)) else "-" for name in arms))
        for label in shown
    ]
    return Table(
        title="Failures by primary label, k/n and 95 % interval", header=("", *arms), rows=tuple(rows)
    )


def finer_table(measured: Measured, arms: Sequence[str]) -> Table:
    """Finer causes."""
    counted = {arm.arm: arm.subs for arm in measured.labels.arms}
    subs = sorted({sub for name in arms for sub in counted[name]})
    return Table(
        title="Finer causes",
        header=("", *arms),
        rows=tuple((sub, *(str(counted[name].get(sub, 0)) for name in arms)) for sub in subs),
    )


def moved_table(measured: Measured, first: str, second: str) -> Table:
    """For each label of the first arm what became of its failures in the second, and what failed newly."""
    others = {row.case_id: row for row in arm_log(measured, second).decided}
    moves = Counter(
        (_name(row), _name(others[row.case_id]))
        for row in arm_log(measured, first).decided
        if row.case_id in others
    )
    rows = []
    for before in [*(label.value for label in Label), PASSED]:
        became = {after: n for (name, after), n in moves.items() if name == before}
        if not became:
            continue
        same = became.pop(before, 0)
        passed = became.pop(PASSED, 0) if before != PASSED else same
        other = ", ".join(f"{n} {name}" for name, n in sorted(became.items())) or "-"
        rows.append((before, str(passed), "-" if before == PASSED else str(same), other))
    return Table(
        title=f"What became of it: {first} to {second}",
        header=(f"in {first}", "passed", "the same failure", "another failure"),
        rows=tuple(rows),
    )


def cluster_table(rows: Iterable[Row]) -> Table:
    """Failures by cluster and label, the most first."""
    failed = [row for row in rows if row.failed]
    clusters = Counter(row.cluster for row in failed)
    return Table(
        title="Failures by cluster",
        header=("cluster", "failures", "of which"),
        rows=tuple(
            (
                cluster,
                str(n),
                ", ".join(
                    f"{count} {label}"
                    for label, count in Counter(
                        _name(row) for row in failed if row.cluster == cluster
                    ).most_common()
                ),
            )
            for cluster, n in clusters.most_common()
        ),
    )


def _name(row: Row) -> str:
    return row.label.value if row.failed and row.label else PASSED
