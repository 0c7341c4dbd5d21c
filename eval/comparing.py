"""Two index versions asked the same questions through the gateway, at one snapshot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from eval.arms import KNOWLEDGE_WORDS
from eval.cases import Case
from eval.errors import ArmError
from eval.observations import Ranking
from eval.run import Progress, drain

#: Most hits that a search gives.
_MOST_HITS = 50
#: Most documents to compare by: of so many chunks, more are often not there.
MOST_DOCUMENTS = 20
#: Chunks to ask for so that enough different documents come.
_CHUNKS_A_DOCUMENT = 3
_LEAST_HITS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A question, and the filters that it was asked with."""

    case: Case
    filters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """The two versions, each as `<id>@<snapshot>`."""

    first: str
    second: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """What both versions found for one question."""

    query: Query
    first: Ranking
    second: Ranking

    @property
    def failed(self) -> bool:
        """Whether a side is missing."""
        return bool(self.first.error or self.second.error)


class Searcher(Protocol):
    """What a comparison needs of a gateway."""

    async def search(
        self, case: Case, knowledge: str, *, depth: int, filters: Mapping[str, Any] | None = None
    ) -> Ranking:
        """One question on one knowledge version."""
        ...


def pin_sides(first: str, second: str, pointer: Mapping[str, str | None]) -> Sides:
    """Both versions at one snapshot, so that a publish in mid-run moves neither.

    `pointer` is what the knowledge rail names: a word such as `stable` -> `<id>@<live snapshot>`.
    """
    _, _, live = (pointer.get("stable") or "").partition("@")
    named = [_named(text, pointer) for text in (first, second)]
    given = {snapshot for _, snapshot in named if snapshot}
    if len(given) > 1:
        raise ArmError(
            f"{first}, {second}: are two snapshots, so the content differs; give both the same @number"
        )
    if named[0][0] == named[1][0]:
        raise ArmError(f"{first}, {second}: the same version, {named[0][0]}; name another one")
    snapshot = next(iter(given), live)
    if not snapshot or snapshot == "0":
        raise ArmError("snapshot: nothing is published yet, so there is nothing to find; ingest first")
    (one, _), (two, _) = named
    return Sides(first=f"{one}@{snapshot}", second=f"{two}@{snapshot}")


def _named(text: str, pointer: Mapping[str, str | None]) -> tuple[str, str]:
    """Id and wanted snapshot ("": the live one) of `<id or word>[@<snapshot>]`."""
    name, at, snapshot = text.partition("@")
    if at and not snapshot.isdigit():
        raise ArmError(f"{text}: after @ comes a snapshot's number")
    if name in KNOWLEDGE_WORDS:
        version = pointer.get(name)
        if version is None:
            raise ArmError(f"{text}: no {name} version on the knowledge rail; name a version id")
        return version.partition("@")[0], snapshot
    return name, snapshot


async def search_both(
    searcher: Searcher,
    queries: Sequence[Query],
    sides: Sides,
    *,
    k: int,
    concurrency: int,
    progress: Progress,
) -> tuple[Searched, ...]:
    """Every question on both versions, a few at a time.

    The side that goes first alternates: what the database has in memory from the first helps the second.
    """
    depth = min(_MOST_HITS, max(_LEAST_HITS, _CHUNKS_A_DOCUMENT * k))
    found: dict[int, Searched] = {}

    def job(place: int, query: Query) -> Callable[[], Awaitable[bool]]:
        async def work() -> bool:
            order = (sides.first, sides.second) if place % 2 == 0 else (sides.second, sides.first)
            rankings = {
                side: await searcher.search(query.case, side, depth=depth, filters=query.filters)
                for side in order
            }
            found[place] = Searched(query=query, first=rankings[sides.first], second=rankings[sides.second])
            return found[place].failed

        return work

    try:
        await drain(
            [job(place, query) for place, query in enumerate(queries)], workers=concurrency, progress=progress
        )
    finally:
        progress.close()
    return tuple(found[place] for place in sorted(found))
