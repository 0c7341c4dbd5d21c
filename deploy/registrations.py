"""What registering a model version comes to: decided from what the registry holds of it.

A dry run says it, and the command then does it, so the two cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.database import database, pool
from deploy.home import Home
from deploy.migrate import pending
from deploy.settings import DeploySettings
from serving.errors import UnknownModelVersionError, VersionRetiredError
from serving.registry import ModelRegistry
from serving.versions import ModelVersion, RegisteredVersion, VersionState


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person asks for beside the version itself."""

    #: Whether the version may take traffic without any gate.
    releasable: bool = False
    #: Whether a gate has passed it.
    passed: bool = False
    force: bool = False
    revive: bool = False


def state_after(version_id: str, known: RegisteredVersion | None, wish: Wish) -> VersionState:
    """What the version may do once it is registered; raises VersionRetiredError."""
    if known is not None and known.retired_at is not None and not wish.revive:
        raise VersionRetiredError(
            f"version: {version_id} was retired on {known.retired_at:%Y-%m-%d}; give --revive --reason TEXT "
            "to bring it back (both are kept), or register another version"
        )
    if wish.passed:
        return VersionState.RELEASABLE
    if wish.releasable if known is None else known.releasable:
        return VersionState.FORCED if known and known.forced else VersionState.RELEASABLE
    return VersionState.FORCED if wish.force else VersionState.CANDIDATE


async def known_of(registry: ModelRegistry, version_id: str) -> RegisteredVersion | None:
    """The version as it is registered; None: nobody has."""
    try:
        return await registry.version(version_id)
    except UnknownModelVersionError:
        return None


async def is_migrated(settings: DeploySettings, home: Home) -> bool:
    """Whether there is a database that can be asked as it is; makes none."""
    if not settings.database_url.get_secret_value() and not home.postgres.exists():
        return False
    async with database(settings, home) as url:
        return not await pending(url)


async def look_up(
    settings: DeploySettings, home: Home, version: ModelVersion, record: Mapping[str, object]
) -> RegisteredVersion | None:
    """What the registry holds of a version, for a dry run: no database is made or migrated for it."""
    if not await is_migrated(settings, home):
        return None
    async with database(settings, home) as url, pool(url, size=1) as connections:
        registry = ModelRegistry(connections)
        await registry.require_same_use(version, record)
        return await known_of(registry, version.id)
