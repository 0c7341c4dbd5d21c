"""The registry of model versions and the pointer that says which of them is which arm.

The only place with SQL of this package. Registering is idempotent by id; every move of the pointer is one
statement, so two people who promote and undo at the same moment leave one of both states and never a mixture.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Json, Jsonb
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from serving.adapter_configs import ADAPTER_CONFIG
from serving.errors import (
    AdapterFileError,
    CanaryError,
    ManifestError,
    NoStableVersionError,
    NothingToUndoError,
    NotReleasableError,
    PointerMovedError,
    RegistryUnavailableError,
    UnknownModelVersionError,
    VersionConflictError,
    VersionInReachError,
    VersionRetiredError,
    VersionUnreadableError,
    WeightError,
)
from serving.manifests import Manifest, other_use, require_readable
from serving.sql import QUERIES
from serving.versions import (
    ModelVersion,
    Pointer,
    RegisteredVersion,
    UndoGoal,
    UnreadableVersion,
    canonical_json,
)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionEvent:
    """What somebody did with a version beside moving the pointer; append-only."""

    at: datetime
    action: str
    by: str
    reason: str


class ModelRegistry:
    """Versions and pointer of the model rail in PostgreSQL."""

    def __init__(self, pool: AsyncConnectionPool[AsyncConnection[Any]]) -> None:
        self._pool = pool

    async def pointer(self) -> Pointer:
        """Which version is which arm now."""
        row = await self._one("pointer", {})
        return _pointer(row)

    async def versions(self) -> list[RegisteredVersion]:
        """All versions that can be read, oldest first: one damaged row must not take away the others."""
        found = [_read(row) for row in await self._all("versions", {})]
        return [each for each in found if isinstance(each, RegisteredVersion)]

    async def unreadable(self) -> list[UnreadableVersion]:
        """The rows that cannot be read, oldest first, each with the reason."""
        found = [_read(row) for row in await self._all("versions", {})]
        return [each for each in found if isinstance(each, UnreadableVersion)]

    async def version(self, version_id: str) -> RegisteredVersion:
        """The version of that id; raises UnknownModelVersionError or VersionUnreadableError."""
        return _registered(await self._row(version_id))

    async def register(
        self,
        version: ModelVersion,
        *,
        manifest: Mapping[str, Any] | None = None,
        served_name: str | None = None,
        releasable: bool = True,
        forced_because: str = "",
        author: str = "",
    ) -> RegisteredVersion:
        """Add a version. The same version again changes nothing and returns what is there.

        `manifest` is what the caller knows beside the identity, such as a run record and an adapter's facts;
        `Manifest` says what becomes of it. `forced_because` is why it is releasable although no gate passed
        it.
        """
        definition = canonical_json(version.definition())
        forced = bool(forced_because)
        made = Manifest.of(version, manifest or {}, author=author, forced=forced)
        values = {
            "id": version.id,
            "name": version.name,
            "definition": Json(version.definition(), dumps=canonical_json),
            "manifest": Jsonb(made.as_json()),
            "served_name": served_name or version.id,
            "releasable": releasable or forced,
            "forced": forced,
            "reason": forced_because,
            "author": author,
            "created_at": made.created_at,
        }
        async with self._cursor() as cursor, cursor.connection.transaction():
            # Of two who register the same weights at once, the later one sees how the first uses them.
            await cursor.execute(QUERIES["lock_pointer"])
            await _require_same_use(cursor, version, made.as_json())
            await cursor.execute(QUERIES["register"], values)
            row = await cursor.fetchone()
        if row is None:
            # A concurrent register committed between the two halves of the statement.
            return await self.version(version.id)
        if canonical_json(row["definition"]) != definition:
            raise VersionConflictError(
                f"{version.id} is registered with another definition (8-digit collision)"
            )
        return _registered(row)

    async def require_same_use(self, version: ModelVersion, facts: Mapping[str, Any]) -> None:
        """Refuse weights that are registered already with another rank, alpha or other layers.

        An adapter is known by the digest of its weights, and `facts` is what its configuration makes of them:
        two uses of one digest would be two contents under one name. Raises AdapterFileError.
        """
        async with self._cursor() as cursor:
            await _require_same_use(cursor, version, facts)

    async def make_releasable(
        self,
        version_id: str,
        *,
        by: str,
        reason: str,
        forced: bool = False,
        metrics: Mapping[str, Any] | None = None,
    ) -> RegisteredVersion:
        """Let a candidate take traffic: because a gate passed it, or `forced` because a person insists.

        The reason is kept: the verdict, or the person's words. A version that is releasable stays as it is.
        """
        version = await self.version(version_id)
        if version.retired_at is not None:
            raise VersionRetiredError(_retired(version_id))
        values = {"id": version_id, "by": by, "reason": reason, "forced": forced}
        row = await self._one("make_releasable", {**values, "metrics": Jsonb(dict(metrics or {}))})
        return _registered(row) if row else await self.version(version_id)

    async def roles(self) -> dict[str, tuple[str, ...]]:
        """Version id -> what it is needed for: its arms, `undo`, `staged`. The others are not in it."""
        found: dict[str, tuple[str, ...]] = {}
        for row in await self._all("roles", {"id": None}):
            found[row["version"]] = (*found.get(row["version"], ()), row["role"])
        return found

    async def retire(
        self, version_id: str, *, by: str, reason: str = ""
    ) -> RegisteredVersion | UnreadableVersion:
        """Give up a version that nothing needs, also one whose row was damaged. It stays known, because turns
        name it.

        Refused while it is an arm, staged, or where an undo leads. Retiring it again changes nothing.
        """
        await self._row(version_id)
        values = {"id": version_id, "by": by, "reason": reason, "retired": True}
        async with self._cursor() as cursor, cursor.connection.transaction():
            # Nobody moves the pointer from here on until the version is retired.
            await cursor.execute(QUERIES["lock_pointer"])
            await cursor.execute(QUERIES["roles"], {"id": version_id})
            roles = [row["role"] for row in await cursor.fetchall()]
            if roles:
                raise VersionInReachError(_in_reach(version_id, roles))
            await cursor.execute(QUERIES["set_retired"], values)
        return _read(await self._row(version_id))

    async def revive(self, version_id: str, *, by: str, reason: str = "") -> RegisteredVersion:
        """Bring a retired version back; one that is not retired stays as it is."""
        values = {"id": version_id, "by": by, "reason": reason, "retired": False}
        row = await self._one("set_retired", values)
        return _registered(row) if row else await self.version(version_id)

    async def note_forced_move(self, version_id: str, *, by: str, reason: str) -> None:
        """Keep that somebody gave a version traffic although something was against it."""
        values = {"id": version_id, "action": "promoted_by_force", "by": by, "reason": reason}
        async with self._cursor() as cursor:
            await cursor.execute(QUERIES["note_event"], values)

    async def events(self, version_id: str, *, limit: int = 20) -> list[VersionEvent]:
        """What was done with a version beside moving the pointer, newest first."""
        rows = await self._all("events", {"id": version_id, "limit": limit})
        return [
            VersionEvent(at=row["at"], action=row["action"], by=row["by"], reason=row["reason"])
            for row in rows
        ]

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
        return [Move(**row) for row in await self._all("history", {"limit": limit})]

    async def moves_of(self, version_id: str, *, limit: int = 20) -> list[Move]:
        """The moves that gave the version a part or took it away, newest first."""
        return [Move(**row) for row in await self._all("moves_of", {"id": version_id, "limit": limit})]

    async def _releasable(self, version_id: str) -> None:
        version = await self.version(version_id)
        if version.retired_at is not None:
            raise VersionRetiredError(_retired(version_id))
        if not version.releasable:
            raise NotReleasableError(
                f"{version_id} is a candidate: no gate has passed it, so it takes no traffic; "
                "evaluate it, or force it with a reason (`twinrail tune register --force --reason`)"
            )

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

    async def _row(self, version_id: str) -> DictRow:
        row = await self._one("version", {"id": version_id})
        if row is None:
            raise UnknownModelVersionError(
                f"model version {version_id!r} is not registered; "
                "`twinrail model versions` lists those that are"
            )
        return row

    async def _one(self, query: str, values: Mapping[str, Any]) -> DictRow | None:
        async with self._cursor() as cursor:
            try:
                await cursor.execute(QUERIES[query], values)
            except psycopg.errors.CheckViolation as exc:
                if exc.diag.constraint_name == "pointer_canary_not_stable_v1":
                    raise CanaryError from exc
                if exc.diag.constraint_name == "pointer_arms_live_v1":
                    raise VersionRetiredError(
                        f"{exc.diag.message_primary}: it was retired meanwhile; choose another version"
                    ) from exc
                raise
            return await cursor.fetchone()

    async def _all(self, query: str, values: Mapping[str, Any]) -> list[DictRow]:
        async with self._cursor() as cursor:
            await cursor.execute(QUERIES[query], values)
            return await cursor.fetchall()

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


async def _require_same_use(
    cursor: psycopg.AsyncCursor[DictRow], version: ModelVersion, facts: Mapping[str, Any]
) -> None:
    if version.adapter_digest is None:
        return
    await cursor.execute(QUERIES["uses_of_adapter"], {"digest": version.adapter_digest})
    for found in map(_read, await cursor.fetchall()):
        if isinstance(found, UnreadableVersion):
            continue  # says nothing
        if (other := other_use(facts, found.manifest)) is not None:
            raise AdapterFileError(
                f"{other.field}: is {other.given}, and {found.id} is registered with the same weights and "
                f"{other.recorded}: a version never changes; restore {ADAPTER_CONFIG} as it was trained, or "
                "train the adapter with what it is to have"
            )


def _pointer(row: DictRow | None) -> Pointer:
    if row is None or row["stable"] is None:
        raise NoStableVersionError
    return Pointer(**row)


def _read(row: DictRow) -> RegisteredVersion | UnreadableVersion:
    try:
        return _registered(row)
    except VersionUnreadableError as exc:
        return UnreadableVersion(
            id=row["id"],
            reason=str(exc),
            author=row["author"],
            created_at=row["created_at"],
            retired_at=row["retired_at"],
        )


def _registered(row: DictRow) -> RegisteredVersion:
    try:
        version = ModelVersion.from_definition(row["definition"])
        found = version.id
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as exc:
        raise VersionUnreadableError(_damaged(row["id"], f"definition: {exc!r}")) from exc
    if found != row["id"]:
        raise VersionUnreadableError(_damaged(row["id"], f"definition: hashes to {found}"))
    try:
        require_readable(row["manifest"], version)
    except ManifestError as exc:
        raise VersionUnreadableError(_damaged(row["id"], str(exc))) from exc
    return RegisteredVersion(
        version=version,
        served_name=row["served_name"],
        manifest=row["manifest"],
        releasable=row["releasable"],
        author=row["author"],
        created_at=row["created_at"],
        forced=row["forced"],
        retired_at=row["retired_at"],
    )


def _damaged(version_id: str, what: str) -> str:
    return (
        f"version: {version_id} cannot be read: {what}; restore its row of serving.model_version from a "
        "backup, or give its part to another version (`twinrail model promote`) and retire it"
    )


def _retired(version_id: str) -> str:
    return (
        f"{version_id} is retired, so it takes no part any more; "
        "`twinrail model register` with the same files and --revive --reason TEXT brings it back"
    )


def _in_reach(version_id: str, roles: Sequence[str]) -> str:
    """The reason, and what would take it away: another version in its place, one more move, or unstaging."""
    arms = [role for role in roles if role not in ("undo", "staged")]
    reasons = [f"it is {' and '.join(arms)}"] if arms else []
    fixes = ["give its part to another version"] if arms and arms != ["previous"] else []
    if "undo" in roles or "previous" in roles:
        reasons += ["an undo leads to it"] if "undo" in roles else []
        fixes.append("wait until the rail has moved on by one more version")
    if "staged" in roles:
        reasons.append("it is staged")
        fixes.append("let its promotion end")
    return f"{version_id} cannot be retired: {', and '.join(reasons)}; {', and '.join(fixes)} first"
