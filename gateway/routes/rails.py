"""Release control: what is live on each rail, and moving it. Every way to undo or promote ends in one
pointer."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from gateway.access import ApiKey, Scope
from gateway.errors import InvalidFieldError, NotServedError
from gateway.rollouts.assignment import Rail
from gateway.schemas.rails import (
    CanaryBody,
    PointerView,
    PromoteBody,
    RailList,
    UndoBody,
    UndoTo,
    VersionList,
    VersionView,
)
from gateway.state import Caller, GatewayState, State
from retrieval.versions import UndoGoal as KnowledgeUndoGoal
from serving.versions import Pointer, UndoGoal

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
                    "fusion": version.fusion,
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
    wanted = body or UndoBody()
    if rail is Rail.KNOWLEDGE:
        undone = await state.knowledge.undo(
            key.tenant,
            wanted.what,
            expected_revision=wanted.expected_revision,
            expected_snapshot=wanted.expected_snapshot,
        )
        moved = {"what": undone.what, "before": undone.before, "after": undone.after}
    else:
        moved = await _undo_model(state, wanted)
    state.live.forget()
    return {"undone": moved, "pointer": (await _pointer(state, key, rail)).model_dump(mode="json")}


async def _undo_model(state: GatewayState, wanted: UndoBody) -> dict[str, Any]:
    for field in ("what", "expected_snapshot"):
        if getattr(wanted, field) not in (None, "version"):
            raise InvalidFieldError(
                "The model rail has no publishes.",
                field=field,
                fix=f"Leave `{field}` out, or undo the knowledge rail.",
            )
    before = await state.models.pointer()
    goal = await state.models.undo_goal()
    # Never past the state that is checked here, also when the caller expects none.
    expected = before.revision if wanted.expected_revision is None else wanted.expected_revision
    if goal is not None and expected == before.revision and not wanted.force:
        for version in {goal.stable, goal.canary} - {before.stable, before.canary, None}:
            await _require_served(state, version, field="rail")
    after = await state.models.undo(expected_revision=expected)
    return {"what": "version", "before": _moved(before, after), "after": _moved(after, before)}


def _moved(one: Pointer, other: Pointer) -> str:
    """The version of `one` that makes the difference: its stable, or if that is the same, its canary."""
    return one.stable if one.stable != other.stable else one.canary or one.stable


async def _require_served(state: GatewayState, version_id: str | None, *, field: str) -> None:
    """Refuse to send traffic where no engine answers."""
    if version_id is None:
        return
    version = await state.models.version(version_id)
    if not await state.engines.ready(version.served_name):
        listed = ", ".join(sorted(state.engines.served())) or "nothing"
        raise NotServedError(
            f"No engine serves {version_id} under its name {version.served_name}; they list {listed}.",
            field=field,
            fix="Have an engine serve it first, or send `force: true` (on the command line `--force`).",
        )


@router.post("/{rail}:canary")
async def set_canary(rail: Rail, body: CanaryBody, key: Releaser, state: State) -> PointerView:
    """Give a version a share of the conversations; null and 0 end it."""
    if body.version is None and body.weight_bp:
        raise InvalidFieldError(
            "A weight without a version.", field="weight_bp", fix="Send 0, or name a version."
        )
    if rail is Rail.KNOWLEDGE:
        await state.knowledge.set_canary(body.version, body.weight_bp)
    else:
        if not body.force:
            await _require_served(state, body.version, field="version")
        await state.models.set_canary(body.version, body.weight_bp)
    state.live.forget()
    return await _pointer(state, key, rail)


@router.post("/{rail}:promote")
async def promote(rail: Rail, body: PromoteBody, key: Releaser, state: State) -> PointerView:
    """Make a version stable. The stable one becomes previous, where undo finds it."""
    if rail is Rail.KNOWLEDGE:
        await state.knowledge.promote(body.version)
    else:
        if not body.force:
            await _require_served(state, body.version, field="version")
        await state.models.promote(body.version)
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
            undo_to=_undo_to(await state.knowledge.undo_goal()),
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
        undo_to=_undo_to(await state.models.undo_goal()),
        revision=model.revision,
    )


def _undo_to(goal: UndoGoal | KnowledgeUndoGoal | None) -> UndoTo | None:
    if goal is None:
        return None
    return UndoTo(stable=goal.stable, canary=goal.canary, canary_weight_bp=goal.canary_weight_bp)
