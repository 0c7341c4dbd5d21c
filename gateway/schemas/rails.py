"""Bodies of `/v1/rails`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from gateway.schemas.fields import Body

Force = Annotated[
    bool,
    Field(
        description="Model only: move although no engine lists the version. The fallback answers until then."
    ),
]


class UndoBody(Body):
    """What to undo on the knowledge rail; the model rail has one kind only.

    `expected_...` is what the caller saw in `GET /v1/rails`: if the rail has moved since, nothing is undone,
    so that a request that is sent again does not undo the undo.
    """

    what: Literal["publish", "version"] | None = Field(
        default=None,
        description="Knowledge only: undo the last publish or the last version; else the later of both.",
    )
    expected_revision: int | None = Field(
        default=None, ge=0, description="`revision` of the pointer as seen."
    )
    expected_snapshot: int | None = Field(
        default=None, ge=0, description="Knowledge only: the live snapshot as seen."
    )
    force: Force = False


class CanaryBody(Body):
    """A version that gets part of the traffic."""

    version: str | None = Field(max_length=200, description="Version id; null ends the canary.")
    weight_bp: int = Field(ge=0, le=10_000, description="Share in basis points: 500 is 5 %.")
    force: Force = False


class PromoteBody(Body):
    """The version that becomes stable."""

    version: str = Field(min_length=1, max_length=200)
    force: Force = False


class UndoTo(BaseModel):
    """What takes traffic after an undo of the version."""

    stable: str
    canary: str | None
    canary_weight_bp: int


class PointerView(BaseModel):
    """What is live on a rail."""

    rail: str
    stable: str | None
    canary: str | None
    canary_weight_bp: int
    previous: str | None
    shadow: str | None
    fallback: str | None = None
    undo_to: UndoTo | None = Field(
        description="What an undo of the version brings back; null: nothing to undo."
    )
    revision: int
    snapshot: int | None = Field(
        default=None, description="Live snapshot of the key's tenant; knowledge only."
    )


class RailList(BaseModel):
    """Both rails."""

    rails: list[PointerView]


class VersionView(BaseModel):
    """A version of a rail."""

    id: str
    name: str
    state: str
    details: dict[str, Any]


class VersionList(BaseModel):
    """The versions of a rail."""

    rail: str
    versions: list[VersionView]
