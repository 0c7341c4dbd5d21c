"""Bodies of `/v1/turns/{turn_id}/labels` and `/v1/turns/{turn_id}/scores`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from gateway.schemas.feedback import Label
from gateway.schemas.fields import Body, ShortText

Name = Annotated[str, StringConstraints(min_length=1, max_length=120)]
Detail = Annotated[str, StringConstraints(max_length=4_000)]


class Cause(Body):
    """A cause with the rule that found it."""

    label: Label
    sub: ShortText = Field(default="", description="Sub-code, such as `index` of `stale_knowledge`.")
    rule: ShortText = Field(default="", description="Number of the rule, such as `4b`.")


class CheckResult(Body):
    """One piece of evidence."""

    name: Name
    value: bool | None = Field(description="Null: could not be told.")
    detail: Detail = ""
    version: ShortText = Field(default="", description="Of the checker.")


class LabelBody(Body):
    """Why a turn failed, with its evidence; or that it passed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "label": "stale_knowledge",
                    "sub": "index",
                    "rule": "4b",
                    "checks": [{"name": "valid_version_indexed", "value": False, "version": "1"}],
                    "criteria": "c1-5e6f7a8b",
                    "source": "auto",
                }
            ]
        }
    )

    label: Label | None = Field(description="The most upstream cause; null: the turn passed.")
    sub: ShortText = Field(default="", description="Sub-code of the label.")
    rule: ShortText = Field(default="", description="Rule that decided.")
    contributing: list[Cause] = Field(default_factory=list, max_length=20)
    checks: list[CheckResult] = Field(default_factory=list, max_length=100)
    criteria: ShortText = Field(default="", description="Version of rules, thresholds and checkers.")
    cluster: ShortText = Field(default="", description="Cluster of the question, to group by.")
    source: Literal["auto", "human"]
    reviewer: ShortText = Field(default="", description="Who decided, where a person did.")
    note: Detail = ""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.label is None and self.sub:
            raise ValueError("a turn that passed has no sub; leave it out")
        if self.source == "human" and not self.reviewer:
            raise ValueError("a label of a person names its reviewer; give reviewer")
        return self


class LabelView(BaseModel):
    """A label as it is stored."""

    source: str = Field(description="auto or human")
    label: str | None = Field(description="Null: the turn passed.")
    sub: str
    rule: str
    contributing: list[Cause]
    checks: list[CheckResult]
    criteria: str
    cluster: str
    reviewer: str
    note: str
    created_at: datetime


class LabelList(BaseModel):
    """What is said of a turn: the newest label of each source."""

    labels: list[LabelView]


class Score(Body):
    """A measure of a turn."""

    name: Name
    value: float | None = Field(allow_inf_nan=False, description="Null: could not be told, which is not 0.")
    detail: Detail = ""
    version: ShortText = Field(default="", description="Of what measured it.")


class ScoresBody(Body):
    """Measures of a turn; the last value of each name counts."""

    scores: list[Score] = Field(min_length=1, max_length=200)

    @model_validator(mode="after")
    def _are_different(self) -> Self:
        names = [score.name for score in self.scores]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name} is there twice; send each score once")
        return self


class ScoreView(BaseModel):
    """A score as it is stored."""

    name: str
    value: float | None
    detail: str
    version: str
    updated_at: datetime


class ScoreList(BaseModel):
    """Every score of a turn, by name."""

    scores: list[ScoreView]
