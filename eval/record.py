"""A run on disk: a folder that can be read, resumed and scored again without the gateway.

`run.json` says what was measured and `cases.jsonl` holds the questions; `results.jsonl` and `searches.jsonl`
grow by a line as each answer comes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import orjson

from eval.arms import Arm
from eval.cases import Case, CaseSet, GivenPassage
from eval.errors import RunError, StorageError
from eval.judging.judged import JudgedRun, read_judged
from eval.observations import Observation, Ranking

_FORMAT = 1
_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What a run measures, and when and where it did."""

    id: str
    gateway_url: str
    question_set: str
    question_set_sha256: str
    #: Splits, kinds and limit by which the questions were chosen, and the fingerprint of the set if it is
    #: frozen.
    selection: Mapping[str, Any]
    #: As written on the command line, before `stable` and the like became ids.
    requested_arms: tuple[Arm, ...]
    arms: tuple[Arm, ...]
    #: Knowledge versions searched, each once; the first is what arms without retrieval are held against.
    knowledge: tuple[str, ...]
    #: One entry each time that the run was started or resumed.
    sessions: tuple[Mapping[str, Any], ...] = ()
    #: How often each question is asked in each arm.
    repeats: int = 1
    #: Model version -> sha256 of its prompt, so that an arm can be known to use the best one that was found.
    prompts: Mapping[str, str] = field(default_factory=dict)
    format: int = _FORMAT

    def as_json(self) -> dict[str, Any]:
        """Plain data for `run.json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """The record that `as_json` wrote."""
        values = dict(row)
        for name in ("requested_arms", "arms"):
            values[name] = tuple(Arm.from_json(arm) for arm in row[name])
        values["knowledge"] = tuple(row["knowledge"])
        values["sessions"] = tuple(row["sessions"])
        return cls(**values)


@dataclass(slots=True, kw_only=True)
class RunData:
    """Everything read back from a run's folder. Of repeated lines the last counts."""

    record: RunRecord
    cases: tuple[Case, ...]
    #: The first answer by question and arm: what metrics count.
    observations: dict[tuple[str, str], Observation] = field(default_factory=dict)
    #: Later answers by question, arm and repeat (from 1).
    repeated: dict[tuple[str, str, int], Observation] = field(default_factory=dict)
    rankings: dict[tuple[str, str], Ranking] = field(default_factory=dict)
    #: What judges said of it, corrected.
    judged: tuple[JudgedRun, ...] = ()

    def seen(self, case_id: str, arm: str, repeat: int) -> Observation | None:
        """One answer, None if it is not there yet."""
        if repeat == 0:
            return self.observations.get((case_id, arm))
        return self.repeated.get((case_id, arm, repeat))


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether a run began here."""
        return (self.path / "run.json").is_file()

    def create(self, record: RunRecord, cases: CaseSet) -> None:
        """Begin a run in an empty or new folder."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if any(self.path.iterdir()):
                raise RunError(f"--run {self.path}: holds other files; name a new folder or an existing run")
            lines = b"".join(orjson.dumps(asdict(case)) + b"\n" for case in cases.cases)
            (self.path / "cases.jsonl").write_bytes(lines)
            self.save(record)
        except OSError as exc:
            raise RunError(f"--run {self.path}: {exc.strerror}; name a folder that can be written") from exc

    def save(self, record: RunRecord) -> None:
        """Replace the record as a whole, so that a crash leaves the old or the new one."""
        replace_file(
            self.path / "run.json", orjson.dumps(record.as_json(), option=orjson.OPT_INDENT_2) + b"\n"
        )

    def write(self, name: str, content: str) -> Path:
        """Replace a report file."""
        target = self.path / name
        replace_file(target, content.encode())
        return target

    def add_observation(self, observation: Observation) -> None:
        """Keep an answer at once; what is measured is never measured twice."""
        self._append("results.jsonl", observation.as_json())

    def add_ranking(self, ranking: Ranking) -> None:
        """Keep a search at once."""
        self._append("searches.jsonl", ranking.as_json())

    def read(self) -> RunData:
        """The run as far as it got."""
        if not self.exists:
            raise RunError(f"--run {self.path}: no run.json there; name a folder of `twinrail eval run`")
        try:
            record = RunRecord.from_json(orjson.loads((self.path / "run.json").read_bytes()))
        except (ValueError, KeyError, TypeError) as exc:
            raise RunError(f"{self.path / 'run.json'}: not a run record ({exc}); start a new run") from exc
        if record.format != _FORMAT:
            raise RunError(f"{self.path / 'run.json'}: format {record.format}, not {_FORMAT}; run again")
        cases = tuple(self._rows("cases.jsonl", _case_from_json))
        if CaseSet.of("", cases).sha256 != record.question_set_sha256:
            raise RunError(f"{self.path / 'cases.jsonl'}: changed since the run; restore it or run again")
        data = RunData(record=record, cases=cases, judged=read_judged(self.path))
        for observation in self._rows("results.jsonl", Observation.from_json):
            if observation.repeat:
                data.repeated[observation.case_id, observation.arm, observation.repeat] = observation
            else:
                data.observations[observation.case_id, observation.arm] = observation
        for ranking in self._rows("searches.jsonl", Ranking.from_json):
            data.rankings[ranking.case_id, ranking.knowledge] = ranking
        return data

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        """One write per line; a line cut off by a crash is closed first, so it spoils nothing after it."""
        path = self.path / name
        try:
            with path.open("a+b") as file:
                if file.tell() and not _ends_line(file.fileno(), file.tell()):
                    file.write(b"\n")
                file.write(orjson.dumps(row, option=orjson.OPT_NON_STR_KEYS) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as exc:
            raise StorageError(
                f"{path}: {exc.strerror}; free space, then resume with --run {self.path}"
            ) from exc

    def _rows(self, name: str, read: Callable[[Mapping[str, Any]], _Row]) -> Iterator[_Row]:
        path = self.path / name
        if not path.exists():
            return
        lines = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, start=1):
            if not line:
                continue
            try:
                yield read(orjson.loads(line))
            except orjson.JSONDecodeError:
                # Cut off when the machine or the process went down: that answer is asked for again.
                continue
            except (KeyError, TypeError) as exc:
                raise RunError(f"{path}:{number}: not a line of this version ({exc}); run again") from exc


def _case_from_json(row: Mapping[str, Any]) -> Case:
    values = dict(row)
    for name in ("gold", "stale_values"):
        values[name] = tuple(row[name])
    for name in ("facts", "history", "side_facts", "fields"):
        values[name] = tuple(tuple(item) for item in row.get(name, ()))
    values["required"] = tuple(row.get("required", ()))
    if (passages := row.get("passages")) is not None:
        values["passages"] = tuple(GivenPassage(**passage) for passage in passages)
    return Case(**values)


def _ends_line(descriptor: int, size: int) -> bool:
    return os.pread(descriptor, 1, size - 1) == b"\n"


def replace_file(target: Path, content: bytes) -> None:
    """Write a file as a whole, so that a crash leaves the old or the new one."""
    draft = target.with_name(f".{target.name}.new")
    try:
        draft.write_bytes(content)
        draft.replace(target)
    except OSError as exc:
        raise StorageError(f"{target}: {exc.strerror}; make the folder writable or free space") from exc
