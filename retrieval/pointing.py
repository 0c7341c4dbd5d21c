"""Index versions and the pointer: what there is, what is live, and every move of it.

Each move is one statement on one row, sent in one round trip with its lock: a reader sees the old state or
the new one, and waits for neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from psycopg.rows import class_row

from retrieval.confidence import Calibration
from retrieval.connections import Connection, Pool, borrowed, row_of
from retrieval.errors import (
    CanaryError,
    NoStableVersionError,
    NothingLeftError,
    NothingToUndoError,
    PointerMovedError,
    UnknownVersionError,
    VersionInReachError,
    VersionNotReadyError,
    VersionRetiredError,
)
from retrieval.partitions import DEFAULT_RESOURCES, IndexResources, index_partition, sweep
from retrieval.sql import named_queries
from retrieval.versions import (
    KnowledgeVersion,
    Pointer,
    TenantFacts,
    UndoGoal,
    Undone,
    VersionFacts,
    VersionState,
)

QUERIES = named_queries("retrieval.sql", "pointing.sql")
SESSION = named_queries("retrieval.sql", "queries.sql")

Move = Literal["publish", "version"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """What retiring a version did."""

    version: str
    #: Bytes of its chunks and indexes.
    freed_bytes: int


class VersionStore:
    """Versions and pointer in schema `retrieval`. The pool is the caller's, who opens and closes it."""

    def __init__(self, pool: Pool, *, acquire_timeout_s: float = 2.0) -> None:
        self.pool = pool
        self.acquire_timeout_s = acquire_timeout_s

    # ---- versions --------------------------------------------------------------------------------

    async def versions(self) -> list[KnowledgeVersion]:
        """Every index version, oldest first."""
        async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn:
            return await _versions(conn)

    async def version(self, version_id: str) -> KnowledgeVersion:
        """One index version."""
        async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn:
            return await _known(conn, version_id)

    async def facts(self) -> list[VersionFacts]:
        """Every index version with its part in the rail, its size, and per tenant what it holds."""
        async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn, conn.transaction():
            versions = await _versions(conn)
            roles = dict(await (await conn.execute(QUERIES["roles"])).fetchall())
            sizes = dict(await (await conn.execute(QUERIES["partition_sizes"])).fetchall())
            rows = await (await conn.execute(QUERIES["facts"])).fetchall()
        tenants: dict[str, dict[str, TenantFacts]] = {}
        for version, tenant, chunks, earliest, filled, wanted in rows:
            tenants.setdefault(version, {})[tenant] = TenantFacts(
                chunks=chunks, earliest=earliest, filled=filled, wanted=wanted
            )
        return [
            VersionFacts(
                version=version,
                roles=tuple(sorted(roles.get(version.id, ()))),
                size_bytes=sizes[version.id],
                tenants=tenants.get(version.id, {}),
            )
            for version in versions
        ]

    async def register(self, version: KnowledgeVersion) -> None:
        """Make room for an index version, which `build` fills; a known one stays as it is.

        From here on every publish writes it. A retired one begins anew.
        """
        async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn, conn.transaction():
            await conn.execute(QUERIES["lock_versions"])
            await conn.execute(QUERIES["register"], version.row())

    async def make_ready(
        self, version_id: str, *, resources: IndexResources = DEFAULT_RESOURCES
    ) -> tuple[str, ...]:
        """Make the indexes of a filled version and let it take traffic; or return the tenants that it lacks.

        No lock is needed for the look at the tenants: what a version holds whole, publishes keep whole.
        """
        async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn:
            lacking = await _lacking(conn, version_id)
            if lacking:
                return lacking
            await index_partition(conn, version_id, resources)
            await conn.execute(QUERIES["set_ready"], {"version": version_id})
        return ()

    async def retire(self, version_id: str) -> Retired:
        """Give up a version that no traffic can reach, and free what it holds; it can be built again.

        Searches of other versions go on meanwhile. If this is broken off, the version is retired already, and
        the next call for any version frees the rest.
        """
        async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn:
            async with conn.transaction():
                # In this order: a publish waits for neither, a move for both.
                await conn.execute(QUERIES["lock_versions"])
                await conn.execute(QUERIES["lock_pointer"])
                await _known(conn, version_id)
                roles = dict(await (await conn.execute(QUERIES["roles"])).fetchall())
                require_retirable(version_id, roles.get(version_id, ()))
                sizes = dict(await (await conn.execute(QUERIES["partition_sizes"])).fetchall())
                await conn.execute(QUERIES["retire"], {"version": version_id})
            await sweep(conn)
        return Retired(version=version_id, freed_bytes=sizes[version_id])

    # ---- pointer ---------------------------------------------------------------------------------

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

    async def set_shadow(self, version: str | None) -> Pointer:
        """Name the version that is compared with the live one out of the customers' sight; None ends it."""
        pointer = await self.pointer()
        if version is not None and version in (pointer.stable, pointer.canary):
            raise CanaryError(f"version: {version} takes traffic already; a shadow must be another version")
        return await self._move("set_shadow", {"version": version})

    async def promote(self, version: str) -> Pointer:
        """Make a version stable, in one statement; the old one is kept as previous, and kept written."""
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
        may_empty: bool = True,
    ) -> Undone:
        """Take back the tenant's last publish or the pointer's last move; None is whichever came last.

        With what the caller saw as `expected_...`, a call that is sent again after it went through is refused
        and not done twice. Unless it `may_empty` the rail, the first publish of all is not taken back.
        """
        expected = {
            "tenant": tenant,
            "may_empty": may_empty,
            "expected_revision": expected_revision,
            "expected_snapshot": expected_snapshot,
        }
        async with borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn:
            what = what or await _last_move(conn, expected)
            if what == "publish":
                return await _undo_publish(conn, expected)
            return await _undo_version(conn, expected)

    async def undo_goal(self) -> UndoGoal | None:
        """What undoing the version would bring back; None when the pointer has not moved."""
        async with (
            borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn,
            conn.cursor(row_factory=class_row(UndoGoal)) as cursor,
        ):
            return await (await cursor.execute(QUERIES["undo_goal"])).fetchone()

    async def _move(
        self, operation: Literal["promote", "set_canary", "set_shadow"], params: Mapping[str, object]
    ) -> Pointer:
        """One round trip: what comes between lock and commit is waited for by nobody but the next move."""
        async with (
            borrowed(self.pool, timeout_s=self.acquire_timeout_s) as conn,
            conn.cursor(row_factory=class_row(Pointer)) as cursor,
        ):
            async with conn.pipeline():
                await conn.execute(QUERIES["lock_pointer"])
                await conn.execute(QUERIES["operation"], {"operation": operation})
                await cursor.execute(QUERIES[operation], params)
            pointer = await cursor.fetchone()
            if pointer is None:
                async with conn.transaction():
                    await conn.execute(QUERIES["lock_pointer"])
                    await _explain_refusal(conn, params["version"])
                    # A move to where the pointer stands already is a success that moves nothing.
                    pointer = await (await cursor.execute(QUERIES["pointer"])).fetchone()
            if pointer is None or pointer.stable is None:
                raise NoStableVersionError
            return pointer


async def _last_move(conn: Connection, expected: Mapping[str, object]) -> Move:
    """Which of the two came last."""
    async with conn.transaction():
        await conn.execute(SESSION["enter"], expected)
        publish, version = await row_of(conn, QUERIES["moves"], expected)
    if publish is None and version is None:
        raise NothingToUndoError(
            f"nothing to undo: tenant {expected['tenant']!r} has published nothing, "
            "and the version pointer has not moved"
        )
    return "publish" if (publish or 0) > (version or 0) else "version"


async def _undo_publish(conn: Connection, expected: Mapping[str, object]) -> Undone:
    async with conn.pipeline():
        await conn.execute(SESSION["enter"], expected)
        undone = await conn.execute(QUERIES["undo_publish"], expected)
    row = await undone.fetchone()
    if row is None:
        await _require_unmoved(conn, expected)
        async with conn.transaction():
            await conn.execute(SESSION["enter"], expected)
            (would_empty,) = await row_of(conn, QUERIES["would_empty"], expected)
        if would_empty:
            raise NothingLeftError(
                f"tenant {expected['tenant']!r} has one publish, and without it no document: every question "
                "would be abstained from; publish what is right, or take it back with `force`"
            )
        raise NothingToUndoError(f"nothing to undo: tenant {expected['tenant']!r} has published nothing")
    return Undone(what="publish", before=str(row[1]), after=str(row[0]))


async def _undo_version(conn: Connection, expected: Mapping[str, object]) -> Undone:
    async with conn.pipeline():
        await conn.execute(SESSION["enter"], expected)
        await conn.execute(QUERIES["lock_pointer"])
        seen = await conn.execute(QUERIES["pointer"])
        await conn.execute(QUERIES["operation"], {"operation": "undo"})
        undone = await conn.execute(QUERIES["undo_version"], expected)
    before, after = await seen.fetchone(), await undone.fetchone()
    if before is None or after is None:
        await _require_unmoved(conn, expected)
        if await (await conn.execute(QUERIES["undo_goal"])).fetchone():
            raise PointerMovedError
        raise NothingToUndoError(
            "nothing to undo: the version pointer has not moved since the first version became stable"
        )
    if before[0] != after[0]:
        return Undone(what="version", before=before[0], after=after[0])
    return Undone(what="version", before=before[1] or before[0], after=after[1] or after[0])


async def _require_unmoved(conn: Connection, expected: Mapping[str, object]) -> None:
    async with conn.transaction():
        await conn.execute(SESSION["enter"], expected)
        revision, snapshot = await row_of(conn, QUERIES["seen"], expected)
    for name, now in (("expected_revision", revision), ("expected_snapshot", snapshot)):
        if expected[name] not in (None, now):
            raise PointerMovedError(
                f"{name}: the knowledge rail is at {now}, not {expected[name]}; read it again"
            )


async def _explain_refusal(conn: Connection, version: object) -> None:
    if version is None:
        return
    known = await _known(conn, str(version))
    if known.state is VersionState.BUILDING:
        lacking = await _lacking(conn, known.id)
        told = f"; {len(lacking)} tenant(s) have content that it lacks" if lacking else ""
        raise VersionNotReadyError(
            f"version: {known.id} is not built to its end{told}; go on with "
            f"`twinrail knowledge build {known.id}`"
        )


async def _lacking(conn: Connection, version_id: str) -> tuple[str, ...]:
    async with conn.transaction():
        (lacking,) = await row_of(conn, QUERIES["unfilled_tenants"], {"version": version_id})
    return tuple(lacking)


async def _known(conn: Connection, version_id: str) -> KnowledgeVersion:
    """The version of that id, unless it is retired."""
    known = {version.id: version for version in await _versions(conn)}
    if version_id not in known:
        raise UnknownVersionError(
            f"version: no index version {version_id}; known: {', '.join(known) or 'none'}"
        )
    if known[version_id].state is VersionState.RETIRED:
        raise VersionRetiredError(
            f"version: {version_id} is retired and its chunks are gone; "
            f"`twinrail knowledge build {version_id}` builds it again"
        )
    return known[version_id]


async def _versions(conn: Connection) -> list[KnowledgeVersion]:
    cursor = await conn.execute(QUERIES["versions"])
    names = [column.name for column in cursor.description or ()]
    return [version_of(dict(zip(names, row, strict=True))) for row in await cursor.fetchall()]


def version_of(row: Mapping[str, Any]) -> KnowledgeVersion:
    """A version from its row."""
    parts = {
        **row,
        "state": VersionState(row["state"]),
        "calibration": Calibration.from_definition(row["calibration"]),
    }
    return KnowledgeVersion(**parts)


def require_retirable(version_id: str, roles: Sequence[str]) -> None:
    """Raise if traffic can reach the version: what an undo leads to must be there."""
    if roles:
        names = {"undo": "what an undo brings back", "previous": "the previous stable version"}
        told = " and ".join(names.get(role, f"the {role} version") for role in sorted(roles))
        raise VersionInReachError(
            f"version: {version_id} is {told} and cannot be retired; "
            "move traffic away from it first, and once more if an undo leads back to it"
        )
