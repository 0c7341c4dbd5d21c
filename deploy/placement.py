"""Which engine processes this machine needs: decided from registry, pointer and the weights at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.versions import ModelVersion, Pointer, RegisteredVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One engine process: its weights, and every version id under which it answers."""

    weights: Path
    served: tuple[str, ...]
    #: The arms that it serves, such as ("stable",) or ("previous", "fallback").
    arms: tuple[str, ...]


def place(
    pointer: Pointer,
    versions: Sequence[RegisteredVersion],
    weights_of: Callable[[ModelVersion], Path | None],
    *,
    shipped: str,
) -> list[Placement]:
    """The processes to run, the stable one first. Versions that share their weights share a process.

    Previous is placed too: an undo must find it served. An arm whose weights this machine does not have is
    left out. If that is stable, the shipped version goes first, so that there is one to promote.
    """
    by_id = {version.id: version for version in versions}

    def weights(version_id: str | None) -> Path | None:
        registered = by_id.get(version_id) if version_id else None
        return weights_of(registered.version) if registered else None

    arms = {
        "stable": pointer.stable,
        "shipped": None if weights(pointer.stable) else shipped,
        "canary": pointer.canary,
        "fallback": pointer.fallback,
        "previous": pointer.previous,
    }
    arms_by_weights: dict[Path, list[str]] = {}
    for arm, version_id in arms.items():
        folder = weights(version_id)
        if folder is not None:
            arms_by_weights.setdefault(folder, []).append(arm)
    return [
        Placement(
            weights=folder,
            arms=tuple(names),
            served=tuple(
                version.id
                for version in versions
                if version.releasable and version.served_name == version.id and weights(version.id) == folder
            ),
        )
        for folder, names in arms_by_weights.items()
    ]
