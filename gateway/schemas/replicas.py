"""Bodies about the engines of the model rail."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from gateway.schemas.fields import Body


class StageBody(Body):
    """A version that engines are to hold before it is an arm."""

    version: str = Field(min_length=1, max_length=200)
    staged: bool = Field(default=True, description="false takes it back; an arm is held all the same.")


class ProbeBody(Body):
    """A version that engines are to show now."""

    version: str = Field(min_length=1, max_length=200)


class ReplicaView(BaseModel):
    """One engine as it was last seen."""

    url: str
    live: bool = Field(description="It answers, and is not about to be stopped.")
    reason: str = Field(description="Why it does not answer, or empty.")
    leaving: bool
    build: str
    started: str | None = Field(description="Changes with each start of its process; null while it is down.")
    listed: list[str]
    strange: list[str] = Field(description="Adapters that it lists and no registered version accounts for.")
    looked_at: datetime | None


class HoldingView(BaseModel):
    """How far a version has come on one engine; only `probed` in the engine's present life takes traffic."""

    url: str
    state: str
    reason: str
    of_this_life: bool
    evidence: dict[str, Any] | None
    since: datetime | None


class LackView(BaseModel):
    """Why one engine keeps the version from being routable."""

    url: str
    state: str
    reason: str


class ReadinessView(BaseModel):
    """A version on the engines."""

    version: str
    roles: list[str] = Field(description="Its arms, `staged`, or `undo`; empty: no engine need hold it.")
    routable: bool = Field(description="Every live engine that should hold it lists it and has shown it.")
    lacks: list[LackView]
    holdings: list[HoldingView]


class ReplicaList(BaseModel):
    """The engines, and what they are to hold."""

    rail: str
    replicas: list[ReplicaView]
    versions: list[ReadinessView]


class ProbedView(BaseModel):
    """What a probe of one engine showed."""

    url: str
    passed: bool
    reason: str
    evidence: dict[str, Any]


class ProbeReport(BaseModel):
    """What the engines that list a version showed."""

    version: str
    passed: bool = Field(description="At least one engine was probed, and all of them passed.")
    engines: list[ProbedView]
