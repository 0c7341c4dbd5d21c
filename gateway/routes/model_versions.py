"""One model version in full: what it is, what it is needed for, and what was done with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from gateway.access import ApiKey, Scope
from gateway.rollouts.assignment import Rail
from gateway.schemas.model_versions import ModelVersionView, MoveView, VersionEventView
from gateway.schemas.rails import VersionView
from gateway.schemas.reports import ForcedView, VerdictView
from gateway.state import Caller, State
from serving.versions import RegisteredVersion, UnreadableVersion, prompt_definition, sha256_of

router = APIRouter(prefix="/v1/rails", tags=["rails"])

Reader = Annotated[ApiKey, Depends(Caller(Scope.REVIEW, Scope.EVAL, Scope.RELEASE, Scope.INGEST))]


@router.get("/model/versions/{version_id}")
async def model_version(version_id: str, key: Reader, state: State) -> ModelVersionView:
    """A model version with its manifest, verdicts, events and moves."""
    registered = await state.models.version(version_id)
    roles = await state.models.roles()
    verdicts = await state.reports.verdicts(Rail.MODEL.value, version_id)
    forced = await state.reports.forced(Rail.MODEL.value)
    view = model_view(registered, roles.get(version_id, ()))
    return ModelVersionView(
        **{name: getattr(view, name) for name in ("id", "name", "state", "details")},
        verdicts=[VerdictView(**row) for row in verdicts],
        forced=[ForcedView(**row) for row in forced if row["version"] == version_id],
        definition=registered.version.definition(),
        events=[
            VersionEventView(at=each.at, action=each.action, by=each.by, reason=each.reason)
            for each in await state.models.events(version_id)
        ],
        moves=[
            MoveView(**{name: getattr(each, name) for name in MoveView.model_fields})
            for each in await state.models.moves_of(version_id)
        ],
    )


def model_view(registered: RegisteredVersion, roles: Sequence[str]) -> VersionView:
    """A model version as every list shows it."""
    version = registered.version
    details: dict[str, Any] = {
        "served_name": registered.served_name,
        "roles": list(roles),
        "task": version.task,
        "prompt": version.prompt.name,
        "prompt_sha256": sha256_of(prompt_definition(version.prompt)),
        "base_digest": version.base_digest,
        "adapter_digest": version.adapter_digest,
        "author": registered.author,
        "created_at": registered.created_at,
        "retired_at": registered.retired_at,
        "manifest": dict(registered.manifest),
    }
    return VersionView(id=registered.id, name=version.name, state=registered.state.value, details=details)


def unreadable_view(version: UnreadableVersion, roles: Sequence[str]) -> VersionView:
    """A damaged row as the list shows it: what is known of it, and why it is good for nothing."""
    details: dict[str, Any] = {
        "reason": version.reason,
        "roles": list(roles),
        "author": version.author,
        "created_at": version.created_at,
        "retired_at": version.retired_at,
    }
    # `m-<name>-<sha8>`
    name = version.id.removeprefix("m-").rpartition("-")[0]
    return VersionView(id=version.id, name=name, state=version.state.value, details=details)
