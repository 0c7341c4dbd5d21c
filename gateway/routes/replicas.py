"""The engines of the model rail: what each holds, staging a version, and probing it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from gateway.access import ApiKey, Scope
from gateway.errors import InvalidFieldError
from gateway.rollouts.assignment import Rail
from gateway.schemas.replicas import (
    HoldingView,
    LackView,
    ProbeBody,
    ProbedView,
    ProbeReport,
    ReadinessView,
    ReplicaList,
    ReplicaView,
    StageBody,
)
from gateway.state import Caller, GatewayState, State
from serving.errors import VersionUnreadableError
from serving.replicas import Fleet
from serving.versions import RegisteredVersion, VersionState

router = APIRouter(prefix="/v1/rails", tags=["rails"])

Reader = Annotated[ApiKey, Depends(Caller(Scope.REVIEW, Scope.EVAL, Scope.RELEASE, Scope.INGEST))]
Releaser = Annotated[ApiKey, Depends(Caller(Scope.RELEASE))]


@router.get("/{rail}/replicas")
async def list_replicas(rail: Rail, key: Reader, state: State, version: str | None = None) -> ReplicaList:
    """The engines as they were last seen, and how far each wanted version has come on them. `version` asks
    for one, wanted or not."""
    _require_model(rail)
    fleet = await state.replicas.fleet()
    ids = [version] if version else [wanted.version for wanted in fleet.wanted]
    return ReplicaList(
        rail=rail.value,
        replicas=[
            ReplicaView(
                url=each.url,
                live=each.is_live,
                reason=each.reason,
                leaving=each.leaving,
                build=each.build,
                started=each.life,
                listed=list(each.listed),
                strange=list(each.strange),
                looked_at=each.looked_at,
            )
            for each in fleet.replicas
        ],
        versions=[await _readiness_of(state, each, fleet) for each in ids],
    )


@router.post("/{rail}:stage")
async def stage(rail: Rail, body: StageBody, key: Releaser, state: State) -> ReadinessView:
    """Have engines load a version and show it before it is an arm; moves no traffic. Taking it back works for
    one whose row was damaged meanwhile, too."""
    _require_model(rail)
    try:
        await state.models.version(body.version)
    except VersionUnreadableError:
        if body.staged:
            raise
    if body.staged:
        await state.replicas.stage(body.version, by=key.name)
    else:
        await state.replicas.unstage(body.version)
    return await _readiness_of(state, body.version, await state.replicas.fleet())


@router.post("/{rail}:probe")
async def probe(rail: Rail, body: ProbeBody, key: Releaser, state: State) -> ProbeReport:
    """Probe a version now on every live engine that lists it. One that fails loses the version's traffic."""
    _require_model(rail)
    version = await state.models.version(body.version)
    found = await state.replicas.probe(version)
    return ProbeReport(
        version=version.id,
        passed=bool(found) and all(each.result.passed for each in found),
        engines=[
            ProbedView(
                url=each.url,
                passed=each.result.passed,
                reason=each.result.reason,
                evidence=dict(each.result.evidence),
            )
            for each in found
        ],
    )


async def _readiness_of(state: GatewayState, version_id: str, fleet: Fleet) -> ReadinessView:
    """One that cannot be read is shown as that, and takes nothing away from the others."""
    try:
        return await _readiness(state, await state.models.version(version_id), fleet)
    except VersionUnreadableError as exc:
        return ReadinessView(
            version=version_id,
            roles=[role for wanted in fleet.wanted if wanted.version == version_id for role in wanted.roles],
            routable=False,
            lacks=[LackView(url="registry", state=VersionState.UNREADABLE.value, reason=str(exc))],
            holdings=[],
        )


async def _readiness(state: GatewayState, version: RegisteredVersion, fleet: Fleet) -> ReadinessView:
    lives = {replica.url: replica.life for replica in fleet.replicas}
    lacks = await state.replicas.lacks(version)
    return ReadinessView(
        version=version.id,
        roles=[role for wanted in fleet.wanted if wanted.version == version.id for role in wanted.roles],
        routable=not lacks,
        lacks=[LackView(url=lack.url, state=lack.state, reason=lack.reason) for lack in lacks],
        holdings=[
            HoldingView(
                url=held.url,
                state=held.state.value,
                reason=held.reason,
                of_this_life=held.life == lives.get(held.url),
                evidence=dict(held.evidence) if held.evidence is not None else None,
                since=held.since,
            )
            for held in fleet.holdings
            if held.version == version.id
        ],
    )


def _require_model(rail: Rail) -> None:
    if rail is not Rail.MODEL:
        raise InvalidFieldError(
            f"The {rail} rail has no engines.", field="rail", fix="Use model; its versions are on engines."
        )
