"""`POST /v1/search`: retrieval without an answer, with scores and with how the hits were found."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from gateway.access import ApiKey, Scope
from gateway.errors import InvalidFieldError
from gateway.events import Deadline
from gateway.rails import Searcher
from gateway.rollouts.assignment import Arm, Assignment
from gateway.rollouts.live import LiveRails
from gateway.schemas.search import SearchBody, SearchHit, SearchResponse
from retrieval.errors import RetrievalTimeoutError, UnknownVersionError
from retrieval.hits import Hit, Said, SearchRequest


class Searching:
    """Searches for callers."""

    def __init__(self, *, live: LiveRails, searcher: Searcher, timeout_s: float) -> None:
        self._live = live
        self._searcher = searcher
        self._timeout_s = timeout_s

    async def search(self, raw: Any, key: ApiKey, deadline: Deadline, *, trace_id: str) -> bytes:
        """The response body for a request body."""
        body = SearchBody.model_validate(raw)
        for field in ("as_of", "effective_on"):
            if getattr(body, field) is not None:
                key.require(Scope.EVAL, Scope.REVIEW, field=field)  # tomorrow's prices are not for customers
        version, _, snapshot = (body.version or "").partition("@")
        if snapshot and body.as_of is not None:
            raise InvalidFieldError(
                "as_of: `version` names a snapshot already", field="as_of", fix="Give one of the two."
            )
        if version:
            key.require(Scope.EVAL, field="version")
            await self._check_version(version)
            assigned = Assignment(arm=Arm.PINNED, version=version)
        else:
            unit = f"{key.tenant}/{body.conversation_id or key.id}"
            assigned = await self._live.assign_knowledge(unit)
        timeout_s = min(self._timeout_s, deadline.left_s)
        try:
            async with asyncio.timeout(timeout_s + 0.2):
                result = await self._searcher.search(
                    SearchRequest(
                        question=body.question,
                        access=key.access,
                        version=assigned.version or "",
                        k=body.k,
                        filters=body.filters,
                        as_of=int(snapshot) if snapshot else body.as_of,
                        effective_on=body.effective_on,
                        timeout_s=timeout_s,
                        history=tuple(
                            Said(role=message.role, text=message.content) for message in body.history
                        ),
                    ),
                    arm=assigned.arm.value,
                )
        except TimeoutError as exc:
            raise RetrievalTimeoutError from exc
        response = SearchResponse(
            hits=[_view(hit) for hit in result.hits],
            version=result.version,
            snapshot=result.snapshot,
            arm=assigned.arm.value,
            confidence=result.confidence,
            abstain_below=result.abstain_below,
            calibration=result.calibration,
            rewritten=result.rewritten,
            mode=result.mode,
            candidates=result.candidates,
            underfilled=result.underfilled,
            degraded=list(result.degraded),
            timings_ms={name: round(value, 2) for name, value in result.timings_ms.items()},
            trace_id=trace_id,
        )
        return orjson.dumps(response.model_dump(mode="json"))

    async def _check_version(self, version: str) -> None:
        try:
            await self._live.knowledge_version(version)
        except UnknownVersionError as exc:
            raise InvalidFieldError(
                str(exc), field="version", fix="Use an id of `GET /v1/rails/knowledge/versions`."
            ) from exc


def _view(hit: Hit) -> SearchHit:
    return SearchHit(
        rank=hit.rank,
        document_id=hit.document_id,
        title=hit.title,
        url=hit.url,
        heading_path=list(hit.heading_path),
        text=hit.text,
        start=hit.start,
        end=hit.end,
        score=hit.score,
        dense_score=hit.dense_score,
        lexical_score=hit.lexical_score,
        rerank_score=hit.rerank_score,
        effective_from=hit.effective_from,
        effective_to=hit.effective_to,
        metadata=dict(hit.metadata),
    )
