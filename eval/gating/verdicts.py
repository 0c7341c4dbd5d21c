"""What a gate found, line by line, and what follows from it. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from eval.stats import Interval, Rate


class Verdict(StrEnum):
    """What becomes of the candidate."""

    PASS = "pass"
    REFUSED = "refused"
    NOT_ENOUGH = "not_enough"


#: How `twinrail eval gate` ends.
EXIT_CODES: Mapping[Verdict, int] = {Verdict.PASS: 0, Verdict.REFUSED: 1, Verdict.NOT_ENOUGH: 4}


class Role(StrEnum):
    """What a line is asked for."""

    PRIMARY = "primary"
    #: Must be shown to be no worse.
    GUARD = "guard"
    #: Refuses only when it is shown to be worse.
    WATCHED = "watched"
    SLICE = "slice"
    LIMIT = "limit"


class State(StrEnum):
    """What the questions say. There is no "same": equality is never shown."""

    BETTER = "better"
    #: At worst within the margin.
    NOT_WORSE = "not worse"
    WORSE = "worse"
    NOT_SHOWN = "not shown"
    #: Too many scores are missing.
    MISSING = "scores missing"
    #: The metric means nothing for these questions or arms.
    NO_DATA = "does not apply"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One metric in both arms, on the questions that both were scored on; differences say up for better."""

    role: Role
    metric: str
    title: str
    #: `kind=stale`, or "" for all questions.
    part: str = ""
    state: State
    margin: float
    #: Flips more than the rules allow: reported, and decides nothing.
    flipping: bool = False
    #: Of the pairs, how many repeats disagree; None where nothing was asked twice.
    flips: Rate | None = None
    n: int = 0
    missing: int = 0
    #: Scored in one arm only, because it applies there alone.
    one_arm_only: int = 0
    stable: Rate | None = None
    candidate: Rate | None = None
    #: Questions that only this arm has right.
    only_stable: int = 0
    only_candidate: int = 0
    p: float | None = None
    #: Among all lines of this role.
    p_holm: float | None = None
    difference: float | None = None
    interval: Interval | None = None
    #: One-sided 95 % bounds of the difference.
    worst: float | None = None
    best: float | None = None
    #: Of a primary: why its scores are too few to be called better; "" if they are not.
    few: str = ""
    #: So many times more questions are needed than if each were of a topic of its own.
    effect: float = 1.0
    #: Questions that would usually be enough to decide this line.
    needed: int | None = None

    @property
    def name(self) -> str:
        """Metric and part in words."""
        return f"{self.metric} [{self.part}]" if self.part else self.metric


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitLine:
    """A measured figure in both arms: the ratio of geometric means over the same questions."""

    measure: str
    state: State
    limit: float
    n: int
    #: Reported only: the arms were not measured side by side.
    apart: bool = False
    stable_median: float | None = None
    candidate_median: float | None = None
    ratio: float | None = None
    interval: Interval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyLine:
    """A policy that no answer may break."""

    policy: str
    checked: int
    broken: tuple[str, ...]
    #: Answers of which it is not known: it could not be told, or nobody has asked.
    unknown: int = 0
    #: Why nothing was checked.
    note: str = ""
    #: The share of answers that may break it all the same, 95 % one-sided.
    at_most: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionLine:
    """Questions that were right once and must stay right."""

    asked: int
    failed: Mapping[str, str]
    missing: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The version that the verdict is about."""

    rail: str
    version: str
    against: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A verdict with everything that it rests on."""

    gate: str
    goal: str
    subject: Subject
    verdict: Verdict
    #: One sentence each: why it is refused, and what is missing to decide.
    refusals: tuple[str, ...]
    lacks: tuple[str, ...]
    questions: int
    topics: int
    lines: tuple[Line, ...]
    limits: tuple[LimitLine, ...]
    policies: tuple[PolicyLine, ...]
    regression: RegressionLine | None
    #: Facts that decide nothing.
    notes: tuple[str, ...]

    def sentence(self) -> str:
        """The verdict in plain words."""
        what = f"{self.subject.version} against {self.subject.against}"
        if self.verdict is Verdict.PASS:
            better = [
                line.metric for line in self.lines if line.state is State.BETTER and line.role is Role.PRIMARY
            ]
            return f"PASS: {what}: {'better in ' + ', '.join(better) if better else 'no worse'}."
        if self.verdict is Verdict.REFUSED:
            return f"REFUSED: {what}: {'; '.join(self.refusals)}."
        return f"NOT ENOUGH EVIDENCE: {what}: {'; '.join(self.lacks)}."

    def as_json(self) -> dict[str, Any]:
        """Plain data, with the sentence."""
        return {"sentence": self.sentence(), **asdict(self)}
