"""Erase a document for good: from the knowledge rail, and from the turns that hold it."""

from __future__ import annotations

from gateway.rails import KnowledgeRail
from gateway.schemas.erasing import PurgeView
from gateway.turns import TurnStore


async def purge_document(
    knowledge: KnowledgeRail,
    turns: TurnStore,
    tenant: str,
    document_id: str,
    *,
    by: str,
    dry_run: bool = False,
) -> PurgeView:
    """The rail first, so that no new turn can find it while the recorded ones are gone through.

    Cut short in between, it is done by doing it again.
    """
    erasure = await knowledge.purge(tenant, document_id, by=by, dry_run=dry_run)
    return PurgeView(
        document_id=document_id,
        tombstone=erasure.tombstone,
        erased_at=erasure.erased_at,
        texts=erasure.texts,
        chunks=erasure.chunks,
        vectors=erasure.vectors,
        turns=await turns.erase_document(tenant, document_id, dry_run=dry_run),
    )
