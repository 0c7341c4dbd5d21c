"""From single verdicts to a share that may be shown, or to the reason why none may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from eval.judging.calibration import MOST_MISSING, Calibration, missing_share
from eval.judging.correction import Corrected, NoRate, correct
from eval.judging.evidence import Subject
from eval.judging.judge import Judge
from eval.judging.judged import JudgedArm, JudgedRun
from eval.judging.judgements import Judgement


def judge_run(
    judge: Judge,
    found: Sequence[Subject],
    said: Mapping[tuple[str, str], Judgement],
    calibration: Calibration | None,
    *,
    calibrated_before: Sequence[str] = (),
) -> JudgedRun:
    """Count per arm, and correct. `calibrated_before` are other versions that somebody calibrated."""
    arms = dict.fromkeys(subject.seen.arm for subject in found)
    return JudgedRun(
        judge=judge.name,
        version=judge.version,
        model=judge.model,
        calibration=calibration,
        arms=tuple(
            _arm(
                arm,
                [subject for subject in found if subject.seen.arm == arm],
                said,
                calibration,
                calibrated_before,
            )
            for arm in arms
        ),
    )


def _arm(
    arm: str,
    found: Sequence[Subject],
    said: Mapping[tuple[str, str], Judgement],
    calibration: Calibration | None,
    calibrated_before: Sequence[str],
) -> JudgedArm:
    verdicts: Counter[bool] = Counter()
    missing: Counter[str] = Counter()
    served = set()
    for subject in found:
        if (item := subject.item) is None:
            continue
        judgement = said.get((item.id, item.digest))
        if judgement is None or judgement.verdict is None:
            missing[judgement.missing if judgement else "not asked"] += 1
            continue
        verdicts[judgement.verdict] += 1
        served.add(judgement.served)
    judged = verdicts.total()
    problem = (
        _unusable(judged, missing)
        or _uncalibrated(calibration, calibrated_before)
        or _other_model(served, calibration)
    )
    rate = NoRate(problem) if problem else _corrected(verdicts[True], judged, calibration)
    return JudgedArm(
        arm=arm,
        judged=judged,
        missing=dict(sorted(missing.items())),
        not_applicable=dict(Counter(subject.not_applicable for subject in found if subject.item is None)),
        value=rate.value if isinstance(rate, Corrected) else None,
        interval=rate.interval if isinstance(rate, Corrected) else None,
        why_none=rate.reason if isinstance(rate, NoRate) else "",
    )


def _unusable(judged: int, missing: Counter[str]) -> str:
    if missing_share(judged, missing) <= MOST_MISSING:
        return ""
    asked = judged + missing.total()
    return (
        f"judge refused: no verdict on {missing.total()} of {asked} answers ({missing.most_common(1)[0][0]})"
    )


def _uncalibrated(calibration: Calibration | None, before: Sequence[str]) -> str:
    if calibration is None:
        changed = f"; {', '.join(before)} was, and something that decides has changed since" if before else ""
        return f"not calibrated: measure it on people's labels first{changed}"
    if calibration.missing_share > MOST_MISSING:
        return f"not calibrated: no verdict on {calibration.missing_share:.0%} of the labelled answers"
    return ""


def _other_model(served: set[str], calibration: Calibration | None) -> str:
    if calibration is None or served <= set(calibration.served):
        return ""
    now, then = ", ".join(sorted(served)), ", ".join(calibration.served)
    return f"not calibrated: the endpoint answered as {now}, when it was measured as {then}"


def _corrected(yes: int, judged: int, calibration: Calibration | None) -> Corrected | NoRate:
    skill = calibration.skill if calibration else None
    if skill is None:
        return NoRate("not calibrated: people's labels are all yes, or all no; both kinds are needed")
    return correct(yes, judged, skill)
