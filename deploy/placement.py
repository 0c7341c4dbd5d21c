"""Which engine processes this machine needs: decided from what is wanted and the weights at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.replicas import Wanted
from serving.versions import ModelVersion, RegisteredVersion

#: Roles that take no traffic by themselves.
SPARES = frozenset({"fallback", "previous", "shadow", "undo"})


@dataclass(frozen=True, slots=True)
class EngineWeights:
    """The folders that make a version: what an engine starts on, and the adapter that it puts on top."""

    model: Path
    adapter: Path | None = None

    def exist(self) -> bool:
        """Whether they are on this disk."""
        return (self.model / "config.json").exists() and (self.adapter is None or self.adapter.exists())


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One engine process: its weights, and every version id under which it answers."""

    weights: Path
    #: Ids of the versions that are the weights themselves: it answers to them from the start.
    served: tuple[str, ...]
    #: Ids of the wanted versions that are adapters on these weights: the reconciler loads them into it.
    adapters: tuple[str, ...] = ()
    #: What the wanted versions on it are wanted as, such as ("stable",) or ("fallback", "previous").
    arms: tuple[str, ...]
    #: Those of `served` that are wanted; any other may be missing.
    needed: tuple[str, ...] = ()

    @property
    def answers_as(self) -> tuple[str, ...]:
        """Every id that it lists once it is ready."""
        return (*self.served, *self.adapters)

    def does(self, other: Placement) -> bool:
        """Whether a process of this placement can do what the other is for."""
        return (
            self.weights == other.weights
            and set(other.needed) <= set(self.served)
            and (bool(self.adapters) or not other.adapters)
        )


def place(
    wanted: Sequence[Wanted],
    versions: Sequence[RegisteredVersion],
    weights_of: Callable[[ModelVersion], EngineWeights | None],
    *,
    shipped: str = "",
) -> list[Placement]:
    """The processes to run, the most important one first. Versions on the same weights share a process.

    Whatever an undo leads to is placed too: it must find it served. What this machine has no weights of is
    left out. If that is stable, the `shipped` version goes first, so that there is one to promote.
    """
    by_id = {version.id: version for version in versions}
    weights = {
        version.id: found
        for version in versions
        if version.served_name == version.id and (found := weights_of(version.version))
    }
    roles = {each.version: each.roles for each in wanted if each.version in weights}
    if shipped in weights and not any("stable" in each for each in roles.values()):
        roles = {shipped: ("shipped",), **{key: own for key, own in roles.items() if key != shipped}}
    servable = [
        version_id
        for version_id in weights
        if version_id in roles or (by_id[version_id].releasable and by_id[version_id].retired_at is None)
    ]
    return [
        _placement(model, roles, servable, weights)
        for model in dict.fromkeys(weights[version_id].model for version_id in roles)
    ]


def _placement(
    model: Path,
    roles: dict[str, tuple[str, ...]],
    servable: Sequence[str],
    weights: dict[str, EngineWeights],
) -> Placement:
    here = [version_id for version_id in roles if weights[version_id].model == model]
    arms = dict.fromkeys(role for version_id in here for role in roles[version_id])
    if len(arms) > 1:
        arms.pop("undo", None)  # says nothing that another arm does not
    return Placement(
        weights=model,
        arms=tuple(arms),
        served=tuple(name for name in servable if weights[name] == EngineWeights(model)),
        adapters=tuple(name for name in here if weights[name].adapter),
        needed=tuple(name for name in here if weights[name].adapter is None),
    )
