"""What the citations of a stored answer stand for now: still current, changed since, or erased."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.rails import KnowledgeRail
from gateway.schemas.turns import CitedNow
from retrieval.documents import Access, Resolution, TextSpan
from retrieval.errors import RetrievalError

_UNKNOWN = Resolution(text=None, current=None, changed_at=None, erased_at=None)


async def cited_now(
    knowledge: KnowledgeRail, access: Access, citations: Sequence[Mapping[str, Any]]
) -> list[CitedNow]:
    """One for each citation, in one question to the rail, with the eyes of who reads.

    While the rail is away nothing is known of any; the turn itself can still be read.
    """
    spans = {
        place: TextSpan(each["document_id"], each["document_version"], each["start"], each["end"])
        for place, each in enumerate(citations)
        if each.get("document_version") is not None and "erased_at" not in each
    }
    try:
        found = await knowledge.resolve(access, list(spans.values())) if spans else []
    except RetrievalError:
        found = [_UNKNOWN] * len(spans)
    resolved = dict(zip(spans, found, strict=True))
    return [_now(each, resolved.get(place, _UNKNOWN)) for place, each in enumerate(citations)]


def _now(citation: Mapping[str, Any], resolution: Resolution) -> CitedNow:
    # A turn that lost the document says so itself, also to who may not see any document.
    erased_at = citation.get("erased_at") or resolution.erased_at
    return CitedNow(
        n=citation["n"],
        document_id=citation["document_id"],
        current=False if erased_at else resolution.current,
        changed_at=resolution.changed_at,
        erased_at=erased_at,
    )
