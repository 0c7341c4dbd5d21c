"""Bodies of `/v1/rails/model/versions/{version_id}`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from gateway.schemas.rails import VersionView


class VersionEventView(BaseModel):
    """What somebody did with a version beside moving the pointer."""

    at: datetime
    action: str = Field(
        description="`registered`, `passed`, `forced`, `promoted_by_force`, `retired` or `revived`."
    )
    by: str
    reason: str


class MoveView(BaseModel):
    """A move of the pointer: what stood where after it."""

    revision: int
    action: str
    stable: str | None
    canary: str | None
    canary_weight_bp: int
    previous: str | None
    shadow: str | None
    fallback: str | None
    moved_at: datetime


class ModelVersionView(VersionView):
    """A model version in full."""

    definition: dict[str, Any] = Field(description="Everything that its id is a digest of.")
    events: list[VersionEventView] = Field(description="Newest first.")
    moves: list[MoveView] = Field(description="Those that gave it a part or took it away, newest first.")
