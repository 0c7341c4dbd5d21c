"""Labels and scores of turns in PostgreSQL: what evaluation and people say of them, one tenant at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson

from gateway.database import Cursor, Database
from gateway.errors import RecordsUnavailableError
from gateway.reviewing import Reason
from gateway.sql import load_queries

Row = Mapping[str, Any]

QUERIES: Final = load_queries("labels.sql")
#: What makes two labels of a source the same one.
_CONTENT: Final = (
    *("label", "sub", "rule", "contributing", "checks"),
    *("criteria", "cluster", "reviewer", "note"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLabel:
    """The newest label of a source."""

    row: Row
    #: Whether it says something else than the one before.
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredScores:
    """All scores of a turn, and those that are new or say something else."""

    rows: list[Row]
    new: Sequence[Row]


class LabelStore:
    """Keeps every label, and of each source the newest counts; of each score the last value."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put_label(self, tenant: str, turn_id: UUID, label: Mapping[str, Any]) -> StoredLabel:
        """Add a label unless the newest of its source says the same.

        A failure that was found automatically is offered for review. If other criteria give another cause
        than the one that was reviewed, the review is opened again.
        """
        params = {
            **label,
            "turn_id": turn_id,
            "tenant": tenant,
            "contributing": orjson.dumps(label["contributing"]).decode(),
            "checks": orjson.dumps(label["checks"]).decode(),
        }
        async with self._database.transaction(tenant) as cursor:
            await cursor.execute(QUERIES["newest_label"], params)
            before = await cursor.fetchone()
            if before is not None and all(before[name] == label[name] for name in _CONTENT):
                return StoredLabel(row=before, is_new=False)
            await cursor.execute(QUERIES["insert_label"], params)
            row = await cursor.fetchone()
            if row is None:
                raise RecordsUnavailableError
            if label["source"] == "auto":
                if label["label"] is not None:
                    await ask_for_review(cursor, tenant, turn_id, Reason.LABELLED)
                if before is not None and _is_another_cause(before, row):
                    await cursor.execute(QUERIES["reopen_review"], {"turn_id": turn_id})
                    if await cursor.fetchone() is not None:
                        await cursor.execute(QUERIES["supersede_readings"], {"turn_id": turn_id})
        return StoredLabel(row=row, is_new=True)

    async def labels(self, tenant: str, turn_id: UUID) -> list[Row]:
        """The newest label of each source."""

        async def select(cursor: Cursor) -> list[Row]:
            await cursor.execute(QUERIES["labels_of_turn"], {"turn_id": turn_id})
            return list(await cursor.fetchall())

        return await self._database.read(tenant, select)

    async def put_scores(
        self, tenant: str, turn_id: UUID, scores: Sequence[Mapping[str, Any]]
    ) -> StoredScores:
        """Store scores by name."""
        params = {"turn_id": turn_id, "tenant": tenant, "scores": orjson.dumps(scores).decode()}
        async with self._database.transaction(tenant) as cursor:
            await cursor.execute(QUERIES["upsert_scores"], params)
            new = list(await cursor.fetchall())
            await cursor.execute(QUERIES["scores_of_turn"], params)
            return StoredScores(rows=list(await cursor.fetchall()), new=new)

    async def scores(self, tenant: str, turn_id: UUID) -> list[Row]:
        """Every score of the turn, by name."""

        async def select(cursor: Cursor) -> list[Row]:
            await cursor.execute(QUERIES["scores_of_turn"], {"turn_id": turn_id})
            return list(await cursor.fetchall())

        return await self._database.read(tenant, select)


async def ask_for_review(cursor: Cursor, tenant: str, turn_id: UUID, reason: Reason) -> None:
    """Put a turn into the review queue, or add the reason if it is there."""
    await cursor.execute(
        QUERIES["open_review"], {"turn_id": turn_id, "tenant": tenant, "reason": reason.value}
    )


def _is_another_cause(before: Row, after: Row) -> bool:
    changed = (before["label"], before["sub"]) != (after["label"], after["sub"])
    return changed and before["criteria"] != after["criteria"]
