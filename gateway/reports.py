"""Reports of evaluation, and the verdicts of gates that whoever gives traffic asks, in PostgreSQL.

A report belongs to a tenant, a verdict to none: the version that it is about, and the pointer that it guards,
are everybody's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import orjson

from gateway.database import Cursor, Database
from gateway.errors import RecordsUnavailableError
from gateway.sql import load_queries

Row = Mapping[str, Any]

QUERIES: Final = load_queries("reports.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A report as people read it; `type` is `text/html` or `text/markdown`."""

    type: str
    text: str


def digest_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of a report's content: UTF-8 JSON with sorted keys and no spaces."""
    return sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


class ReportStore:
    """Keeps every content that a report ever had, and every verdict."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(
        self,
        tenant: str,
        name: str,
        *,
        kind: str,
        content: Mapping[str, Any],
        written_by: str,
        page: Page | None = None,
    ) -> Row:
        """Store a report under its name."""
        return await self._one(
            tenant,
            "put_report",
            {
                "tenant": tenant,
                "name": name,
                "sha256": digest_of(content),
                "kind": kind,
                "content": orjson.dumps(content).decode(),
                "page_type": page.type if page else None,
                "page": page.text if page else None,
                "written_by": written_by,
            },
        )

    async def latest(self, tenant: str, *, kind: str | None = None, limit: int = 100) -> list[Row]:
        """Reports without their content, newest first."""
        return await self._all(tenant, "reports", {"kind": kind, "limit": limit})

    async def read(self, tenant: str, name: str, *, sha256: str | None = None) -> Row | None:
        """The report's newest content, or the one with this digest."""
        found = await self._all(tenant, "report", {"name": name, "sha256": sha256})
        return found[0] if found else None

    async def give_verdict(
        self,
        rail: str,
        version: str,
        *,
        gate: str,
        verdict: str,
        report: str,
        sha256: str,
        given_by: str,
    ) -> Row:
        """Add a verdict; the newest of each gate counts."""
        return await self._one(
            None,
            "put_verdict",
            {
                "rail": rail,
                "version": version,
                "gate": gate,
                "verdict": verdict,
                "report": report,
                "sha256": sha256,
                "given_by": given_by,
            },
        )

    async def verdicts(self, rail: str, version: str | None = None) -> list[Row]:
        """The newest verdict of each gate on one version, or on every version of the rail."""
        return await self._all(None, "verdicts", {"rail": rail, "version": version})

    async def note_forced(self, rail: str, version: str, *, gates: Sequence[str], forced_by: str) -> None:
        """Record that a version was given traffic although these gates had refused it."""
        async with self._database.transaction(None) as cursor:
            await cursor.execute(
                QUERIES["put_forced_promotion"],
                {"rail": rail, "version": version, "gates": list(gates), "forced_by": forced_by},
            )

    async def forced(self, rail: str) -> list[Row]:
        """Traffic given against a refusal, newest first."""
        return await self._all(None, "forced_promotions", {"rail": rail})

    async def _one(self, tenant: str | None, query: str, params: Mapping[str, Any]) -> Row:
        async with self._database.transaction(tenant) as cursor:
            await cursor.execute(QUERIES[query], params)
            row = await cursor.fetchone()
        if row is None:
            raise RecordsUnavailableError
        return row

    async def _all(self, tenant: str | None, query: str, params: Mapping[str, Any]) -> list[Row]:
        async def select(cursor: Cursor) -> list[Row]:
            await cursor.execute(QUERIES[query], params)
            return list(await cursor.fetchall())

        return await self._database.read(tenant, select)
