"""Everything that requests need, built in the entry point and passed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from gateway.access import ApiKey, KeyRing, Scope
from gateway.evaluations import EvaluationEvents
from gateway.hotpath import HotPath
from gateway.labels import LabelStore
from gateway.rails import EngineRoster, KnowledgeRail, ModelRail, ReplicaRoster
from gateway.readiness import Readiness
from gateway.recorder import TurnRecorder
from gateway.reports import ReportStore
from gateway.reviews import ReviewStore
from gateway.rollouts.live import LiveRails
from gateway.shadowing import ShadowedSearcher
from gateway.turns import TurnStore
from retrieval.jobs import JobStore
from retrieval.stored import DocumentStore


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayState:
    """The gateway's parts."""

    keys: KeyRing
    hotpath: HotPath
    #: What searches go through; its owner closes it.
    searcher: ShadowedSearcher
    live: LiveRails
    knowledge: KnowledgeRail
    models: ModelRail
    engines: EngineRoster
    replicas: ReplicaRoster
    #: Embedders that searches have at hand: id -> dimensions.
    embedders: Mapping[str, int]
    #: Ids of the rerankers and rewriters that they have.
    rerankers: frozenset[str]
    rewriters: frozenset[str]
    jobs: JobStore
    turns: TurnStore
    labels: LabelStore
    reviews: ReviewStore
    reports: ReportStore
    documents: DocumentStore
    recorder: TurnRecorder
    readiness: Readiness
    evaluations: EvaluationEvents
    #: The Prometheus exposition of the process.
    exposition: Callable[[], bytes]
    body_limit_bytes: int = 256 * 1024
    #: Largest body under `/v1/documents` and `/v1/reports`, where whole documents come in.
    documents_limit_bytes: int = 8 * 1024 * 1024


def get_state(request: Request) -> GatewayState:
    """The state of the app that serves the request."""
    state: GatewayState = request.app.state.gateway
    return state


State = Annotated[GatewayState, Depends(get_state)]


class Caller:
    """A dependency that gives the caller's key if it carries one of the scopes."""

    def __init__(self, *scopes: Scope) -> None:
        self._scopes = scopes

    async def __call__(self, request: Request, state: State) -> ApiKey:
        """The key; raises UnauthenticatedError or ForbiddenError."""
        key = await state.keys.authenticate(request.headers.raw)
        key.require(*self._scopes)
        return key
