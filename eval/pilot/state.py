"""What a pilot has done so far: `pilot.json` in its folder, and where each day stands.

Each day rests on inputs that are kept as digests. A day whose inputs are others now is neither done nor to be
done: somebody has to say that what was decided on the old ones may go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import orjson

from eval.errors import PilotError, StorageError
from eval.pilot.reports import DayReport

STATE = "pilot.json"
_FORMAT = 1

DAYS: Mapping[int, str] = {
    1: "Questions: imported, redacted, clustered, frozen",
    2: "Baseline: the prompt alone, failures labelled",
    3: "Retrieval: the same questions with documents",
    4: "Better retrieval: chunking, filters, reranking",
    5: "What retrieval did not fix",
    6: "Is a tuning set justified?",
    7: "The choice, and the metrics to roll it out by",
}
#: Days after this one ask the gateway nothing new.
LAST_MEASURED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DayDone:
    """A day that was finished."""

    #: ISO, UTC.
    at: str
    #: What it was done on: name -> digest or version.
    inputs: Mapping[str, str]
    #: What later days need of it.
    outputs: Mapping[str, Any]
    #: File of the dated report in the pilot's folder.
    file: str
    report: DayReport

    @property
    def digest(self) -> str:
        """Changes whenever the day is done again."""
        return digest_of({"at": self.at, "inputs": dict(self.inputs), "outputs": dict(self.outputs)})


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotState:
    """A pilot as far as it got."""

    #: Number of the run's folder: a day that is done again leaves the old answers where they are.
    run_number: int = 1
    #: What the command line said first; later ones need not say it again.
    options: Mapping[str, Any] = field(default_factory=dict)
    days: Mapping[int, DayDone] = field(default_factory=dict)
    format: int = _FORMAT

    def finished(self, day: int, done: DayDone) -> Self:
        """With one day more."""
        return replace(self, days={**self.days, day: done})

    def begun_again(self, day: int) -> Self:
        """Without that day and all that rests on it; the run that begins anew takes earlier answers along."""
        kept = {number: done for number, done in self.days.items() if number < day}
        return replace(self, days=kept, run_number=self.run_number + (day <= LAST_MEASURED))

    def as_json(self) -> dict[str, Any]:
        """Plain data for `pilot.json`."""
        row = asdict(self)
        row["days"] = {str(day): done for day, done in row["days"].items()}
        return row

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """The state that `as_json` wrote."""
        days = {
            int(day): DayDone(**{**done, "report": DayReport.from_json(done["report"])})
            for day, done in row["days"].items()
        }
        return cls(**{**row, "days": days})


class PilotFolder:
    """The folder of one pilot."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> PilotState:
        """The state; an empty one where nothing was begun."""
        file = self.path / STATE
        if not file.exists():
            return PilotState()
        try:
            state = PilotState.from_json(orjson.loads(file.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise PilotError(
                f"{file}: not the state of a pilot ({exc}); restore it or name a new folder"
            ) from exc
        if state.format != _FORMAT:
            raise PilotError(f"{file}: format {state.format}, not {_FORMAT}; name a new folder")
        return state

    def save(self, state: PilotState) -> None:
        """Replace the state as a whole: a crash leaves the old one or the new one."""
        self.write(STATE, orjson.dumps(state.as_json(), option=orjson.OPT_INDENT_2) + b"\n")

    def write(self, name: str, content: bytes) -> Path:
        """Replace a file as a whole."""
        target, draft = self.path / name, self.path / f".{name}.new"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(content)
            draft.replace(target)
        except OSError as exc:
            raise StorageError(
                f"{target}: {exc.strerror}; make the folder writable or free space, then run the pilot again"
            ) from exc
        return target


class Standing(StrEnum):
    """Where a day stands."""

    READY = "ready"
    DONE = "done"
    #: Done on other inputs than those of now.
    CHANGED = "changed"
    #: Before its time: an earlier day is missing.
    EARLY = "early"


def standing(state: PilotState, day: int, inputs: Mapping[str, str]) -> Standing:
    """Where a day stands with the inputs of now."""
    if any(earlier not in state.days for earlier in range(1, day)):
        return Standing.EARLY
    if day not in state.days:
        return Standing.READY
    return Standing.DONE if not changed_inputs(state, day, inputs) else Standing.CHANGED


def changed_inputs(state: PilotState, day: int, inputs: Mapping[str, str]) -> Sequence[str]:
    """Which inputs of a finished day are others now, with both values."""
    then = state.days[day].inputs
    return [
        f"{name} was {then.get(name, 'nothing')}, is {inputs.get(name, 'nothing')}"
        for name in dict.fromkeys((*then, *inputs))
        if then.get(name) != inputs.get(name)
    ]


def missing_days(state: PilotState, day: int) -> list[int]:
    """Days that have to be done first."""
    return [earlier for earlier in range(1, day) if earlier not in state.days]


def digest_of(value: object) -> str:
    """A short digest of plain data."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]


def digest_of_path(path: Path) -> str:
    """A short digest of a file, or of all files of a folder with their names."""
    found = hashlib.sha256()
    try:
        files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        for file in files:
            name = str(file.relative_to(path)) if path.is_dir() else ""
            found.update(name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    except OSError as exc:
        raise PilotError(
            f"{path}: {exc.strerror}; restore it, or name it with --questions or --team"
        ) from exc
    return found.hexdigest()[:12]
