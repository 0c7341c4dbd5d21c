"""Release control: what is live on each rail, and moving it. Every way to undo or promote ends in one
pointer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from gateway.access import ApiKey, Scope
from gateway.errors import GateRefusedError, InvalidFieldError, NotServedError
from gateway.rollouts.assignment import Rail
from gateway.routes.model_versions import model_view, unreadable_view
from gateway.schemas.rails import (
    CanaryBody,
    PointerView,
    PromoteBody,
    RailList,
    RetireBody,
    RetiredView,
    ShadowBody,
    UndoBody,
    UndoTo,
    VersionBody,
    VersionCreated,
    VersionList,
    VersionView,
)
from gateway.schemas.reports import ForcedView, VerdictBody, VerdictView
from gateway.state import Caller, GatewayState, State
from retrieval.chunking import NO_CHUNKERS, chunker_of
from retrieval.confidence import Calibration
from retrieval.errors import EmbedderMismatchError
from retrieval.jobs import JobKind
from retrieval.versions import KnowledgeVersion, VersionFacts, VersionState
from retrieval.versions import UndoGoal as KnowledgeUndoGoal
from serving.versions import Pointer, UndoGoal

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/v1/rails", tags=["rails"])

Reader = Annotated[ApiKey, Depends(Caller(Scope.REVIEW, Scope.EVAL, Scope.RELEASE, Scope.INGEST))]
Releaser = Annotated[ApiKey, Depends(Caller(Scope.RELEASE))]
Evaluator = Annotated[ApiKey, Depends(Caller(Scope.EVAL))]


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
        found = [_knowledge_view(facts, key.tenant) for facts in await state.knowledge.facts()]
    else:
        roles = await state.models.roles()
        found = [model_view(each, roles.get(each.id, ())) for each in await state.models.versions()]
        found += [unreadable_view(each, roles.get(each.id, ())) for each in await state.models.unreadable()]
    verdicts = await state.reports.verdicts(rail.value)
    forced = await state.reports.forced(rail.value)
    for view in found:
        view.verdicts = [VerdictView(**row) for row in verdicts if row["version"] == view.id]
        view.forced = [ForcedView(**row) for row in forced if row["version"] == view.id]
    return VersionList(rail=rail.value, versions=found)


@router.put("/{rail}/versions/{version_id}/verdict")
async def put_verdict(
    rail: Rail, version_id: str, body: VerdictBody, key: Evaluator, state: State
) -> VerdictView:
    """Record what a gate says of a version. Who gives it traffic asks the newest verdict of each gate."""
    if rail is Rail.KNOWLEDGE:
        await state.knowledge.version(version_id)
    else:
        await state.models.version(version_id)
    if await state.reports.read(key.tenant, body.report, sha256=body.sha256) is None:
        raise InvalidFieldError(
            f"There is no report {body.report} with this digest.",
            field="sha256",
            fix="Store the report first (`PUT /v1/reports/{name}`) and send the sha256 of its reply.",
        )
    row = await state.reports.give_verdict(
        rail.value,
        version_id,
        gate=body.gate,
        verdict=body.verdict.value,
        report=body.report,
        sha256=body.sha256,
        given_by=key.name,
    )
    return VerdictView(**row)


async def _refusing_gates(
    state: GatewayState, rail: Rail, version_id: str, *, force: bool, field: str = "version"
) -> list[str]:
    """Gates that have refused the version; raises GateRefusedError unless it is forced. Every way to more
    traffic than none asks this."""
    refused = [
        row for row in await state.reports.verdicts(rail.value, version_id) if row["verdict"] == "refused"
    ]
    if refused and not force:
        told = "; ".join(f"{row['gate']} refused it, see the report {row['report']}" for row in refused)
        raise GateRefusedError(f"{version_id}: {told}.", field=field)
    return [row["gate"] for row in refused]


@router.post("/{rail}/versions", status_code=202)
async def create_version(
    rail: Rail, body: VersionBody, key: Releaser, state: State, response: Response
) -> VersionCreated:
    """Register a version of the knowledge rail and queue its build; from here on every publish writes it."""
    _require_knowledge(rail, "register a model version with `twinrail model register`")
    base = await state.knowledge.version(body.base or (await state.knowledge.pointer()).stable)
    given = body.model_dump(exclude={"base", "since", "calibration"})
    version = base.derived(
        **given,
        dims=_dims(state, body.embedder) if body.embedder else None,
        calibration=Calibration.given(body.calibration) if body.calibration else None,
    )
    _dims(state, version.embedder)
    _require_readers(state, version)
    chunker_of(version.chunker, NO_CHUNKERS)
    await state.knowledge.register(version)
    registered = await state.knowledge.version(version.id)
    if registered.state is VersionState.READY and body.since is None:
        response.status_code = 200
        return VersionCreated(version=version.id, job=None)
    job = await state.jobs.submit(key.tenant, JobKind.BUILD, source=version.id, details={"since": body.since})
    response.headers["location"] = f"/v1/jobs/{job.id}"
    return VersionCreated(version=version.id, job=str(job.id))


@router.post("/{rail}:shadow")
async def set_shadow(rail: Rail, body: ShadowBody, key: Releaser, state: State) -> PointerView:
    """Name the shadow of the knowledge rail; null ends it. Moves no traffic."""
    _require_knowledge(rail, "leave the model rail's shadow alone")
    if body.version is not None:
        await _require_parts(state, body.version)
    await state.knowledge.set_shadow(body.version)
    state.live.forget()
    return await _pointer(state, key, rail)


@router.post("/{rail}:retire")
async def retire(rail: Rail, body: RetireBody, key: Releaser, state: State) -> RetiredView:
    """Give up a version that no traffic can reach, now or by an undo. What an index version holds is freed;
    engines let go of a model version, and its files stay where they are."""
    if rail is Rail.MODEL:
        given_up = await state.models.retire(body.version, by=key.name, reason=body.reason)
        return RetiredView(version=given_up.id, freed_bytes=0)
    retired = await state.knowledge.retire(body.version)
    return RetiredView(version=retired.version, freed_bytes=retired.freed_bytes)


def _require_knowledge(rail: Rail, fix: str) -> None:
    if rail is not Rail.KNOWLEDGE:
        raise InvalidFieldError(
            f"The {rail} rail has no such call.", field="rail", fix=f"Use knowledge, or {fix}."
        )


def _dims(state: GatewayState, embedder: str) -> int:
    """Dimensions of an embedder that this gateway has."""
    if embedder not in state.embedders:
        raise EmbedderMismatchError(
            f"embedder: {embedder} is not at hand; at hand: {', '.join(state.embedders) or 'none'}"
        )
    return state.embedders[embedder]


def _require_readers(state: GatewayState, version: KnowledgeVersion, *, field: str | None = None) -> None:
    """Refuse a version whose every search here would be marked degraded; `field` is where its id stands."""
    if version.reranker and version.reranker not in state.rerankers:
        raise InvalidFieldError(
            f"reranker: {version.reranker} is not at hand; "
            f"at hand: {', '.join(sorted(state.rerankers)) or 'none'}",
            field=field or "reranker",
            fix="Name its folder in RETRIEVAL_RERANKER_DIR or its service in RETRIEVAL_RERANK_URL.",
        )
    if version.rewriter and version.rewriter not in state.rewriters:
        known = ", ".join(sorted(state.rewriters)) or "none"
        raise InvalidFieldError(
            f"rewriter: {version.rewriter} is not at hand; at hand: {known}",
            field=field or "rewriter",
            fix="Choose one of those, or an empty one for none.",
        )


async def _require_parts(state: GatewayState, version_id: str) -> None:
    """Refuse to send questions where this gateway cannot search as the version says."""
    _require_readers(state, await _require_embedder(state, version_id), field="version")


async def _require_embedder(state: GatewayState, version_id: str) -> KnowledgeVersion:
    """Refuse to send questions where this gateway cannot embed them."""
    version = await state.knowledge.version(version_id)
    if _dims(state, version.embedder) != version.dims:
        raise EmbedderMismatchError(
            f"dims: {version_id} has {version.dims}, and {version.embedder} is set up to make "
            f"{state.embedders[version.embedder]}"
        )
    return version


@router.post("/{rail}:undo")
async def undo(rail: Rail, key: Releaser, state: State, body: UndoBody | None = None) -> dict[str, Any]:
    """Take back the last move of this rail, and of this rail only. Undoing an undo is a redo."""
    wanted = body or UndoBody()
    if rail is Rail.KNOWLEDGE:
        goal = await state.knowledge.undo_goal()
        if goal is not None and wanted.what != "publish" and not wanted.force:
            for version in {goal.stable, goal.canary} - {None}:
                await _require_embedder(state, str(version))
        undone = await state.knowledge.undo(
            key.tenant,
            wanted.what,
            expected_revision=wanted.expected_revision,
            expected_snapshot=wanted.expected_snapshot,
            may_empty=wanted.force,
        )
        moved = {"what": undone.what, "before": undone.before, "after": undone.after}
    else:
        moved = await _undo_model(state, key, wanted)
    state.live.forget()
    return {"undone": moved, "pointer": (await _pointer(state, key, rail)).model_dump(mode="json")}


async def _undo_model(state: GatewayState, key: ApiKey, wanted: UndoBody) -> dict[str, Any]:
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
    refused: dict[str, list[str]] = {}
    if goal is not None and expected == before.revision:
        for version in _given_again(before, goal):
            refused[version] = await _refusing_gates(
                state, Rail.MODEL, version, force=wanted.force, field="rail"
            )
        coming = set() if wanted.force else {goal.stable, goal.canary} - {before.stable, before.canary, None}
        for each in coming:
            await _require_routable(state, each, field="rail")
    after = await state.models.undo(expected_revision=expected)
    for version, gates in refused.items():
        await _note_force(state, key, Rail.MODEL, version, gates=gates)
    return {"what": "version", "before": _moved(before, after), "after": _moved(after, before)}


def _given_again(before: Pointer, goal: UndoGoal) -> list[str]:
    """The versions that an undo gives traffic that was taken from them: a redo, or a canary that comes back.

    Not the one that a promotion replaced: the way back from a bad version waits for no gate.
    """
    found = [goal.stable] if before.taken_back and goal.stable == before.previous else []
    had = before.canary_weight_bp if goal.canary == before.canary else 0
    if goal.canary is not None and goal.canary != before.stable and goal.canary_weight_bp > had:
        found.append(goal.canary)
    return found


def _moved(one: Pointer, other: Pointer) -> str:
    """The version of `one` that makes the difference: its stable, or if that is the same, its canary."""
    return one.stable if one.stable != other.stable else one.canary or one.stable


async def _require_routable(
    state: GatewayState, version_id: str | None, *, field: str, force: bool = False
) -> list[str]:
    """Refuse to send traffic where an engine that should answer has not shown that it does; what is lacking
    where that is forced."""
    if version_id is None:
        return []
    version = await state.models.version(version_id)
    lacks = [str(lack) for lack in await state.replicas.lacks(version)]
    if lacks and not force:
        told = "; ".join(lacks)
        raise NotServedError(
            f"{version_id} is not served everywhere: {told}.",
            field=field,
            fix="Stage it (`POST /v1/rails/model:stage`; `twinrail promote` does) and wait until it is "
            "routable, or send `force: true` (on the command line `--force`).",
        )
    return lacks


async def _note_force(
    state: GatewayState,
    key: ApiKey,
    rail: Rail,
    version_id: str,
    *,
    gates: Sequence[str],
    lacks: Sequence[str] = (),
) -> None:
    """Keep who gave a version traffic, and what was against it: gates that refused it, engines without it."""
    against = [*(f"{gate} refused it" for gate in gates), *lacks]
    if rail is Rail.MODEL and against:
        await state.models.note_forced_move(version_id, by=key.name, reason="; ".join(against))
    if gates:
        logger.warning(
            "traffic against a refusal",
            extra={"action": "promotion_forced", "rail": rail.value, "version": version_id},
        )
        await state.reports.note_forced(rail.value, version_id, gates=gates, forced_by=key.name)


@router.post("/{rail}:canary")
async def set_canary(rail: Rail, body: CanaryBody, key: Releaser, state: State) -> PointerView:
    """Give a version a share of the conversations; null and 0 end it. One that a gate has refused gets none
    unless it is forced, and who forced it is kept."""
    if body.version is None and body.weight_bp:
        raise InvalidFieldError(
            "A weight without a version.", field="weight_bp", fix="Send 0, or name a version."
        )
    gates: list[str] = []
    lacks: list[str] = []
    if body.version is not None and body.weight_bp:
        gates = await _refusing_gates(state, rail, body.version, force=body.force)
    if rail is Rail.KNOWLEDGE:
        if body.version is not None and not body.force:
            await _require_parts(state, body.version)
        await state.knowledge.set_canary(body.version, body.weight_bp)
    else:
        lacks = await _require_routable(state, body.version, field="version", force=body.force)
        await state.models.set_canary(body.version, body.weight_bp, expected_revision=body.expected_revision)
    state.live.forget()
    if body.version is not None:
        await _note_force(state, key, rail, body.version, gates=gates, lacks=lacks)
        await _unstage(state, rail, body.version)
    return await _pointer(state, key, rail)


@router.post("/{rail}:promote")
async def promote(rail: Rail, body: PromoteBody, key: Releaser, state: State) -> PointerView:
    """Make a version stable. The stable one becomes previous, where undo finds it. One that a gate has
    refused is not promoted unless it is forced, and who forced it is kept."""
    gates = await _refusing_gates(state, rail, body.version, force=body.force)
    lacks: list[str] = []
    if rail is Rail.KNOWLEDGE:
        if not body.force:
            await _require_parts(state, body.version)
        await state.knowledge.promote(body.version)
    else:
        lacks = await _require_routable(state, body.version, field="version", force=body.force)
        await state.models.promote(body.version, expected_revision=body.expected_revision)
    state.live.forget()
    await _note_force(state, key, rail, body.version, gates=gates, lacks=lacks)
    await _unstage(state, rail, body.version)
    return await _pointer(state, key, rail)


async def _unstage(state: GatewayState, rail: Rail, version_id: str) -> None:
    """It is an arm now, so engines hold it as that."""
    if rail is Rail.MODEL:
        await state.replicas.unstage(version_id)


def _knowledge_view(facts: VersionFacts, tenant: str) -> VersionView:
    """A version as a key of one tenant may see it: of the others there is only a count."""
    version, own = facts.version, facts.tenants.get(tenant)
    return VersionView(
        id=version.id,
        name=version.name,
        state=str(version.state),
        details={
            **{key: value for key, value in version.row().items() if key not in ("id", "name", "state")},
            "calibration": version.calibration.definition(),
            "roles": list(facts.roles),
            "size_bytes": facts.size_bytes,
            "progress": facts.progress,
            "chunks": own.chunks if own else 0,
            "earliest_snapshot": own.earliest if own else None,
            "tenants": len(facts.tenants),
            "chunks_of_all": sum(each.chunks for each in facts.tenants.values()),
        },
    )


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
