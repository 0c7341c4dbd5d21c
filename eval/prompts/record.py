"""A search on disk: what was compared on which questions, where it stands, and what came of it.

`search.json` is the record; each round is a run folder of its own, which any other command can read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import orjson

from eval.arms import Arm
from eval.errors import PromptSearchError
from eval.prompts.grid import Candidate
from eval.prompts.halving import Standing
from eval.record import RunFolder, replace_file
from serving.versions import prompt_definition, prompt_from_json

_FILE = "search.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundDone:
    """A round that is over."""

    #: Questions that every prompt of it has been asked by now.
    questions: int
    standings: tuple[Standing, ...]
    kept: tuple[str, ...]
    #: What decided at the cut where the objective did not; "" where it did.
    tie: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """The best prompt and the one that there was, on questions that took no part in the choice."""

    questions: int
    current: Standing
    best: Standing
    #: Share of right answers, best minus current, with the interval over topics where there is one.
    difference: float | None
    low: float | None
    high: float | None
    #: Exact, two-sided, over the questions that both have a score for.
    p: float | None
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRecord:
    """Everything about a search but the answers."""

    gateway_url: str
    question_set: str
    #: Of all questions that the rounds are drawn from, in the order in which they are asked.
    question_set_sha256: str
    questions: tuple[str, ...]
    splits: tuple[str, ...]
    kinds: tuple[str, ...]
    grid: str
    grid_sha256: str
    candidates: tuple[Candidate, ...]
    #: With versions for the pointer's words: what each prompt was tried in.
    arm: Arm
    requested_arm: Arm
    #: The index version that answers without retrieval are held against.
    knowledge: str | None
    objective: str
    first: int
    confirm: int
    seed: int
    rounds: tuple[RoundDone, ...] = ()
    #: The name of the best prompt; "" as long as the search goes on.
    best: str = ""
    confirmed: Confirmed | None = None
    #: Whether nothing is left to be asked.
    complete: bool = False
    format: int = field(default=_FORMAT)

    def candidate(self, name: str) -> Candidate:
        """A prompt by its name."""
        return next(each for each in self.candidates if each.name == name)

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        row = asdict(self)
        row["candidates"] = [
            {
                "name": each.name,
                "sha256": each.sha256,
                "prompt": prompt_definition(each.prompt) if each.prompt else None,
            }
            for each in self.candidates
        ]
        return row

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """The record that `as_json` wrote."""
        return cls(
            **{
                **row,
                "questions": tuple(row["questions"]),
                "splits": tuple(row["splits"]),
                "kinds": tuple(row["kinds"]),
                "candidates": tuple(
                    Candidate(
                        name=each["name"],
                        prompt=prompt_from_json(each["prompt"]) if each["prompt"] else None,
                    )
                    for each in row["candidates"]
                ),
                "arm": Arm.from_json(row["arm"]),
                "requested_arm": Arm.from_json(row["requested_arm"]),
                "rounds": tuple(
                    RoundDone(
                        questions=each["questions"],
                        standings=tuple(Standing.from_json(one) for one in each["standings"]),
                        kept=tuple(each["kept"]),
                        tie=each["tie"],
                    )
                    for each in row["rounds"]
                ),
                "confirmed": _confirmed(row["confirmed"]) if row["confirmed"] else None,
            }
        )


def _confirmed(row: Mapping[str, Any]) -> Confirmed:
    sides = {name: Standing.from_json(row[name]) for name in ("current", "best")}
    return Confirmed(**{**row, **sides})


class SearchFolder:
    """The files of one search."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether a search began here."""
        return (self.path / _FILE).is_file()

    def round(self, number: int) -> RunFolder:
        """The run of a round, counted from 1."""
        return RunFolder(self.path / f"round-{number}")

    def confirmation(self) -> RunFolder:
        """The run on questions that took no part in the choice."""
        return RunFolder(self.path / "confirmation")

    def save(self, record: SearchRecord) -> None:
        """Replace the record as a whole."""
        content = orjson.dumps(record.as_json(), option=orjson.OPT_INDENT_2) + b"\n"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise PromptSearchError(
                f"{self.path}: {exc.strerror}; name a folder that can be written"
            ) from exc
        replace_file(self.path / _FILE, content)

    def write(self, name: str, content: str) -> Path:
        """Replace a file of the search's outcome."""
        replace_file(self.path / name, content.encode())
        return self.path / name

    def read(self) -> SearchRecord:
        """The search as far as it got."""
        file = self.path / _FILE
        try:
            row = orjson.loads(file.read_bytes())
            if row["format"] != _FORMAT:
                raise PromptSearchError(f"{file}: format {row['format']}, not {_FORMAT}; search again")
            return SearchRecord.from_json(row)
        except OSError as exc:
            raise PromptSearchError(
                f"{file}: {exc.strerror}; name a folder of `twinrail eval prompts`"
            ) from exc
        except (ValueError, KeyError, TypeError) as exc:
            raise PromptSearchError(f"{file}: not a search of this version ({exc}); search again") from exc
