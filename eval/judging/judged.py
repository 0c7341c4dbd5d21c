"""What a judge says of a run: per arm the corrected share of good answers, or why there is none.

The share as the judge says it is never kept: it moves with the judge, not only with the answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import orjson

from eval.errors import RunError
from eval.judging.calibration import Calibration
from eval.stats import Interval

_FILE = "judged.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedArm:
    """One arm by one judge."""

    arm: str
    judged: int
    #: Reasons with counts: why there was no verdict, and why the question does not apply.
    missing: Mapping[str, int]
    not_applicable: Mapping[str, int]
    #: The corrected share of good answers and its interval; None with the reason beside it.
    value: float | None
    interval: Interval | None
    why_none: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRun:
    """One judge on all arms of a run."""

    judge: str
    version: str
    model: str
    calibration: Calibration | None
    arms: tuple[JudgedArm, ...]

    @property
    def has_rate(self) -> bool:
        """Whether any arm got a share."""
        return any(arm.value is not None for arm in self.arms)

    def arm(self, name: str) -> JudgedArm | None:
        """What it says of one arm."""
        return next((arm for arm in self.arms if arm.arm == name), None)

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """What `as_json` wrote."""
        calibration = row["calibration"]
        arms = (
            JudgedArm(**{**arm, "interval": Interval(**arm["interval"]) if arm["interval"] else None})
            for arm in row["arms"]
        )
        return cls(
            **{
                **row,
                "calibration": Calibration.from_json(calibration) if calibration else None,
                "arms": tuple(arms),
            }
        )


def read_judged(folder: Path) -> tuple[JudgedRun, ...]:
    """What judges said of the run in this folder, by name."""
    path = folder / _FILE
    if not path.is_file():
        return ()
    try:
        return tuple(JudgedRun.from_json(row) for row in orjson.loads(path.read_bytes()))
    except (orjson.JSONDecodeError, KeyError, TypeError) as exc:
        raise RunError(f"{path}: not written by this version ({exc}); judge the run again") from exc


def judged_file(runs: Sequence[JudgedRun]) -> tuple[str, str]:
    """The file's name in a run's folder, and its content."""
    plain = orjson.dumps([run.as_json() for run in runs], option=orjson.OPT_INDENT_2)
    return _FILE, plain.decode() + "\n"


def with_judged(before: Sequence[JudgedRun], run: JudgedRun) -> tuple[JudgedRun, ...]:
    """The judges of a run with this one's words in place of its earlier ones."""
    kept = [other for other in before if other.judge != run.judge]
    return tuple(sorted((*kept, run), key=lambda each: each.judge))
