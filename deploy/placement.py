"""Which engine processes this machine needs: decided from registry, pointer and the weights at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import UsageError
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
) -> list[Placement]:
    """The processes to run, the stable one first. Versions that share their weights share a process.

    Previous is placed too: an undo must find it served. An arm whose weights this machine does not have is
    left out, except stable, without which nothing can be answered.
    """
    by_id = {version.id: version for version in versions}
    arms_by_weights: dict[Path, list[str]] = {}
    for arm in ("stable", "canary", "fallback", "previous"):
        version_id = getattr(pointer, arm)
        if version_id is None:
            continue
        registered = by_id.get(version_id)
        weights = weights_of(registered.version) if registered else None
        if weights is not None:
            arms_by_weights.setdefault(weights, []).append(arm)
        elif arm == "stable":
            raise UsageError(
                f"model rail: the stable version {version_id} has no weights on this machine; "
                "run `twinrail undo model`, or set SERVING_ENGINES to engines that serve it"
            )
    return [
        Placement(
            weights=weights,
            arms=tuple(arms),
            served=tuple(
                version.id
                for version in versions
                if version.releasable
                and version.served_name == version.id
                and weights_of(version.version) == weights
            ),
        )
        for weights, arms in arms_by_weights.items()
    ]
