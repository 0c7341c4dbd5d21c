"""Which engine processes this machine needs: decided from registry, pointer and the weights at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from serving.versions import ModelVersion, Pointer, RegisteredVersion


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
    #: Ids of the versions that are the weights themselves.
    served: tuple[str, ...]
    #: Id -> adapter of the versions that are an adapter on these weights.
    adapters: Mapping[str, Path] = field(default_factory=dict)
    #: The arms that it serves, such as ("stable",) or ("previous", "fallback").
    arms: tuple[str, ...]
    #: Id of the first arm's version: without it the process is of no use. Any other may be missing.
    needed: str

    @property
    def answers_as(self) -> tuple[str, ...]:
        """Every id that it lists once it is ready."""
        return (*self.served, *self.adapters)


def place(
    pointer: Pointer,
    versions: Sequence[RegisteredVersion],
    weights_of: Callable[[ModelVersion], EngineWeights | None],
    *,
    shipped: str,
) -> list[Placement]:
    """The processes to run, the stable one first. Versions on the same weights share a process.

    Previous is placed too: an undo must find it served. An arm whose weights this machine does not have is
    left out. If that is stable, the shipped version goes first, so that there is one to promote.
    """
    by_id = {version.id: version for version in versions}

    def weights(version_id: str | None) -> EngineWeights | None:
        registered = by_id.get(version_id) if version_id else None
        return weights_of(registered.version) if registered else None

    arms = {
        "stable": pointer.stable,
        "shipped": None if weights(pointer.stable) else shipped,
        "canary": pointer.canary,
        "fallback": pointer.fallback,
        "previous": pointer.previous,
    }
    by_model: dict[Path, dict[str, str]] = {}
    for arm, version_id in arms.items():
        found = weights(version_id)
        if version_id and found:
            by_model.setdefault(found.model, {})[arm] = version_id
    servable = {
        version.id: found
        for version in versions
        if version.releasable and version.served_name == version.id and (found := weights(version.id))
    }
    return [
        Placement(
            weights=model,
            arms=tuple(ids),
            needed=next(iter(ids.values())),
            served=tuple(name for name, found in servable.items() if found == EngineWeights(model)),
            adapters={
                name: found.adapter
                for name, found in servable.items()
                if found.model == model and found.adapter
            },
        )
        for model, ids in by_model.items()
    ]
