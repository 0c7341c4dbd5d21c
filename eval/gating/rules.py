"""What a gate asks for. Everything has a default; a TOML file changes what a team wants otherwise."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from eval.cases import Case
from eval.errors import GateRulesError
from eval.metrics import METRICS

#: The zero-tolerance policy that is read from labels and not from a metric.
POLICY_VIOLATION = "policy_violation"
#: What a limit can be set on: figures of an answer for which less is better.
MEASURES = ("wall_ms", "prompt_tokens", "completion_tokens")

_METRICS = frozenset(metric.name for metric in METRICS)
_SLICED_BY = frozenset(field.name for field in fields(Case) if str(field.type).startswith("str")) - {
    "id",
    "text",
    "split",
}


class Goal(StrEnum):
    """What the candidate must show on its primaries."""

    #: At least one is better, and none is worse: a new model or index that is meant to help.
    BETTER = "better"
    #: None is worse: a change that is meant to alter nothing, such as a clean-up or a cheaper model.
    NOT_WORSE = "not_worse"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Guard(_Strict):
    """A metric that must not get worse by more than the margin, a share of questions."""

    margin: float = Field(0.05, gt=0, lt=1)
    #: Whether "no worse" must be shown. If not, the guard refuses a candidate that is shown to be worse, and
    #: a metric with too few questions for more does not hold everything up.
    must_be_shown: bool = True


class Slices(_Strict):
    """Parts of the questions that must not pay for the rest."""

    by: tuple[str, ...] = ("kind",)
    #: The primaries if empty.
    metrics: tuple[str, ...] = ()
    margin: float = Field(0.05, gt=0, lt=1)
    must_be_shown: bool = False
    #: A slice with fewer questions is "not shown", whatever they say.
    at_least: int = Field(10, ge=2)

    @field_validator("by")
    @classmethod
    def _known(cls, by: tuple[str, ...]) -> tuple[str, ...]:
        return _all_of(by, _SLICED_BY)

    @field_validator("metrics")
    @classmethod
    def _measured(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        return _all_of(metrics, _METRICS)


def _all_of(names: tuple[str, ...], known: frozenset[str]) -> tuple[str, ...]:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not one of {', '.join(sorted(known))}")
    return names


def _margin_alone(value: Any) -> Any:
    """`format_valid = 0.02` is short for `format_valid = { margin = 0.02 }`."""
    return {"margin": value} if isinstance(value, int | float) else value


_WATCHED = Guard(must_be_shown=False)
_GUARDS = {
    "hallucination_draft": Guard(),
    "hallucination_served": Guard(),
    "format_valid": Guard(),
    "answer_right": _WATCHED,
    "hit": _WATCHED,
    "abstained_when_due": _WATCHED,
    "abstained_wrongly": _WATCHED,
    "escalation_recall": _WATCHED,
    "tone_kept": _WATCHED,
    "citations_valid": _WATCHED,
}
_PRIMARIES = {
    "knowledge": ("gold_in_prompt", "answer_right"),
    "model": ("answer_right", "hallucination_draft", "format_valid"),
}


class GateRules(_Strict):
    """The rules of one gate. A line of the file is a field of this class, a section one of its parts."""

    name: str = Field("promotion", pattern=r"^[a-z][a-z0-9-]{0,39}$")
    goal: Goal = Goal.BETTER
    #: The smallest gain worth having, as a share of questions. A candidate that is not better is refused
    #: where so much is ruled out; else there is not enough evidence.
    gain: float = Field(0.10, gt=0, lt=1)
    #: Metrics that decide; if empty, those of the rail.
    primaries: tuple[str, ...] = ()
    primary_margin: float = Field(0.05, gt=0, lt=1)
    guards: Mapping[str, Annotated[Guard, BeforeValidator(_margin_alone)]] = Field(
        default_factory=lambda: _GUARDS
    )
    #: Largest ratio of candidate to stable; a larger one that is no chance refuses.
    limits: Mapping[str, Annotated[float, Field(ge=1)]] = Field(default_factory=lambda: {"wall_ms": 1.25})
    slices: Slices = Slices()
    #: File with the id of a question a line, every one of which must pass; beside the rules' own file.
    regression: Path | None = None
    #: `policy_violation`, by label, or metrics in which a single failure refuses.
    zero_tolerance: tuple[str, ...] = (POLICY_VIOLATION,)
    #: Where repeats flip a metric more often than this, it is reported and decides nothing.
    max_flips: float = Field(0.02, ge=0, le=1)
    #: More missing answers or scores are not enough evidence: they are seldom missing by chance.
    max_missing: float = Field(0.05, ge=0, lt=1)
    #: Intervals over fewer topics promise more than they know.
    min_topics: int = Field(10, ge=2)

    @field_validator("primaries")
    @classmethod
    def _measured(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _all_of(names, _METRICS)

    @field_validator("guards", "limits")
    @classmethod
    def _named(cls, named: Mapping[str, Any], info: Any) -> Mapping[str, Any]:
        _all_of(tuple(named), _METRICS if info.field_name == "guards" else frozenset(MEASURES))
        return named

    @field_validator("zero_tolerance")
    @classmethod
    def _policies(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _all_of(names, _METRICS | {POLICY_VIOLATION})

    def primaries_of(self, rail: str) -> tuple[str, ...]:
        """The metrics that decide about a version of this rail."""
        return self.primaries or _PRIMARIES[rail]

    @property
    def chose_primaries(self) -> bool:
        """Whether somebody named them: then each must have data. Of the rail's own, some may not apply."""
        return bool(self.primaries)

    @property
    def chose_guards(self) -> bool:
        """The same of guards."""
        return "guards" in self.model_fields_set

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a rules file; a regression file that it names lies beside it."""
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
            rules = cls.model_validate(values)
        except OSError as exc:
            raise GateRulesError(file=path, field="", what=exc.strerror or "cannot be read") from exc
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
            raise GateRulesError(file=path, field="", what=f"is not TOML: {exc}") from exc
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise GateRulesError(file=path, field=field, what=first["msg"].lower()) from exc
        if rules.regression is None:
            return rules
        return rules.model_copy(update={"regression": path.parent / rules.regression})
