"""What the corpus holds and held: versions of documents, their dates and the snapshots that show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Snapshots that show a version: from `born` until before `died`."""

    born: int
    died: int | None

    def shows(self, snapshot: int) -> bool:
        """Whether it is to be found at a snapshot."""
        return self.born <= snapshot and (self.died is None or self.died > snapshot)


@dataclass(frozen=True, slots=True, kw_only=True)
class PastVersion:
    """What a document said. Dates are ISO days, "" where there is none."""

    version: int
    title: str
    text: str
    effective_from: str
    effective_to: str
    releases: tuple[Release, ...]

    @property
    def words(self) -> str:
        """Everything that a fact can stand in."""
        return f"{self.title}\n{self.text}"

    def holds_on(self, day: str) -> bool:
        """Whether it is true on a day, as far as its dates say."""
        return self.effective_from <= day and (not self.effective_to or day <= self.effective_to)


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentHistory:
    """All that a document ever said, oldest first; nothing where no key could read it."""

    id: str
    #: The snapshot that was live when this was read.
    head: int
    versions: tuple[PastVersion, ...]
    #: Whose keys could read it: `customer`, `staff`.
    readers: tuple[str, ...]

    def at(self, snapshot: int) -> PastVersion | None:
        """The version that a snapshot shows."""
        return next(
            (
                version
                for version in reversed(self.versions)
                if any(release.shows(snapshot) for release in version.releases)
            ),
            None,
        )

    @property
    def live(self) -> PastVersion | None:
        """The version that is there now."""
        return self.at(self.head)

    def as_json(self) -> dict[str, Any]:
        """Plain data for one line."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """The history that `as_json` wrote, or that the gateway sent."""
        return cls(
            id=row["id"],
            head=row["head"],
            versions=tuple(
                PastVersion(
                    version=version["version"],
                    title=version["title"],
                    text=version["text"],
                    effective_from=version["effective_from"] or "",
                    effective_to=version["effective_to"] or "",
                    releases=tuple(Release(**release) for release in version["releases"]),
                )
                for version in row["versions"]
            ),
            readers=tuple(row["readers"]),
        )


def snapshot_of(knowledge: str) -> int | None:
    """The snapshot in a stamp `k-...@12`; None where there is none."""
    _, at, number = knowledge.partition("@")
    return int(number) if at and number.isdigit() else None
