"""Turns and feedback in PostgreSQL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson
import psycopg

from gateway.access import ApiKey, Scope
from gateway.database import Cursor, Database
from gateway.errors import GatewayError, RecordsUnavailableError
from gateway.labels import ask_for_review
from gateway.reviewing import Reason
from gateway.sql import queries

Row = Mapping[str, Any]

#: What a list shows of a question.
QUESTION_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnFilter:
    """Which turns are wanted; what is None is not asked for."""

    since: datetime | None = None
    until: datetime | None = None
    pinned: bool | None = None
    conversation_id: str | None = None
    #: Of either rail, without its snapshot.
    version: str | None = None

    def takes(self, row: Row) -> bool:
        """Whether a turn that is not in the database yet is one of them."""
        asked = datetime.fromisoformat(row["created_at"])
        stamps = ((row["knowledge_version"] or "").partition("@")[0], row["model_version"])
        return (
            (self.since is None or asked >= self.since)
            and (self.until is None or asked < self.until)
            and self.pinned in (None, row["pinned"])
            and self.conversation_id in (None, row["conversation_id"])
            and (self.version is None or self.version in stamps)
        )


class UnstorableTurnError(GatewayError):
    """PostgreSQL refuses the content of a turn."""


class TurnStore:
    """Writes turns in batches and reads them back, each tenant by itself."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, rows: Sequence[Row]) -> None:
        """Write turns and the reviews they need, one statement a tenant; turns that are there already
        stay as they are."""
        by_tenant: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            by_tenant[row["tenant"]].append(row)
        for tenant, group in by_tenant.items():
            turns = orjson.dumps(group).decode().replace("\\u0000", "\\ufffd")  # jsonb has no NUL
            try:
                async with self._database.cursor() as cursor:
                    await cursor.execute(queries["write_turns"], {"tenant": tenant, "turns": turns})
            except (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError) as exc:
                raise UnstorableTurnError(str(exc).strip()) from exc

    async def read(self, tenant: str, turn_id: UUID) -> Row | None:
        """The turn, if it is the tenant's."""

        async def select(cursor: Cursor) -> Row | None:
            await cursor.execute(queries["turn"], {"id": turn_id})
            return await cursor.fetchone()

        return await self._database.read(tenant, select)

    async def latest(
        self, key: ApiKey, wanted: TurnFilter, *, limit: int, before: UUID | None = None
    ) -> list[Row]:
        """The last turns of the key's tenant that the key may see, newest first, without their texts."""

        async def select(cursor: Cursor) -> list[Row]:
            await cursor.execute(
                queries["latest_turns"],
                {
                    **asdict(wanted),
                    "limit": limit,
                    "before": before,
                    "question_characters": QUESTION_CHARACTERS,
                    "key_id": key.id,
                    "principals": list(key.principals),
                    "sees_all": key.allows(Scope.ADMIN),
                },
            )
            return list(await cursor.fetchall())

        return await self._database.read(key.tenant, select)

    async def drafts(self, tenant: str, versions: Sequence[str], *, limit: int) -> list[str]:
        """What these model versions wrote, as they wrote it: the last draft of each turn, newest first."""

        async def select(cursor: Cursor) -> list[Row]:
            await cursor.execute(queries["drafts"], {"versions": list(versions), "limit": limit})
            return list(await cursor.fetchall())

        return [str(row["text"]) for row in await self._database.read(tenant, select)]

    async def erase_document(self, tenant: str, document_id: str, *, dry_run: bool = False) -> int:
        """Take a document that was purged out of the tenant's turns; returns how many held it.

        Turns that began before and are written later lose it when they are written. Repeating is harmless.
        """
        params = {"tenant": tenant, "document": document_id, "dry_run": dry_run}
        async with self._database.transaction(tenant) as cursor:
            await cursor.execute(queries["erase_document"], params)
            row = await cursor.fetchone()
        if row is None:
            raise RecordsUnavailableError
        return int(row["turns"])

    async def give_feedback(
        self,
        tenant: str,
        *,
        turn_id: UUID,
        key_id: UUID,
        rating: str | None,
        comment: str | None,
        corrected_answer: str | None,
        label: str | None,
    ) -> Row:
        """Store what a key says about a turn; its last word counts. What is no praise, a person looks at."""
        async with self._database.transaction(tenant) as cursor:
            await cursor.execute(
                queries["upsert_feedback"],
                {
                    "turn_id": turn_id,
                    "key_id": key_id,
                    "tenant": tenant,
                    "rating": rating,
                    "comment": comment,
                    "corrected_answer": corrected_answer,
                    "label": label,
                },
            )
            row = await cursor.fetchone()
            if rating == "down" or corrected_answer or label:
                await ask_for_review(cursor, tenant, turn_id, Reason.NEGATIVE_FEEDBACK)
        if row is None:
            raise RecordsUnavailableError
        return row

    async def feedback(self, tenant: str, turn_id: UUID) -> list[Row]:
        """What was said about a turn, one row a key."""

        async def select(cursor: Cursor) -> list[Row]:
            await cursor.execute(queries["turn_feedback"], {"turn_id": turn_id})
            return list(await cursor.fetchall())

        return await self._database.read(tenant, select)
