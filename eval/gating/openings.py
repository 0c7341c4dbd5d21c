"""Who looked at the holdout, when, and for which version: whoever looks twice has tuned on it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from eval.cases import Case
from eval.errors import StorageError

HOLDOUT = "holdout"
_FILE = "holdout.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One gate on questions of the holdout."""

    who: str
    at: str
    version: str
    run: str
    question_set_sha256: str

    def sentence(self) -> str:
        """The look in words."""
        return f"{self.at} by {self.who} in run {self.run}"


def is_holdout(cases: Sequence[Case]) -> bool:
    """Whether any question is kept for decisions."""
    return any(case.split == HOLDOUT for case in cases)


def note_look(runs: Path, look: Look) -> tuple[Look, ...]:
    """Log a look, and give back those that the version had before on these questions, in other runs.

    The same run again shows nothing new, so it is neither logged nor counted.
    """
    target = runs / _FILE
    try:
        known = _read(target)
        of_version = [
            each
            for each in known
            if (each.version, each.question_set_sha256) == (look.version, look.question_set_sha256)
        ]
        if look.run not in {each.run for each in of_version}:
            runs.mkdir(parents=True, exist_ok=True)
            with target.open("ab") as log:
                log.write(orjson.dumps(asdict(look)) + b"\n")
                log.flush()
                os.fsync(log.fileno())
    except OSError as exc:
        raise StorageError(
            f"{target}: {exc.strerror}; looks at the holdout must be logged, make the folder writable"
        ) from exc
    return tuple(each for each in of_version if each.run != look.run)


def _read(target: Path) -> list[Look]:
    if not target.exists():
        return []
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(target.read_bytes().splitlines(), start=1):
        try:
            rows.append(orjson.loads(line))
        except orjson.JSONDecodeError as exc:
            raise StorageError(f"{target}:{number}: not a line of the log; restore it") from exc
    return [Look(**row) for row in rows]
