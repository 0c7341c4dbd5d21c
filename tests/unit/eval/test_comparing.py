"""Two versions asked the same questions: which snapshot both read, and what is asked of the gateway."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pytest

from eval.cases import Case
from eval.comparing import Query, Sides, pin_sides, search_both
from eval.errors import ArmError, GatewayUnavailableError
from eval.observations import Ranking
from eval.run import Progress

POINTER = {"stable": "k-start-1@7", "previous": "k-old-1@7", "canary": None, "shadow": "k-new-1@7"}
SIDES = Sides(first="k-a-1@7", second="k-b-1@7")
QUERIES = tuple(
    Query(case=Case(id=f"q{n}", topic=f"t{n}", split="all", text=f"question {n}"), filters={"language": "en"})
    for n in range(4)
)


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        ("stable", "shadow", ("k-start-1@7", "k-new-1@7")),
        ("k-start-1", "k-other-1", ("k-start-1@7", "k-other-1@7")),
        ("stable@5", "k-other-1", ("k-start-1@5", "k-other-1@5")),
        ("stable@5", "previous@5", ("k-start-1@5", "k-old-1@5")),
    ],
)
def test_both_versions_are_read_at_one_snapshot(first: str, second: str, wanted: tuple[str, str]) -> None:
    sides = pin_sides(first, second, POINTER)
    assert (sides.first, sides.second) == wanted


@pytest.mark.parametrize(
    ("first", "second", "pointer", "words"),
    [
        ("stable@5", "previous@6", POINTER, "two snapshots"),
        ("stable", "k-start-1", POINTER, "the same version"),
        ("stable", "canary", POINTER, "no canary version"),
        ("stable@now", "previous", POINTER, "a snapshot's number"),
        ("k-a-1", "k-b-1", {"stable": "k-a-1@0"}, "nothing is published"),
        ("k-a-1", "k-b-1", {"stable": None}, "nothing is published"),
    ],
)
def test_what_cannot_be_compared_says_why(
    first: str, second: str, pointer: Mapping[str, str | None], words: str
) -> None:
    with pytest.raises(ArmError, match=words):
        pin_sides(first, second, pointer)


class Gateway:
    """Finds one document a version; refuses some questions on one version."""

    def __init__(self, *, refused: frozenset[tuple[str, str]] = frozenset(), gone: bool = False) -> None:
        self.asked: list[tuple[str, str, int, Any]] = []
        self._refused = refused
        self._gone = gone

    async def search(
        self, case: Case, knowledge: str, *, depth: int, filters: Mapping[str, Any] | None = None
    ) -> Ranking:
        if self._gone:
            raise GatewayUnavailableError("gone")
        self.asked.append((case.id, knowledge, depth, filters))
        error = "422" if (case.id, knowledge) in self._refused else ""
        return Ranking(case_id=case.id, knowledge=knowledge, error=error)


async def test_the_side_that_is_asked_first_alternates() -> None:
    gateway = Gateway()
    progress = Progress(out=io.StringIO(), total=4)
    searched = await search_both(gateway, QUERIES, SIDES, k=10, concurrency=1, progress=progress)
    assert [knowledge for _, knowledge, _, _ in gateway.asked] == [
        *("k-a-1@7", "k-b-1@7", "k-b-1@7", "k-a-1@7"),
        *("k-a-1@7", "k-b-1@7", "k-b-1@7", "k-a-1@7"),
    ]
    assert {(depth, filters["language"]) for _, _, depth, filters in gateway.asked} == {(30, "en")}
    assert [(each.first.knowledge, each.second.knowledge) for each in searched] == [
        (SIDES.first, SIDES.second)
    ] * 4


@pytest.mark.parametrize(("k", "depth"), [(1, 30), (12, 36), (20, 50)])
async def test_enough_chunks_are_asked_for(k: int, depth: int) -> None:
    gateway = Gateway()
    await search_both(
        gateway, QUERIES[:1], SIDES, k=k, concurrency=2, progress=Progress(out=io.StringIO(), total=1)
    )
    assert {asked[2] for asked in gateway.asked} == {depth}


async def test_a_question_that_one_side_refuses_is_kept_as_failed() -> None:
    gateway = Gateway(refused=frozenset({("q2", SIDES.second)}))
    progress = Progress(out=io.StringIO(), total=4)
    searched = await search_both(gateway, QUERIES, SIDES, k=10, concurrency=3, progress=progress)
    assert [each.query.case.id for each in searched if each.failed] == ["q2"]
    assert [each.query.case.id for each in searched] == ["q0", "q1", "q2", "q3"], "in their order"
    assert progress.failed == 1


async def test_a_gateway_that_goes_away_ends_it() -> None:
    with pytest.raises(GatewayUnavailableError):
        await search_both(
            Gateway(gone=True),
            QUERIES,
            SIDES,
            k=10,
            concurrency=2,
            progress=Progress(out=io.StringIO(), total=4),
        )
