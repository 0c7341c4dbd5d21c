"""A roster without a reconciler: what some engine lists is routable, and what is staged is remembered."""

from __future__ import annotations

from dataclasses import dataclass, field

from serving.pool import EnginePool
from serving.prober import Probed
from serving.replicas import Fleet, Lack
from serving.versions import RegisteredVersion


@dataclass(slots=True)
class ListedRoster:
    """`ReplicaRoster` over a pool."""

    engines: EnginePool
    staged: dict[str, str] = field(default_factory=dict)

    async def fleet(self) -> Fleet:
        return Fleet()

    async def lacks(self, version: RegisteredVersion) -> list[Lack]:
        if await self.engines.ready(version.served_name):
            return []
        listed = ", ".join(sorted(self.engines.served())) or "nothing"
        return [Lack(url="engines", state="wanted", reason=f"no live engine lists it; they list {listed}")]

    async def stage(self, version_id: str, *, by: str) -> None:
        self.staged[version_id] = by

    async def unstage(self, version_id: str) -> None:
        self.staged.pop(version_id, None)

    async def probe(self, version: RegisteredVersion) -> list[Probed]:
        return []
