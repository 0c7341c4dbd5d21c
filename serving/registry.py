"""The registry of model versions and the pointer that says which of them is which arm.

The only place with SQL of this package. Registering is idempotent by id; every move of the pointer is one
statement, so two people who promote and undo at the same moment leave one of both states and never a mixture.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Json, Jsonb
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from serving.errors import (
    CanaryError,
    NoStableVersionError,
    NothingToUndoError,
    NotReleasableError,
    PointerMovedError,
    RegistryUnavailableError,
    UnknownModelVersionError,
    VersionConflictError,
    WeightError,
)
from serving.sql import QUERIES
from serving.versions import ModelVersion, Pointer, RegisteredVersion, UndoGoal, canonical_json

FULL_WEIGHT_BP = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One move of the pointer, as the append-only history keeps it."""

    revision: int
    action: str
    stable: str | None
    canary: str | None
    canary_weight_bp: int
    previous: str | None
    shadow: str | None
    fallback: str | None
    moved_by: str
    moved_at: datetime


class ModelRegistry:
    """Versions and pointer of the model rail in PostgreSQL."""

    def __init__(self, pool: AsyncConnectionPool[AsyncConnection[Any]]) -> None:
        self._pool = pool

    async def pointer(self) -> Pointer:
        """Which version is which arm now."""
        row = await self._one("pointer", {})
        return _pointer(row)

    async def versions(self) -> list[RegisteredVersion]:
        """All versions, oldest first."""
        async with self._cursor() as cursor:
            await cursor.execute(QUERIES["versions"])
            return [_registered(row) for row in await cursor.fetchall()]

    async def version(self, version_id: str) -> RegisteredVersion:
        """The version of that id."""
        row = await self._one("version", {"id": version_id})
        if row is None:
            raise UnknownModelVersionError(
                f"model version {version_id!r} is not registered; `twinrail rails` lists those that are"
            )
        return _registered(row)

    async def register(
        self,
        version: ModelVersion,
        *,
        manifest: Mapping[str, Any],
        served_name: str | None = None,
        releasable: bool = True,
        author: str = "",
    ) -> RegisteredVersion:
        """Add a version. The same version again changes nothing and returns what is there."""
        definition = canonical_json(version.definition())
        row = await self._one(
            "register",
            {
                "id": version.id,
                "name": version.name,
                "definition": Json(version.definition(), dumps=canonical_json),
                "manifest": Jsonb(dict(manifest)),
                "served_name": served_name or version.id,
                "releasable": releasable,
                "author": author,
            },
        )
        if row is None:
            # A concurrent register committed between the two halves of the statement.
            return await self.version(version.id)
        if canonical_json(row["definition"]) != definition:
            raise VersionConflictError(
                f"{version.id} is registered with another definition (8-digit collision)"
            )
        return _registered(row)

    async def promote(self, version_id: str, *, expected_revision: int | None = None) -> Pointer:
        """Make a version stable; the stable one becomes previous, and the canary goes."""
        await self._releasable(version_id)
        return await self._move("promote", {"version": version_id}, expected_revision)

    async def set_canary(
        self, version_id: str | None, weight_bp: int, *, expected_revision: int | None = None
    ) -> Pointer:
        """Give a version a share of the traffic in basis points, or take the canary away with None."""
        if (
            isinstance(weight_bp, bool)
            or not isinstance(weight_bp, int)
            or not 0 <= weight_bp <= FULL_WEIGHT_BP
        ):
            raise WeightError(
                f"canary_weight_bp: {weight_bp!r} is not a whole number from 0 to {FULL_WEIGHT_BP}"
            )
        if version_id is None:
            if weight_bp:
                raise WeightError("canary_weight_bp: must be 0 when there is no canary")
        else:
            await self._releasable(version_id)
        return await self._move(
            "set_canary", {"version": version_id, "weight_bp": weight_bp}, expected_revision
        )

    async def set_fallback(self, version_id: str | None, *, expected_revision: int | None = None) -> Pointer:
        """Name the version that answers when the assigned one cannot."""
        if version_id is not None:
            await self._releasable(version_id)
        return await self._move("set_fallback", {"version": version_id}, expected_revision)

    async def undo(self, *, expected_revision: int | None = None) -> Pointer:
        """Bring back what took traffic before the last move, whatever that was. Twice is redo.

        With `expected_revision`, a call that is sent again after it went through is refused, not done twice.
        """
        return await self._move("undo", {}, expected_revision)

    async def undo_goal(self) -> UndoGoal | None:
        """What an undo would bring back; None when there is nothing to undo."""
        row = await self._one("undo_goal", {})
        return UndoGoal(**row) if row else None

    async def history(self, *, limit: int = 20) -> list[Move]:
        """The last moves of the pointer, newest first."""
        async with self._cursor() as cursor:
            await cursor.execute(QUERIES["history"], {"limit": limit})
            return [Move(**row) for row in await cursor.fetchall()]

    async def _releasable(self, version_id: str) -> None:
        version = await self.version(version_id)
        if not version.releasable:
            raise NotReleasableError(f"{version_id} is registered as not releasable, so it takes no traffic")

    async def _move(self, query: str, values: Mapping[str, Any], expected_revision: int | None) -> Pointer:
        row = await self._one(query, {**values, "expected_revision": expected_revision})
        if row is not None:
            return _pointer(row)
        now = await self._one("pointer", {})
        if expected_revision is not None and now is not None and now["revision"] != expected_revision:
            raise PointerMovedError(
                f"the model pointer is at revision {now['revision']}, not {expected_revision}: read it again"
            )
        if query == "undo":
            if await self.undo_goal() is None:
                raise NothingToUndoError
            raise PointerMovedError
        # A move to where the pointer stands already is a success that moves nothing.
        return _pointer(now)

    async def _one(self, query: str, values: Mapping[str, Any]) -> DictRow | None:
        async with self._cursor() as cursor:
            try:
                await cursor.execute(QUERIES[query], values)
            except psycopg.errors.CheckViolation as exc:
                if exc.diag.constraint_name == "pointer_canary_not_stable_v1":
                    raise CanaryError from exc
                raise
            return await cursor.fetchone()

    @asynccontextmanager
    async def _cursor(self) -> AsyncIterator[psycopg.AsyncCursor[DictRow]]:
        try:
            async with (
                self._pool.connection() as connection,
                connection.cursor(row_factory=dict_row) as cursor,
            ):
                yield cursor
        except (psycopg.OperationalError, PoolTimeout) as exc:
            raise RegistryUnavailableError(f"the database of the model rail does not answer: {exc}") from exc


def _pointer(row: DictRow | None) -> Pointer:
    if row is None or row["stable"] is None:
        raise NoStableVersionError
    return Pointer(**row)


def _registered(row: DictRow) -> RegisteredVersion:
    version = ModelVersion.from_definition(row["definition"])
    if version.id != row["id"]:
        raise VersionConflictError(f"{row['id']}: its definition in the database hashes to {version.id}")
    return RegisteredVersion(
        version=version,
        served_name=row["served_name"],
        manifest=row["manifest"],
        releasable=row["releasable"],
        author=row["author"],
        created_at=row["created_at"],
    )
