"""Makes the searches that a fit learns from, and keeps what was fitted for a tenant.

Each labelled question is searched twice: as it is, and with its gold documents left out. The second search is
a question that the help centre cannot answer but looks as if it could: free labels of the hardest kind.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from retrieval.confidence import LOOKED_AT, FittedCalibration
from retrieval.connections import borrowed
from retrieval.documents import Access
from retrieval.errors import RequestError, UnknownVersionError
from retrieval.fitting import Observation, Ranking
from retrieval.hits import SearchRequest
from retrieval.questions import QUERIES, LabelledQuestion
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore

#: Seconds that one search of a fit may take: nobody waits, and the machine may be busy serving.
TIMEOUT_S: Final = 60.0

AS_IT_IS: Final = "as it is"
GOLD_LEFT_OUT: Final = "gold left out"
UNANSWERABLE: Final = "unanswerable"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What the searches left, for both fits."""

    observations: tuple[Observation, ...]
    rankings: tuple[Ranking, ...]


async def collect(
    retriever: Retriever,
    questions: Sequence[LabelledQuestion],
    *,
    access: Access,
    version: str,
    on_progress: Progress = lambda _done, _total: None,
) -> Collected:
    """Search every question with and without its gold documents, one after the other."""
    observations: list[Observation] = []
    rankings: list[Ranking] = []
    for done, question in enumerate(questions):
        on_progress(done, len(questions))
        request = SearchRequest(
            question=question.text,
            access=Access(tenant=access.tenant, principals=question.principals or access.principals),
            version=version,
            k=LOOKED_AT,
            history=question.history,
            timeout_s=TIMEOUT_S,
        )
        observations += [each async for each in _observed(retriever, question, request)]
        if question.gold:
            rankings.append(await _ranked(retriever, question, request))
    on_progress(len(questions), len(questions))
    return Collected(observations=tuple(observations), rankings=tuple(rankings))


async def _observed(
    retriever: Retriever, question: LabelledQuestion, request: SearchRequest
) -> AsyncIterator[Observation]:
    result = await retriever.search(request)
    if result.degraded:
        raise RequestError(
            f"version: {request.version} was searched without its {', '.join(result.degraded)}, not at hand "
            "or too slow; a fit needs searches as they will be"
        )
    found = any(hit.document_id in question.gold for hit in result.hits)
    kind = AS_IT_IS if question.gold else UNANSWERABLE
    yield Observation(features=result.features, sufficient=found, group=question.group, kind=kind)
    if question.gold:
        without = await retriever.search(replace(request, exclude_documents=tuple(sorted(question.gold))))
        yield Observation(
            features=without.features, sufficient=False, group=question.group, kind=GOLD_LEFT_OUT
        )


async def _ranked(retriever: Retriever, question: LabelledQuestion, request: SearchRequest) -> Ranking:
    found = await retriever.candidates(request)
    return Ranking(
        documents=tuple(hit.document_id for hit in found.hits),
        dense=tuple(hit.dense_score for hit in found.hits),
        lexical=tuple(hit.lexical_score for hit in found.hits),
        lexical_unit=found.lexical_unit,
        gold=question.gold,
        group=question.group,
    )


async def save_calibration(
    store: KnowledgeStore,
    fitted: FittedCalibration,
    *,
    tenant: str,
    version: str,
    evidence: Mapping[str, object],
) -> None:
    """Make a fit the tenant's own for an index version: its next search is judged by it."""
    params = {
        "tenant": tenant,
        "version": version,
        "definition": json.dumps(fitted.calibration.definition()),
        "abstain_below": fitted.abstain_below,
        "evidence": json.dumps(evidence),
    }
    async with borrowed(store.pool, timeout_s=store.acquire_timeout_s) as conn, conn.transaction():
        await conn.execute(QUERIES["enter"], {"tenant": tenant})
        if await (await conn.execute(QUERIES["save_calibration"], params)).fetchone() is None:
            raise UnknownVersionError(f"version: no index version {version}")


async def drop_calibration(
    store: KnowledgeStore, *, tenant: str, version: str, dry_run: bool = False
) -> bool:
    """Go back to the version's default; whether there was a fit to drop."""
    async with borrowed(store.pool, timeout_s=store.acquire_timeout_s) as conn, conn.transaction():
        await conn.execute(QUERIES["enter"], {"tenant": tenant})
        query = QUERIES["calibration" if dry_run else "drop_calibration"]
        cursor = await conn.execute(query, {"tenant": tenant, "version": version})
        return cursor.rowcount > 0
