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
from psycopg.rows import class_row

from retrieval.confidence import Calibration
from retrieval.connections import Connection, Pool, borrowed, row_of
from retrieval.documents import Access, TextSpan
from retrieval.embedding import Vector
from retrieval.errors import (
    CanaryError,
    NoStableVersionError,
    NothingToUndoError,
    PointerMovedError,
    SnapshotNotFilledError,
    StoreError,
    StoreRoleError,
    UnknownVersionError,
    VersionNotReadyError,
)
from retrieval.hits import Hit
from retrieval.lexing import query_terms
from retrieval.sql import named_queries
from retrieval.versions import KnowledgeVersion, Pointer, UndoGoal, Undone, VersionState

logger = logging.getLogger(__name__)

QUERIES = named_queries("retrieval.sql", "queries.sql")
#: Chunks that each leg proposes.
CANDIDATES = 50

Legs = Literal["both", "dense", "lexical"]
Move = Literal["publish", "version"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one search statement returned."""

    hits: tuple[Hit, ...]
    snapshot: int
    mode: str
    candidates: int
    underfilled: bool
    #: Best cosine among all candidates; None when there is none.
    top_dense: float | None
    #: What BM25 squared is divided by under fusion `coverage-1`.
    lexical_unit: float


class KnowledgeStore:
    """The tables of schema `retrieval`. The pool is the caller's, who opens and closes it."""

    def __init__(self, pool: Pool, *, acquire_timeout_s: float = 2.0) -> None:
        self.pool = pool
        self.acquire_timeout_s = acquire_timeout_s

    async def check(self) -> None:
        """Refuse a role that row-level security does not bind; warn if the text index will not be used."""
        async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn:
            role = await (await conn.execute(QUERIES["role"])).fetchone()
            leakproof = await (await conn.execute(QUERIES["match_is_leakproof"])).fetchone()
        if role is None or role[0]:
            name = role[1] if role else "unknown"
            raise StoreRoleError(
                f"role {name!r} is a superuser or has BYPASSRLS, so tenants would not be kept apart: "
                "connect as a plain role that owns the database"
            )
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
        filters: Mapping[str, Sequence[str]],
        as_of: int | datetime | None,
        effective_on: date | None,
        timeout_s: float,
        legs: Legs = "both",
        candidates: int | None = None,
    ) -> Found:
        """Both legs in one round trip."""
        terms = query_terms(question)
        params = {
            "tenant": access.tenant,
            "principals": list(access.principals),
            "version": version,
            "embedding": "[" + ",".join(map(repr, embedding.tolist())) + "]",
            "lexemes": terms.lexemes,
            "terms": terms.terms,
            "counts": terms.counts,
            "filters": json.dumps({field: list(values) for field, values in filters.items()}),
            "snapshot": as_of if isinstance(as_of, int) else None,
            "moment": as_of if isinstance(as_of, datetime) else None,
            "effective_on": effective_on,
            "k": k,
            "candidates": candidates or max(CANDIDATES, k),
            "legs": legs,
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

    async def text_spans(self, access: Access, spans: Sequence[TextSpan]) -> list[str | None]:
        """The characters that citations point at, in one round trip; None where these eyes see none."""
        params = {
            "tenant": access.tenant,
            "principals": list(access.principals),
            "documents": [span.document_id for span in spans],
            "numbers": [span.document_version for span in spans],
            "starts": [span.start for span in spans],
            "lengths": [max(0, span.end - span.start) for span in spans],
        }
        async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn:
            (texts,) = await row_of(conn, QUERIES["text_spans"], params)
        return [
            (text or None) if 0 <= span.start < span.end else None
            for span, text in zip(spans, texts, strict=True)
        ]

    async def text_span(
        self, access: Access, document_id: str, document_version: int, start: int, end: int
    ) -> str | None:
        """The characters that one citation points at."""
        (text,) = await self.text_spans(access, [TextSpan(document_id, document_version, start, end)])
        return text

    async def snapshot(self, tenant: str) -> int:
        """The tenant's live snapshot; 0 when nothing is published."""
        async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn, conn.transaction():
            await conn.execute(QUERIES["enter"], {"tenant": tenant})
            (number,) = await row_of(conn, QUERIES["snapshot"], {"tenant": tenant})
            return int(number)

    # ---- versions and pointer --------------------------------------------------------------------

    async def versions(self) -> list[KnowledgeVersion]:
        """Every index version, oldest first."""
        async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn:
            return await _versions(conn)

    async def register(self, version: KnowledgeVersion) -> None:
        """Make room for an index version, which the next ingest fills; a known one stays as it is."""
        async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn, conn.transaction():
            await conn.execute(QUERIES["register"], version.row())

    async def pointer(self) -> Pointer:
        """What is live."""
        async with (
            borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn,
            conn.cursor(row_factory=class_row(Pointer)) as cursor,
        ):
            pointer = await (await cursor.execute(QUERIES["pointer"])).fetchone()
        if pointer is None or pointer.stable is None:
            raise NoStableVersionError
        return pointer

    async def set_canary(self, version: str | None, weight_bp: int) -> Pointer:
        """Give a version a share of the traffic in basis points, or with None take it back."""
        if not 0 <= weight_bp <= 10_000:
            raise CanaryError(f"weight_bp: {weight_bp} is not a whole number from 0 to 10000 (basis points)")
        if version is None and weight_bp:
            raise CanaryError("weight_bp: must be 0 when there is no canary")
        if version is not None and version == (await self.pointer()).stable:
            raise CanaryError(f"version: {version} is stable already; a canary must be another version")
        return await self._move("set_canary", {"version": version, "weight_bp": weight_bp})

    async def promote(self, version: str) -> Pointer:
        """Make a version stable, in one statement; the old one is kept as previous."""
        return await self._move("promote", {"version": version})

    async def promote_first(self, version: str) -> None:
        """Make a version stable if none is: a rail's first content needs no release decision."""
        async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn, conn.transaction():
            await conn.execute(QUERIES["operation"], {"operation": "promote_first"})
            await conn.execute(QUERIES["promote_first"], {"version": version})

    async def undo(
        self,
        tenant: str,
        what: Move | None = None,
        *,
        expected_revision: int | None = None,
        expected_snapshot: int | None = None,
    ) -> Undone:
        """Take back the tenant's last publish or the pointer's last move; None is whichever came last.

        With what the caller saw as `expected_...`, a call that is sent again after it went through is refused
        and not done twice.
        """
        expected = {"expected_revision": expected_revision, "expected_snapshot": expected_snapshot}
        async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn, conn.transaction():
            await conn.execute(QUERIES["enter"], {"tenant": tenant})
            await self._require_unmoved(conn, tenant, expected)
            publish, version = await row_of(conn, QUERIES["moves"], {"tenant": tenant})
            if what is None:
                if publish is None and version is None:
                    raise NothingToUndoError(
                        f"nothing to undo: tenant {tenant!r} has published nothing, "
                        "and the version pointer has not moved"
                    )
                what = "publish" if (publish or 0) > (version or 0) else "version"
            if what == "publish":
                return await self._undo_publish(conn, tenant, expected)
            return await self._undo_version(conn, tenant, expected)

    async def undo_goal(self) -> UndoGoal | None:
        """What undoing the version would bring back; None when the pointer has not moved."""
        async with (
            borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn,
            conn.cursor(row_factory=class_row(UndoGoal)) as cursor,
        ):
            return await (await cursor.execute(QUERIES["undo_goal"])).fetchone()

    async def _require_unmoved(self, conn: Connection, tenant: str, expected: Mapping[str, object]) -> None:
        (revision,) = (await row_of(conn, QUERIES["pointer"], {}))[-1:]
        (snapshot,) = await row_of(conn, QUERIES["snapshot"], {"tenant": tenant})
        for name, now in (("expected_revision", revision), ("expected_snapshot", snapshot)):
            if expected[name] not in (None, now):
                raise PointerMovedError(
                    f"{name}: the knowledge rail is at {now}, not {expected[name]}; read it again"
                )

    async def _undo_publish(self, conn: Connection, tenant: str, expected: Mapping[str, object]) -> Undone:
        row = await (await conn.execute(QUERIES["undo_publish"], {"tenant": tenant, **expected})).fetchone()
        if row is None:
            await self._require_unmoved(conn, tenant, expected)
            raise NothingToUndoError(f"nothing to undo: tenant {tenant!r} has published nothing")
        # After the move, so that a version declared filled meanwhile is seen; refusing takes the move back.
        await conn.execute(QUERIES["enter_with_all_principals"])
        (lacking,) = await row_of(conn, QUERIES["lacking_versions"], {"tenant": tenant})
        if lacking:
            raise SnapshotNotFilledError(
                f"snapshot {row[0]} of tenant {tenant!r} is not whole in {', '.join(lacking)}, "
                "which became ready while that publish was undone: ingest its articles again"
            )
        return Undone(what="publish", before=str(row[1]), after=str(row[0]))

    async def _undo_version(self, conn: Connection, tenant: str, expected: Mapping[str, object]) -> Undone:
        before = await row_of(conn, QUERIES["pointer"], {})
        await conn.execute(QUERIES["operation"], {"operation": "undo"})
        after = await (await conn.execute(QUERIES["undo_version"], expected)).fetchone()
        if after is None:
            await self._require_unmoved(conn, tenant, expected)
            if await (await conn.execute(QUERIES["undo_goal"])).fetchone():
                raise PointerMovedError
            raise NothingToUndoError(
                "nothing to undo: the version pointer has not moved since the first version became stable"
            )
        if before[0] != after[0]:
            return Undone(what="version", before=before[0], after=after[0])
        return Undone(what="version", before=before[1] or before[0], after=after[1] or after[0])

    async def _move(self, operation: str, params: Mapping[str, object]) -> Pointer:
        async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn, conn.transaction():
            await conn.execute(QUERIES["operation"], {"operation": operation})
            if operation == "promote":
                await conn.execute(QUERIES["retire_replaced"], params)
            async with conn.cursor(row_factory=class_row(Pointer)) as cursor:
                pointer = await (await cursor.execute(QUERIES[operation], params)).fetchone()
                if pointer is None:
                    await self._explain_refusal(conn, params["version"])
                    # A move to where the pointer stands already is a success that moves nothing.
                    pointer = await (await cursor.execute(QUERIES["pointer"])).fetchone()
            if pointer is None or pointer.stable is None:
                raise NoStableVersionError
            return pointer

    async def _explain_refusal(self, conn: Connection, version: object) -> None:
        if version is None:
            return
        known = {entry.id: entry for entry in await _versions(conn)}
        if str(version) not in known:
            raise UnknownVersionError(
                f"version: no index version {version}; known: {', '.join(known) or 'none'}"
            )
        state = known[str(version)].state
        if state is VersionState.READY:
            return
        (lacking,) = await row_of(conn, QUERIES["unfilled_tenants"], {"version": version})
        told = f"; {len(lacking)} tenant(s) have content that it lacks" if lacking else ""
        raise VersionNotReadyError(
            f"version: {version} is {state}{told}: run an ingest of each tenant to fill it first"
        )


async def _versions(conn: Connection) -> list[KnowledgeVersion]:
    cursor = await conn.execute(QUERIES["versions"])
    names = [column.name for column in cursor.description or ()]
    return [version_of(dict(zip(names, row, strict=True))) for row in await cursor.fetchall()]


def version_of(row: Mapping[str, object]) -> KnowledgeVersion:
    """A version from its row."""
    parts = {
        **row,
        "state": VersionState(str(row["state"])),
        "calibration": Calibration.from_definition(row["calibration"]),  # type: ignore[arg-type]
    }
    return KnowledgeVersion(**parts)  # type: ignore[arg-type]


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
            metadata=hit["metadata"],
        )
        for rank, hit in enumerate(body["hits"], start=1)
    )
    return Found(
        hits=hits,
        snapshot=body["snapshot"],
        mode=body["mode"],
        candidates=body["candidates"],
        underfilled=body["underfilled"],
        top_dense=body["top_dense"],
        lexical_unit=body["lexical_unit"],
    )


def _date(value: str | None) -> date | None:
    return date.fromisoformat(value) if value else None
