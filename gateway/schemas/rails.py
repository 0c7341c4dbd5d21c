"""Bodies of `/v1/rails`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from gateway.schemas.fields import Body
from gateway.schemas.reports import ForcedView, VerdictView

Force = Annotated[
    bool,
    Field(
        description="Move although no engine lists the model version (the fallback answers until then), "
        "although this gateway lacks the embedder, reranker or rewriter of the knowledge version, "
        "or although a gate has refused the version (who insisted is kept)."
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


ExpectedRevision = Annotated[
    int | None,
    Field(
        ge=0,
        description="Model only: `revision` of the pointer as seen; if it has moved since, nothing is done.",
    ),
]


class CanaryBody(Body):
    """A version that gets part of the traffic."""

    version: str | None = Field(max_length=200, description="Version id; null ends the canary.")
    weight_bp: int = Field(ge=0, le=10_000, description="Share in basis points: 500 is 5 %.")
    expected_revision: ExpectedRevision = None
    force: Force = False


class PromoteBody(Body):
    """The version that becomes stable."""

    version: str = Field(min_length=1, max_length=200)
    expected_revision: ExpectedRevision = None
    force: Force = False


class ShadowBody(Body):
    """The version that is compared with the live one out of the customers' sight."""

    version: str | None = Field(max_length=200, description="Version id; null ends the shadow.")


class RetireBody(Body):
    """A version that nobody needs any more."""

    version: str = Field(min_length=1, max_length=200)
    reason: str = Field(default="", max_length=500, description="Model only: kept with who gave it up.")


class VersionBody(Body):
    """A new version of the knowledge rail: what is left out is that of `base`."""

    name: str = Field(min_length=1, max_length=40, description="Becomes part of the id.")
    base: str | None = Field(
        default=None, max_length=200, description="Version id; the stable one if left out."
    )
    embedder: str | None = Field(default=None, max_length=200, description="Id of an embedder at hand.")
    chunker: str | None = Field(default=None, max_length=200, description="`structure-<words>` or `whole-1`.")
    dense_weight: float | None = Field(default=None, ge=0, le=1)
    abstain_below: float | None = Field(default=None, ge=0, le=1)
    calibration: dict[str, Any] | None = Field(default=None, description="`intercept` and `weights`.")
    reranker: str | None = Field(
        default=None, max_length=200, description="Id of a reranker at hand; empty for none."
    )
    rerank_weight: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Left out for another reranker: 0.3.",
    )
    rewriter: str | None = Field(
        default=None, max_length=200, description="`last-turns-1`, `model-1`; empty for none."
    )
    since: int | None = Field(
        default=None,
        ge=0,
        description="First snapshot that it must show; else what an undo of a publish can.",
    )


class VersionCreated(BaseModel):
    """A version that is registered, and the job that fills it."""

    version: str
    job: str | None = Field(description="Null: the version is built already.")


class RetiredView(BaseModel):
    """What retiring a version freed."""

    version: str
    freed_bytes: int


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
    verdicts: list[VerdictView] = Field(
        default_factory=list, description="The newest of each gate; who gives it traffic asks them."
    )
    forced: list[ForcedView] = Field(
        default_factory=list, description="Traffic given against a refusal, newest first."
    )


class VersionList(BaseModel):
    """The versions of a rail."""

    rail: str
    versions: list[VersionView]
