"""Judged runs for reports: only corrected shares, each with the judge's version and measured error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.judging.judged import JudgedArm, JudgedRun

TITLE = "Judged good, corrected for the judge's error, 95 % interval"


def judged_rows(judged: Sequence[JudgedRun], arms: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """A row for each judge, a cell for each arm."""
    return tuple((f"{run.judge} ({run.version})", *(_cell(run.arm(arm)) for arm in arms)) for run in judged)


def judged_lines(judged: Sequence[JudgedRun]) -> list[str]:
    """What stands behind the table, in sentences: how the judge was measured, and why a share is missing."""
    return [line for run in judged for line in (_measured(run), *_reasons(run))]


def judged_json(judged: Sequence[JudgedRun]) -> dict[str, Any]:
    """For programs. An arm without a share has `"value": null` and says why."""
    return {run.judge: run.as_json() for run in judged}


def _cell(arm: JudgedArm | None) -> str:
    if arm is None:
        return "not judged"
    if arm.value is None or arm.interval is None:
        return arm.why_none.partition(":")[0]
    low, high = arm.interval.low * 100, arm.interval.high * 100
    missing = f" ({sum(arm.missing.values())} missing)" if arm.missing else ""
    return f"{arm.value:.0%} [{low:.0f}-{high:.0f}] of {arm.judged}{missing}"


def _measured(run: JudgedRun) -> str:
    calibration = run.calibration
    if calibration is None or calibration.skill is None:
        return f"{run.judge} ({run.version}, model {run.model}): its error was not measured"
    skill = calibration.skill
    return (
        f"{run.judge} ({run.version}, model {run.model}): measured on {calibration.labels}, it says yes to "
        f"{skill.sensitivity.k} of {skill.sensitivity.n} answers that people call good and no to "
        f"{skill.specificity.k} of {skill.specificity.n} that they call bad"
    )


def _reasons(run: JudgedRun) -> list[str]:
    """Reasons why there is no share, each once with its arms."""
    arms: dict[str, list[str]] = {}
    for arm in run.arms:
        if arm.why_none:
            arms.setdefault(arm.why_none, []).append(arm.arm)
    lines = [f"{run.judge}, {', '.join(names)}: {reason}" for reason, names in arms.items()]
    if missing := _total([arm.missing for arm in run.arms]):
        lines.append(f"{run.judge}: no verdict: {_counted(missing)}")
    if left_out := _total([arm.not_applicable for arm in run.arms]):
        lines.append(f"{run.judge}: not asked about: {_counted(left_out)}")
    return lines


def _total(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for counted in counts:
        for reason, count in counted.items():
            found[reason] = found.get(reason, 0) + count
    return found


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))
