"""The knowledge rail's tables, read and pointed. With publishing.py the only place that runs SQL.

Every statement on rows of a tenant runs in a transaction that has said whose tenant and whose eyes; the
database's row-level security does the rest, and shows nothing to one that has not.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

import orjson

from retrieval.confidence import FittedCalibration
from retrieval.connections import borrowed, row_of
from retrieval.documents import Access, Resolution, TextSpan
from retrieval.embedding import Vector
from retrieval.erasing import QUERIES as ERASING
from retrieval.erasing import Erasure, erase
from retrieval.errors import RetrievalError, StoreError
from retrieval.filters import FieldKind, FilterTree, require_field_name
from retrieval.guarding import require_guard
from retrieval.hits import Hit
from retrieval.lexing import query_terms
from retrieval.pointing import VersionStore
from retrieval.sql import named_queries

logger = logging.getLogger(__name__)

QUERIES = named_queries("retrieval.sql", "queries.sql")
PUBLISHING = named_queries("retrieval.sql", "publishing.sql")
#: What a snapshot's number has room for.
LARGEST_SNAPSHOT = 2**31 - 1
#: Chunks that each leg proposes.
CANDIDATES = 50

Legs = Literal["both", "dense", "lexical"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one search statement returned."""

    hits: tuple[Hit, ...]
    snapshot: int
    mode: str
    candidates: int
    #: Best cosine among all candidates; None when there is none.
    top_dense: float | None
    #: What BM25 squared is divided by under fusion `coverage-1`.
    lexical_unit: float
    #: The tenant's own fit for the version, if there is one.
    fitted: FittedCalibration | None = None


class KnowledgeStore(VersionStore):
    """The tables of schema `retrieval`: beside versions and pointer, what is found in them."""

    async def check(self) -> None:
        """Refuse a login that row-level security does not bind; warn if the text index will not be used."""
        async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn:
            await require_guard(conn)
            leakproof = await (await conn.execute(QUERIES["match_is_leakproof"])).fetchone()
        if not (leakproof and leakproof[0]):
            logger.warning(
                "ts_match_vq is not LEAKPROOF here, so word search scans the tenant's chunks, not the index; "
                "as superuser: ALTER FUNCTION ts_match_vq(tsvector, tsquery) LEAKPROOF",
                extra={"action": "check_store"},
            )

    # ---- search ----------------------------------------------------------------------------------

    async def search(
        self,
        access: Access,
        *,
        version: str,
        question: str,
        embedding: Vector,
        k: int,
        filters: FilterTree | None = None,
        exclude_documents: Sequence[str] = (),
        as_of: int | datetime | None = None,
        effective_on: date | None = None,
        timeout_s: float,
        legs: Legs = "both",
        candidates: int | None = None,
        exact: bool = False,
    ) -> Found:
        """Both legs in one round trip. `exact` compares with every chunk, whatever that costs."""
        terms = query_terms(question)
        params = {
            "tenant": access.tenant,
            "principals": list(access.principals),
            "version": version,
            "embedding": "[" + ",".join(map(repr, embedding.tolist())) + "]",
            "lexemes": terms.lexemes,
            "terms": terms.terms,
            "counts": terms.counts,
            "filter": json.dumps(filters) if filters else None,
            "excluded": list(exclude_documents),
            "snapshot": min(as_of, LARGEST_SNAPSHOT) if isinstance(as_of, int) else None,
            "moment": as_of if isinstance(as_of, datetime) else None,
            "effective_on": effective_on,
            "k": k,
            "candidates": candidates or max(CANDIDATES, k),
            "legs": legs,
            "exact": exact,
        }
        deadline = time.monotonic() + timeout_s
        async with borrowed(self.pool, timeout_s=min(self.acquire_timeout_s, timeout_s)) as conn:
            left_ms = max(1, int((deadline - time.monotonic()) * 1000))
            async with conn.pipeline():
                await conn.execute(QUERIES["limit_statement"], {"timeout": str(left_ms)})
                cursor = await conn.execute(QUERIES["search"], params)
            row = await cursor.fetchone()
        if row is None:
            raise StoreError("database: the search function returned nothing; run `twinrail migrate`")
        return _found(str(row[0]))

    async def declare_fields(self, tenant: str, kinds: Mapping[str, FieldKind]) -> None:
        """Say what metadata fields hold, for filters. A field is else what its first value was."""
        fields = [{"tenant": tenant, "name": name, "kind": FieldKind(kind)} for name, kind in kinds.items()]
        for field in fields:
            require_field_name(str(field["name"]))
        async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn, conn.transaction():
            await conn.execute(QUERIES["enter"], {"tenant": tenant})
            async with conn.cursor() as cursor:
                await cursor.executemany(QUERIES["declare_field"], fields)

    async def fields(self, tenant: str) -> dict[str, FieldKind]:
        """The metadata fields that a filter may name, and what their values are."""
        async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn, conn.transaction():
            await conn.execute(QUERIES["enter"], {"tenant": tenant})
            rows = await (await conn.execute(QUERIES["fields"], {"tenant": tenant})).fetchall()
        return {name: FieldKind(kind) for name, kind in rows}

    async def text_spans(self, access: Access, spans: Sequence[TextSpan]) -> list[str | None]:
        """The characters that citations point at, in one round trip; None where these eyes see none."""
        async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn:
            (texts,) = await row_of(conn, QUERIES["text_spans"], _asked(access, spans))
        return [_within(span, text) for span, text in zip(spans, texts, strict=True)]

    async def resolve(self, access: Access, spans: Sequence[TextSpan]) -> list[Resolution]:
        """What citations stand for now: their text, whether it is still the live one, when it was erased."""
        async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn:
            rows = await (await conn.execute(QUERIES["resolve"], _asked(access, spans))).fetchall()
        return [
            Resolution(
                text=_within(span, text),
                current=None if text is None and erased_at is None else live == span.document_version,
                changed_at=None if live == span.document_version else live_since,
                erased_at=erased_at,
            )
            for span, (text, live, live_since, erased_at) in zip(spans, rows, strict=True)
        ]

    async def tenants(self) -> list[str]:
        """Everybody who ever published, by name."""
        async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn:
            return [name for (name,) in await (await conn.execute(QUERIES["tenants"])).fetchall()]

    async def snapshot(self, tenant: str) -> int:
        """The tenant's live snapshot; 0 when nothing is published."""
        async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn, conn.transaction():
            await conn.execute(QUERIES["enter"], {"tenant": tenant})
            (number,) = await row_of(conn, QUERIES["snapshot"], {"tenant": tenant})
            return int(number)

    async def purge(self, tenant: str, document_id: str, *, by: str, dry_run: bool = False) -> Erasure:
        """Erase a document for good, at every snapshot, in every index version; `by` is kept with the date.

        No publish of the tenant runs meanwhile, and none that had read the document may end afterwards.
        """
        async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn, conn.transaction():
            await conn.execute(QUERIES["enter"], {"tenant": tenant})
            await conn.execute(PUBLISHING["lock"], {"tenant": tenant})
            await conn.execute(PUBLISHING["lock_versions_shared"])
            # For one that only ever sent texts; undone with the rest if there is nothing to erase.
            await conn.execute(PUBLISHING["add_tenant"], {"tenant": tenant})
            await conn.execute(QUERIES["enter_with_all_principals"])
            erasure = await erase(conn, tenant, document_id, by=by, dry_run=dry_run)
        if erasure.texts and not dry_run:
            await self._forget_samples()
        return erasure

    async def _forget_samples(self) -> None:
        """Never fails: the erasure is done, and the next ANALYZE of anybody does this too."""
        try:
            async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn:
                await conn.execute(ERASING["analyze"])
        except RetrievalError:
            logger.warning("statistics not renewed", exc_info=True, extra={"action": "purge"})


def _asked(access: Access, spans: Sequence[TextSpan]) -> dict[str, object]:
    return {
        "tenant": access.tenant,
        "principals": list(access.principals),
        "documents": [span.document_id for span in spans],
        "numbers": [span.document_version for span in spans],
        "starts": [span.start for span in spans],
        "lengths": [max(0, span.end - span.start) for span in spans],
    }


def _within(span: TextSpan, text: str | None) -> str | None:
    return (text or None) if 0 <= span.start < span.end else None


def _found(answer: str) -> Found:
    body = orjson.loads(answer)
    hits = tuple(
        Hit(
            rank=rank,
            chunk_id=hit["chunk_id"],
            document_id=hit["document_id"],
            document_version=hit["document_version"],
            title=hit["title"],
            url=hit["url"],
            heading_path=tuple(hit["heading_path"]),
            text=hit["text"],
            start=hit["start"],
            end=hit["end"],
            score=hit["score"],
            dense_score=hit["dense_score"],
            lexical_score=hit["lexical_score"],
            effective_from=_date(hit["effective_from"]),
            effective_to=_date(hit["effective_to"]),
            metadata={
                name: tuple(value) if isinstance(value, list) else value
                for name, value in hit["metadata"].items()
            },
        )
        for rank, hit in enumerate(body["hits"], start=1)
    )
    return Found(
        hits=hits,
        snapshot=body["snapshot"],
        mode=body["mode"],
        candidates=body["candidates"],
        top_dense=body["top_dense"],
        lexical_unit=body["lexical_unit"],
        fitted=None if body["calibration"] is None else FittedCalibration.from_row(body["calibration"]),
    )


def _date(value: str | None) -> date | None:
    return date.fromisoformat(value) if value else None
