"""Release control: what is live on each rail, and moving it. Every way to undo or promote ends in one
pointer."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from gateway.access import ApiKey, Scope
from gateway.errors import InvalidFieldError
from gateway.rollouts.assignment import Rail
from gateway.schemas import CanaryBody, PointerView, PromoteBody, RailList, UndoBody, VersionList, VersionView
from gateway.state import Caller, GatewayState, State

router = APIRouter(prefix="/v1/rails", tags=["rails"])

Reader = Annotated[ApiKey, Depends(Caller(Scope.REVIEW, Scope.EVAL, Scope.RELEASE, Scope.INGEST))]
Releaser = Annotated[ApiKey, Depends(Caller(Scope.RELEASE))]


@router.get("")
async def list_rails(key: Reader, state: State) -> RailList:
    """What is live on both rails."""
    return RailList(
        rails=[await _pointer(state, key, Rail.KNOWLEDGE), await _pointer(state, key, Rail.MODEL)]
    )


@router.get("/{rail}/versions")
async def list_versions(rail: Rail, key: Reader, state: State) -> VersionList:
    """The versions of a rail."""
    if rail is Rail.KNOWLEDGE:
        found = [
            VersionView(
                id=version.id,
                name=version.name,
                state=str(version.state),
                details={
                    "embedder": version.embedder,
                    "dims": version.dims,
                    "chunker": version.chunker,
                    "lexer": version.lexer,
                    "dense_weight": version.dense_weight,
                    "abstain_below": version.abstain_below,
                },
            )
            for version in await state.knowledge.versions()
        ]
    else:
        found = [
            VersionView(
                id=registered.id,
                name=registered.version.name,
                state="releasable" if registered.releasable else "not releasable",
                details={
                    "served_name": registered.served_name,
                    "task": registered.version.task,
                    "prompt": registered.version.prompt.name,
                    "base_digest": registered.version.base_digest,
                    "adapter_digest": registered.version.adapter_digest,
                    "author": registered.author,
                    "created_at": registered.created_at,
                    "manifest": dict(registered.manifest),
                },
            )
            for registered in await state.models.versions()
        ]
    return VersionList(rail=rail.value, versions=found)


@router.post("/{rail}:undo")
async def undo(rail: Rail, key: Releaser, state: State, body: UndoBody | None = None) -> dict[str, Any]:
    """Take back the last move of this rail, and of this rail only. Undoing an undo is a redo."""
    what = body.what if body else None
    if rail is Rail.KNOWLEDGE:
        undone = await state.knowledge.undo(key.tenant, what)
        state.live.forget()
        moved: dict[str, Any] = {"what": undone.what, "before": undone.before, "after": undone.after}
    else:
        if what == "publish":
            raise InvalidFieldError(
                "The model rail has no publishes.",
                field="what",
                fix="Leave `what` out, or undo the knowledge rail.",
            )
        before = await state.models.pointer()
        after = await state.models.undo()
        state.live.forget()
        moved = {"what": "version", "before": before.stable, "after": after.stable}
    return {"undone": moved, "pointer": (await _pointer(state, key, rail)).model_dump(mode="json")}


@router.post("/{rail}:canary")
async def set_canary(rail: Rail, body: CanaryBody, key: Releaser, state: State) -> PointerView:
    """Give a version a share of the conversations; null and 0 end it."""
    if body.version is None and body.weight_bp:
        raise InvalidFieldError(
            "A weight without a version.", field="weight_bp", fix="Send 0, or name a version."
        )
    owner = state.knowledge if rail is Rail.KNOWLEDGE else state.models
    await owner.set_canary(body.version, body.weight_bp)
    state.live.forget()
    return await _pointer(state, key, rail)


@router.post("/{rail}:promote")
async def promote(rail: Rail, body: PromoteBody, key: Releaser, state: State) -> PointerView:
    """Make a version stable. The stable one becomes previous, where undo finds it."""
    owner = state.knowledge if rail is Rail.KNOWLEDGE else state.models
    await owner.promote(body.version)
    state.live.forget()
    return await _pointer(state, key, rail)


async def _pointer(state: GatewayState, key: ApiKey, rail: Rail) -> PointerView:
    if rail is Rail.KNOWLEDGE:
        knowledge = await state.knowledge.pointer()
        return PointerView(
            rail=rail.value,
            stable=knowledge.stable,
            canary=knowledge.canary,
            canary_weight_bp=knowledge.canary_weight_bp,
            previous=knowledge.previous,
            shadow=knowledge.shadow,
            revision=knowledge.revision,
            snapshot=await state.knowledge.snapshot(key.tenant),
        )
    model = await state.models.pointer()
    return PointerView(
        rail=rail.value,
        stable=model.stable,
        canary=model.canary,
        canary_weight_bp=model.canary_weight_bp,
        previous=model.previous,
        shadow=model.shadow,
        fallback=model.fallback,
        revision=model.revision,
    )
