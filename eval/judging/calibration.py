"""A judge against people: how often it says what they say, kept with the version that was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import orjson

from eval.errors import RunError, StorageError
from eval.judging.correction import Skill
from eval.judging.judge import Judge
from eval.judging.judgements import Judgement
from eval.judging.people import Labelled
from eval.stats import Rate

#: Above this share of answers without a verdict a judge is not to be used: what it cannot judge is seldom
#: like what it can.
MOST_MISSING = 0.10


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What one version of a judge said of answers that people had judged."""

    version: str
    #: The names by which the endpoint answered.
    served: tuple[str, ...]
    good: int
    good_said_good: int
    bad: int
    bad_said_bad: int
    #: Reasons why there was no verdict, with counts.
    missing: Mapping[str, int]
    #: Where the labels come from, and their digest.
    labels: str
    labels_sha256: str
    at: str

    @property
    def skill(self) -> Skill | None:
        """Both rates; None if people called all answers good, or all bad."""
        if not self.good or not self.bad:
            return None
        return Skill(
            sensitivity=Rate(k=self.good_said_good, n=self.good),
            specificity=Rate(k=self.bad_said_bad, n=self.bad),
        )

    @property
    def missing_share(self) -> float:
        """Of the answers that it was asked about, those without a verdict."""
        return missing_share(self.good + self.bad, self.missing)

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """The calibration that `as_json` wrote."""
        return cls(**{**row, "served": tuple(row["served"])})


def missing_share(judged: int, missing: Mapping[str, int]) -> float:
    """The share without a verdict; 0 where nothing was asked."""
    without = sum(missing.values())
    return without / (judged + without) if without else 0.0


def calibrate(
    judge: Judge, labelled: Labelled, said: Mapping[tuple[str, str], Judgement], *, at: str
) -> Calibration:
    """Count where judge and people agree."""
    agreed: Counter[tuple[bool, bool]] = Counter()
    missing: Counter[str] = Counter()
    served = set()
    for row in labelled.rows:
        judgement = said.get((row.item.id, row.item.digest))
        if judgement is None or judgement.verdict is None:
            missing[judgement.missing if judgement else "not asked"] += 1
            continue
        agreed[row.good, judgement.verdict] += 1
        served.add(judgement.served)
    return Calibration(
        version=judge.version,
        served=tuple(sorted(served)),
        good=agreed[True, True] + agreed[True, False],
        good_said_good=agreed[True, True],
        bad=agreed[False, True] + agreed[False, False],
        bad_said_bad=agreed[False, False],
        missing=dict(sorted(missing.items())),
        labels=labelled.source,
        labels_sha256=labelled.sha256,
        at=at,
    )


class CalibrationFile:
    """The calibrations of a judge's file, by version: one of another version does not count."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.path = judge.calibration_file

    def read(self) -> Calibration | None:
        """That of the judge as it is now."""
        row = self._all().get(self._judge.version)
        return Calibration.from_json(row) if row else None

    def others(self) -> Sequence[str]:
        """Versions that were calibrated before something changed."""
        return sorted(version for version in self._all() if version != self._judge.version)

    def write(self, calibration: Calibration) -> None:
        """Keep it, in place of an earlier one of the same version."""
        rows = {**self._all(), calibration.version: calibration.as_json()}
        draft = self.path.with_name(f".{self.path.name}.new")
        try:
            draft.write_bytes(orjson.dumps(rows, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")
            draft.replace(self.path)
        except OSError as exc:
            raise StorageError(f"{self.path}: {exc.strerror}; make the judge's folder writable") from exc

    def _all(self) -> dict[str, Any]:
        if not self.path.is_file():
            return {}
        try:
            rows = orjson.loads(self.path.read_bytes())
            for row in rows.values():
                Calibration.from_json(row)
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError) as exc:
            raise RunError(f"{self.path}: no calibrations ({exc}); delete it and calibrate again") from exc
        found: dict[str, Any] = rows
        return found
