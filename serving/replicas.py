"""What is known of the engines: which there are, what each holds and how far that is shown.

The tables are the one place that reconciler, gateways and command line agree on: each of them may be started
again at any time, and goes on from what is written here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from serving.errors import RegistryUnavailableError, UnknownModelVersionError, VersionRetiredError
from serving.sql import QUERIES as OF_THE_REGISTRY
from serving.sql import load_queries

QUERIES = load_queries(Path(__file__).parent / "sql" / "engines.sql")


class HoldingState(StrEnum):
    """How far a version has come on one engine. Only `probed` takes traffic."""

    WANTED = "wanted"
    LOADING = "loading"
    LISTED = "listed"
    PROBED = "probed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One engine as it was last seen."""

    url: str
    announced_by: str = ""
    #: False: it serves its weights as they are and loads nothing; None: nobody has said.
    takes_adapters: bool | None = None
    leaving: bool = False
    #: Changes with each start of the process; None while it does not answer.
    life: str | None = None
    build: str = ""
    reason: str = ""
    listed: tuple[str, ...] = ()
    #: Those of the listed names that are adapters, and the digests of the bases that it runs on.
    adapters: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()
    #: Adapters that no registered version accounts for.
    strange: tuple[str, ...] = ()
    #: How often it was looked at.
    looks: int = 0
    looked_at: datetime | None = None

    @property
    def is_live(self) -> bool:
        """Whether it answers and stays."""
        return self.life is not None and not self.leaving


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One version on one engine."""

    url: str
    version: str
    state: HoldingState
    reason: str = ""
    #: The life of the engine for which this holds.
    life: str = ""
    evidence: Mapping[str, Any] | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A version that engines are to hold, and why: its arms, `staged` or `undo`."""

    version: str
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """All engines and what they hold, as read at one moment."""

    replicas: tuple[Replica, ...] = ()
    holdings: tuple[Holding, ...] = ()
    wanted: tuple[Wanted, ...] = ()

    def holding(self, url: str, version: str) -> Holding | None:
        """What is known of a version on an engine."""
        return next((h for h in self.holdings if (h.url, h.version) == (url, version)), None)

    def merged(self, served_name: str) -> bool:
        """Whether a live engine serves the name as weights of its own."""
        return any(
            served_name in replica.listed and served_name not in replica.adapters
            for replica in self.replicas
            if replica.is_live
        )

    def is_shown(self, replica: Replica, version: str) -> bool:
        """Whether the probe of the version passed in this life of the engine."""
        held = self.holding(replica.url, version)
        return held is not None and held.state is HoldingState.PROBED and held.life == replica.life


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """Why one engine keeps a version from being routable."""

    url: str
    state: str
    reason: str

    def __str__(self) -> str:
        return f"{self.url}: {self.state}" + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What some weights made of the fixed probes."""

    adapter_digest: str
    form: str
    #: As `serving.probing` reads them: of each probe, what was written and what was likely, token by token.
    places: Sequence[Sequence[tuple[str, Mapping[str, float]]]] = field(repr=False)


class ReplicaStore:
    """The tables of the engines. The pool belongs to the caller."""

    def __init__(self, pool: AsyncConnectionPool[AsyncConnection[Any]]) -> None:
        self._pool = pool

    async def announce(self, urls: Mapping[str, bool | None], *, by: str, others_too: bool = False) -> None:
        """Say that these engines exist, and whether they take adapters; those that the same announcer named
        before are gone, unless `others_too`."""
        async with self._cursor() as cursor:
            # In one order, so that two who announce the same engines do not wait for each other.
            for url in sorted(urls):
                await cursor.execute(QUERIES["announce"], {"url": url, "by": by, "takes_adapters": urls[url]})
            if not others_too:
                await cursor.execute(QUERIES["withdraw"], {"by": by, "kept": list(urls)})

    async def leave(self, url: str) -> None:
        """Say that an engine will be stopped: what it holds no longer counts."""
        await self._run("leave", {"url": url})

    async def expire(self, older_than_s: float) -> None:
        """Forget engines whose announcers have fallen silent."""
        await self._run("expire", {"older_than_s": older_than_s})

    async def fleet(self) -> Fleet:
        """Everything, in one transaction."""
        async with self._cursor() as cursor:
            await cursor.execute(QUERIES["replicas"])
            replicas = [Replica(**_tuples(row)) for row in await cursor.fetchall()]
            await cursor.execute(QUERIES["holdings"])
            holdings = [
                Holding(**{**row, "state": HoldingState(row["state"])}) for row in await cursor.fetchall()
            ]
            await cursor.execute(QUERIES["wanted"])
            wanted = [Wanted(**_tuples(row)) for row in await cursor.fetchall()]
        return Fleet(replicas=tuple(replicas), holdings=tuple(holdings), wanted=tuple(wanted))

    async def looked(self, found: Replica) -> None:
        """Keep what a look at an engine found."""
        await self._run(
            "looked",
            {
                "url": found.url,
                "life": found.life,
                "build": found.build,
                "reason": found.reason,
                "listed": list(found.listed),
                "adapters": list(found.adapters),
                "bases": list(found.bases),
                "strange": list(found.strange),
            },
        )

    async def hold(self, holding: Holding) -> None:
        """Keep how far a version has come on an engine."""
        await self._run(
            "hold",
            {
                "url": holding.url,
                "version": holding.version,
                "state": holding.state.value,
                "reason": holding.reason,
                "life": holding.life,
                "evidence": Jsonb(dict(holding.evidence)) if holding.evidence is not None else None,
            },
        )

    async def release(self, url: str, version: str) -> None:
        """An engine need not hold the version any more."""
        await self._run("release", {"url": url, "version": version})

    async def stage(self, version: str, *, by: str) -> None:
        """Have engines hold a version before it is an arm. Staging it twice changes nothing.

        One that is retired, also at this moment, is refused.
        """
        async with self._cursor() as cursor:
            await cursor.execute(OF_THE_REGISTRY["lock_pointer"])
            await cursor.execute(QUERIES["is_retired"], {"version": version})
            row = await cursor.fetchone()
            if row is None:
                raise UnknownModelVersionError(f"model version {version!r} is not registered")
            if row["retired"]:
                raise VersionRetiredError(
                    f"version: {version} is retired, so engines do not hold it; stage another, or bring "
                    "it back (`twinrail model register` with the same files and --revive --reason TEXT)"
                )
            await cursor.execute(QUERIES["stage"], {"version": version, "by": by})

    async def unstage(self, version: str) -> None:
        """Take it back; an arm is held all the same."""
        await self._run("unstage", {"version": version})

    async def references(self, base_digest: str, *, build: str) -> list[Reference]:
        """What weights on that base made of the probes on engines of that build."""
        async with self._cursor() as cursor:
            await cursor.execute(QUERIES["references"], {"base_digest": base_digest, "build": build})
            return [
                Reference(
                    adapter_digest=row["adapter_digest"],
                    form=row["form"],
                    places=tuple(
                        tuple((token, likely) for token, likely in place) for place in row["places"]
                    ),
                )
                for row in await cursor.fetchall()
            ]

    async def keep_reference(
        self,
        base_digest: str,
        *,
        adapter_digest: str | None,
        form: str,
        build: str,
        places: Sequence[Sequence[tuple[str, Mapping[str, float]]]],
        seen_on: str,
    ) -> None:
        """Keep what weights made of the probes, unless it is known already."""
        await self._run(
            "keep_reference",
            {
                "base_digest": base_digest,
                "adapter_digest": adapter_digest or "",
                "form": form,
                "build": build,
                "places": Jsonb(places),
                "seen_on": seen_on,
            },
        )

    async def lead(self, holder: str, *, lease_s: float) -> bool:
        """Be the one that reconciles for `lease_s` from now; False: somebody else is."""
        async with self._cursor() as cursor:
            await cursor.execute(QUERIES["lead"], {"holder": holder, "lease_s": lease_s})
            return await cursor.fetchone() is not None

    async def resign(self, holder: str) -> None:
        """Let somebody else reconcile at once."""
        await self._run("resign", {"holder": holder})

    async def _run(self, query: str, values: Mapping[str, Any]) -> None:
        async with self._cursor() as cursor:
            await cursor.execute(QUERIES[query], values)

    @asynccontextmanager
    async def _cursor(self) -> AsyncIterator[psycopg.AsyncCursor[DictRow]]:
        try:
            async with (
                self._pool.connection() as connection,
                connection.transaction(),
                connection.cursor(row_factory=dict_row) as cursor,
            ):
                yield cursor
        except (psycopg.OperationalError, PoolTimeout) as exc:
            raise RegistryUnavailableError(f"the database of the model rail does not answer: {exc}") from exc


def _tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
