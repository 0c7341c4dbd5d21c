"""What labelling says of a turn: checks, findings and the record of both. Values only; `rules` decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final, Self


class Label(StrEnum):
    """The cause of a failed turn. The fix of each is another one, which is why they are kept apart."""

    MISSING_KNOWLEDGE = "missing_knowledge"
    STALE_KNOWLEDGE = "stale_knowledge"
    WRONG_RETRIEVAL = "wrong_retrieval"
    HALLUCINATION = "hallucination"
    BAD_FORMAT = "bad_format"
    WRONG_TONE = "wrong_tone"
    WEAK_REASONING = "weak_reasoning"
    POLICY_VIOLATION = "policy_violation"
    #: The turn failed, and what is known of it does not say why.
    UNDETERMINED = "undetermined"


#: Sub-code of a question that was told rightly, or rightly not, and that a rule beside the model passed on.
PASSED_ON_BY_RULE: Final = "passed_on_by_rule"


class Outcome(StrEnum):
    """How a turn came out. A run error is nobody's failure: the question is asked again."""

    PASSED = "passed"
    FAILED = "failed"
    RUN_ERROR = "run_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One piece of evidence about one turn. `detail` is for the people who read the label."""

    name: str
    #: None: it could not be told. Never the same as false.
    value: bool | None
    detail: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A rule that fired: the label that it gives, and the names of the checks that it rests on."""

    label: Label
    #: A finer cause inside the label, `index` or `choice`; "" for none.
    sub: str
    rule: str
    evidence: tuple[str, ...]

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """The finding that `asdict` wrote."""
        return cls(
            label=Label(row["label"]), sub=row["sub"], rule=row["rule"], evidence=tuple(row["evidence"])
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRecord:
    """What was decided of one turn, by rules or by a person, with everything that it was decided from."""

    run: str
    #: "" where the question got no answer.
    turn_id: str
    case_id: str
    arm: str
    cluster: str
    task_type: str
    outcome: Outcome
    #: None for a turn that did not fail; `undetermined` for one that failed without a decidable cause.
    primary: Finding | None
    contributing: tuple[Finding, ...] = ()
    checks: tuple[Check, ...] = ()
    #: The rules, thresholds and checkers that decided: `c<N>-<sha8>`.
    criteria: str
    #: `auto` or `human`.
    source: str = "auto"
    reviewer: str = ""
    note: str = ""
    #: When the answer was judged for the first time under these criteria; ISO, UTC.
    at: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain data for one line of `labels.jsonl`."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """The record that `as_json` wrote."""
        return cls(
            **{
                **row,
                "outcome": Outcome(row["outcome"]),
                "primary": Finding.from_json(row["primary"]) if row["primary"] else None,
                "contributing": tuple(Finding.from_json(item) for item in row["contributing"]),
                "checks": tuple(Check(**item) for item in row["checks"]),
            }
        )

    def check(self, name: str) -> Check | None:
        """The check of that name, if it was made."""
        return next((check for check in self.checks if check.name == name), None)
