"""Who looked at the holdout, when, and for which versions: whoever looks twice has tuned on it.

A run that asks questions of the holdout opens it, and so does a gate that decides on them. A question set has
one log beside its questions, which goes where the set goes; other formats share one beside the runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import orjson

from eval.errors import CaseFileError, StorageError
from eval.sets.questions import set_file

HOLDOUT = "holdout"
OPENINGS = "openings.jsonl"


class Kind(StrEnum):
    """What was done with the answers."""

    RUN = "run"
    GATE = "gate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """One look at the holdout."""

    kind: Kind
    at: str
    who: str
    #: The run that asked.
    run: str
    #: Ids of the versions that were looked at.
    versions: tuple[str, ...]
    #: The questions as the run names them, and their fingerprint: of the frozen set, else of what was asked.
    questions: str
    sha256: str

    def sentence(self) -> str:
        """The look in words."""
        return f"{self.at} by {self.who} in run {self.run}"

    def concerns(self, version: str) -> bool:
        """Whether this version was looked at, in whatever snapshot."""
        return any(_id(each) == _id(version) for each in self.versions)

    def as_json(self) -> dict[str, Any]:
        """Plain data for a line of the log."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Any) -> Self:
        """The opening that `as_json` wrote."""
        return cls(**{**row, "kind": Kind(row["kind"]), "versions": tuple(row["versions"])})


class OpeningLog:
    """The openings of one set of questions; `runs` is for formats that have no folder of their own."""

    def __init__(self, questions: str, *, runs: Path) -> None:
        self._questions = questions
        file = set_file(Path(questions))
        self._own = file is not None
        self.path = file.with_name(OPENINGS) if file else runs / OPENINGS

    def read(self) -> tuple[Opening, ...]:
        """All of them, oldest first."""
        if not self.path.exists():
            return ()
        found = []
        for number, line in enumerate(self.path.read_bytes().splitlines(), start=1):
            try:
                found.append(Opening.from_json(orjson.loads(line)))
            except (ValueError, KeyError, TypeError) as exc:
                raise CaseFileError(
                    file=self.path, line=number, what=f"not an opening ({exc})", fix="restore the log"
                ) from exc
        return tuple(each for each in found if self._own or each.questions == self._questions)

    def add(self, opening: Opening) -> tuple[Opening, ...]:
        """Log an opening, and give back those of other runs, oldest first.

        The same done again with the same run shows nothing new, so it is not logged again.
        """
        known = self.read()
        if not any(
            (each.kind, each.run, each.versions) == (opening.kind, opening.run, opening.versions)
            for each in known
        ):
            self._append(opening)
        return tuple(each for each in known if each.run != opening.run)

    def _append(self, opening: Opening) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as log:
                log.write(orjson.dumps(opening.as_json()) + b"\n")
                log.flush()
                os.fsync(log.fileno())
        except OSError as exc:
            raise StorageError(
                f"{self.path}: {exc.strerror}; openings of the holdout must be logged, make it writable"
            ) from exc


def opens_holdout(splits: Iterable[str]) -> bool:
    """Whether any of the questions with these splits is kept for decisions."""
    return HOLDOUT in splits


def first_by_run(openings: Iterable[Opening]) -> tuple[Opening, ...]:
    """One opening for each run: its gate looked at what its answers had shown."""
    found: dict[str, Opening] = {}
    for opening in openings:
        found.setdefault(opening.run, opening)
    return tuple(found.values())


def _id(version: str) -> str:
    return version.partition("@")[0]
