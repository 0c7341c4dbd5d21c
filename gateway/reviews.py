"""The review queue in PostgreSQL: turns that wait for a person, what readers said, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from gateway.access import ApiKey, Scope
from gateway.database import Cursor, Database
from gateway.errors import ConflictError, NotFoundError
from gateway.labels import ask_for_review
from gateway.reviewing import (
    Reading,
    Reason,
    ReviewState,
    require_turn_to_read,
    standing,
    visible,
    wants_second,
)
from gateway.sql import load_queries

Row = Mapping[str, Any]

QUERIES: Final = load_queries("reviews.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFilter:
    """Which reviews are wanted; what is None is not asked for."""

    reason: str | None = None
    label: str | None = None
    cluster: str | None = None
    state: str | None = None
    ending: str | None = None
    #: When the question was asked.
    since: datetime | None = None
    until: datetime | None = None
    #: Only those that the asking key has not read.
    unread: bool = False


class ReviewStore:
    """Reads the queue and takes readings. A key sees the reviews of the turns that it may see."""

    def __init__(self, database: Database, *, second_share: float) -> None:
        self._database = database
        self._second_share = second_share

    async def ask(self, tenant: str, turn_id: UUID, reason: Reason) -> None:
        """Put a turn into the queue; for the same reason once more changes nothing."""
        async with self._database.transaction(tenant) as cursor:
            await ask_for_review(cursor, tenant, turn_id, reason)

    async def queue(
        self, key: ApiKey, wanted: QueueFilter, *, limit: int, after: UUID | None = None
    ) -> list[Row]:
        """The oldest first."""
        return await self._all(key, "queue", {**asdict(wanted), "limit": limit, "after": after})

    async def progress(self, key: ApiKey, wanted: QueueFilter) -> list[Row]:
        """Counts by state and ending, of reviews in any state."""
        return await self._all(key, "progress", asdict(wanted))

    async def clusters(self, key: ApiKey) -> list[str]:
        """Clusters of the queue, by name."""
        return [row["cluster"] for row in await self._all(key, "clusters", {})]

    async def gaps(self, key: ApiKey, *, limit: int) -> list[Row]:
        """Questions of closed reviews that ended as knowledge gaps, by the article that is missing."""
        return await self._all(key, "gaps", {"limit": limit})

    async def review(self, key: ApiKey, turn_id: UUID) -> tuple[Row, list[Reading]] | None:
        """A review with the readings that the key may see."""

        async def select(cursor: Cursor) -> tuple[Row, list[Reading]] | None:
            await cursor.execute(QUERIES["review"], {"turn_id": turn_id, "key_id": key.id})
            row = await cursor.fetchone()
            if row is None:
                return None
            readings = await _readings(cursor, turn_id)
            return row, visible(readings, state=ReviewState(row["state"]), me=key.id)

        return await self._database.read(key.tenant, select)

    async def read(self, key: ApiKey, turn_id: UUID, reading: Mapping[str, Any]) -> None:
        """Take what the key says of a turn; its last word counts until another reader has spoken too."""
        async with self._database.transaction(key.tenant) as cursor:
            state = await _held(cursor, turn_id)
            require_turn_to_read(
                await _readings(cursor, turn_id), state=state, me=key.id, settles=reading["settles"]
            )
            await cursor.execute(
                QUERIES["insert_reading"],
                {
                    **reading,
                    "turn_id": turn_id,
                    "tenant": key.tenant,
                    "key_id": key.id,
                    "reader": key.name,
                },
            )
            await self._settle(cursor, turn_id)

    async def undo(self, key: ApiKey, turn_id: UUID) -> None:
        """Take back the key's last reading; the one before it counts again."""
        async with self._database.transaction(key.tenant) as cursor:
            await _held(cursor, turn_id)
            await cursor.execute(QUERIES["undo_reading"], {"turn_id": turn_id, "key_id": key.id})
            if await cursor.fetchone() is None:
                raise ConflictError(
                    "This key has said nothing about the turn that it could take back.",
                    field="id",
                    fix="Undo with the key that gave the reading.",
                )
            await self._settle(cursor, turn_id)

    async def _settle(self, cursor: Cursor, turn_id: UUID) -> None:
        second = wants_second(turn_id, self._second_share)
        now = standing(await _readings(cursor, turn_id), second=second)
        final = now.final
        await cursor.execute(
            QUERIES["set_standing"],
            {
                "turn_id": turn_id,
                "state": now.state.value,
                "readers": now.readers,
                "same_label": now.same_label,
                "same_ending": now.same_ending,
                "ending": final.ending.value if final else None,
                "label": final.label if final else None,
                "sub": final.sub if final else None,
                "note": final.note if final else None,
                "corrected_answer": final.corrected_answer if final else None,
                "closed_by": final.reader if final else None,
                "closed_at": final.created_at if final else None,
            },
        )

    async def _all(self, key: ApiKey, query: str, params: Mapping[str, Any]) -> list[Row]:
        seen = {
            "key_id": key.id,
            "principals": list(key.principals),
            "sees_all": key.allows(Scope.ADMIN),
        }

        async def select(cursor: Cursor) -> list[Row]:
            await cursor.execute(QUERIES[query], {**params, **seen})
            return list(await cursor.fetchall())

        return await self._database.read(key.tenant, select)


async def _held(cursor: Cursor, turn_id: UUID) -> ReviewState:
    """The state of a review that nobody else can change until the transaction ends."""
    await cursor.execute(QUERIES["hold_review"], {"turn_id": turn_id})
    row = await cursor.fetchone()
    if row is None:
        raise NotFoundError(
            f"There is no review of the turn {turn_id}.", field="id", fix="List them: GET /v1/reviews."
        )
    return ReviewState(row["state"])


async def _readings(cursor: Cursor, turn_id: UUID) -> Sequence[Reading]:
    await cursor.execute(QUERIES["readings"], {"turn_id": turn_id})
    return [Reading.of_row(row) for row in await cursor.fetchall()]
