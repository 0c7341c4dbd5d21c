"""The registry on real PostgreSQL: idempotent registering, one-statement moves, an append-only history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from serving.errors import (
    CanaryError,
    NoStableVersionError,
    NothingToUndoError,
    NotReleasableError,
    PointerMovedError,
    RegistryUnavailableError,
    UnknownModelVersionError,
    WeightError,
)
from serving.prompting import PromptTemplate
from serving.registry import ModelRegistry
from serving.sql import QUERIES
from serving.versions import ModelVersion, Pointer, UndoGoal

BASE = ModelVersion(
    name="base",
    base_digest="b" * 64,
    adapter_digest=None,
    prompt=PromptTemplate(name="p", system="s"),
    task="support_answer",
    schema={"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "string"}}},
)
TUNED = replace(BASE, name="support", adapter_digest="a" * 64)
OTHER = replace(BASE, name="other")


@pytest.fixture
async def registry(database_url: str) -> AsyncIterator[ModelRegistry]:
    async with AsyncConnectionPool(database_url, min_size=1, max_size=4, open=False) as pool:
        registry = ModelRegistry(pool)
        for version in (BASE, TUNED, OTHER):
            await registry.register(version, manifest={"source": "test"}, author="tester")
        yield registry


async def test_registering_twice_changes_nothing_and_reads_back_whole(registry: ModelRegistry) -> None:
    again = await registry.register(TUNED, manifest={"source": "another"}, author="somebody else")
    assert again.manifest["source"] == "test"
    assert again.author == "tester"
    assert again.version == TUNED
    assert list(again.version.schema["properties"]) == ["z", "a"]
    assert [one.id for one in await registry.versions()] == [BASE.id, TUNED.id, OTHER.id]
    assert (await registry.version(TUNED.id)).served_name == TUNED.id


async def test_a_registered_identity_cannot_be_changed_or_removed(
    registry: ModelRegistry, database_url: str
) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        for statement in (
            "UPDATE serving.model_version SET definition = '{}'",
            "DELETE FROM serving.model_version",
        ):
            with pytest.raises(psycopg.errors.IntegrityError, match="immutable"):
                await connection.execute(statement)


async def test_before_the_first_promotion_the_pointer_says_what_to_do(registry: ModelRegistry) -> None:
    with pytest.raises(NoStableVersionError, match="register one and promote it"):
        await registry.pointer()
    with pytest.raises(NoStableVersionError):
        await registry.set_canary(TUNED.id, 100)


async def test_promote_undo_and_redo(registry: ModelRegistry) -> None:
    first = await registry.promote(BASE.id)
    assert (first.stable, first.previous) == (BASE.id, None)
    with pytest.raises(NothingToUndoError):
        await registry.undo()
    second = await registry.promote(TUNED.id)
    assert (second.stable, second.previous) == (TUNED.id, BASE.id)
    undone = await registry.undo()
    assert (undone.stable, undone.previous) == (BASE.id, TUNED.id)
    redone = await registry.undo()
    assert (redone.stable, redone.previous) == (TUNED.id, BASE.id)
    assert redone.salt == first.salt
    assert redone.revision == first.revision + 3


async def test_promoting_what_is_stable_moves_nothing(registry: ModelRegistry) -> None:
    first = await registry.promote(BASE.id)
    assert await registry.promote(BASE.id) == first


#: Every kind of move, made on a rail where BASE and then TUNED became stable and OTHER has 5 % if so wanted.
MOVES: dict[str, tuple[bool, Callable[[ModelRegistry], Awaitable[Pointer]]]] = {
    "promote": (False, lambda registry: registry.promote(OTHER.id)),
    "promote of the canary": (True, lambda registry: registry.promote(OTHER.id)),
    "promote over a canary": (True, lambda registry: registry.promote(BASE.id)),
    "canary set": (False, lambda registry: registry.set_canary(OTHER.id, 500)),
    "canary weight": (True, lambda registry: registry.set_canary(OTHER.id, 5_000)),
    "another canary": (True, lambda registry: registry.set_canary(BASE.id, 500)),
    "canary off": (True, lambda registry: registry.set_canary(None, 0)),
}


def traffic(pointer: Pointer | UndoGoal) -> tuple[str, str | None, int]:
    return pointer.stable, pointer.canary, pointer.canary_weight_bp


@pytest.mark.parametrize("kind", MOVES)
async def test_undo_takes_back_any_move_and_twice_is_redo(registry: ModelRegistry, kind: str) -> None:
    with_canary, move = MOVES[kind]
    await registry.promote(BASE.id)
    before = await registry.promote(TUNED.id)
    if with_canary:
        before = await registry.set_canary(OTHER.id, 500)
    after = await move(registry)
    assert traffic(after) != traffic(before)
    for expected in (before, after, before, after):
        goal = await registry.undo_goal()
        assert goal is not None
        assert traffic(goal) == traffic(expected)
        undone = await registry.undo()
        assert traffic(undone) == traffic(expected)
    assert undone.previous == after.previous


async def test_moves_that_leave_the_traffic_alone_are_passed_over_by_undo(registry: ModelRegistry) -> None:
    await registry.promote(BASE.id)
    await registry.promote(TUNED.id)
    named = await registry.set_fallback(OTHER.id)
    assert (await registry.set_canary(None, 0)) == named
    undone = await registry.undo()
    assert (undone.stable, undone.fallback) == (BASE.id, OTHER.id)


async def test_an_undo_that_is_sent_again_is_refused(registry: ModelRegistry) -> None:
    await registry.promote(BASE.id)
    seen = await registry.promote(TUNED.id)
    undone = await registry.undo(expected_revision=seen.revision)
    with pytest.raises(PointerMovedError, match="read it again"):
        await registry.undo(expected_revision=seen.revision)
    assert await registry.pointer() == undone


async def test_two_undos_at_the_same_moment_undo_once(registry: ModelRegistry, database_url: str) -> None:
    await registry.promote(BASE.id)
    await registry.promote(TUNED.id)
    async with await psycopg.AsyncConnection.connect(database_url) as first:
        await first.execute(QUERIES["undo"], {"expected_revision": None})
        second = asyncio.create_task(registry.undo())
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as watch:
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            async with asyncio.timeout(10):
                while (await (await watch.execute(waiting)).fetchone()) == (0,):
                    await watch.execute("SELECT pg_sleep(0.01)")
        await first.commit()
    with pytest.raises(PointerMovedError):
        await second
    assert (await registry.pointer()).stable == BASE.id


async def test_promoting_the_canary_clears_it(registry: ModelRegistry) -> None:
    await registry.promote(BASE.id)
    await registry.set_canary(TUNED.id, 10_000)
    pointer = await registry.promote(TUNED.id)
    assert (pointer.stable, pointer.canary, pointer.canary_weight_bp) == (TUNED.id, None, 0)


@pytest.mark.parametrize("weight", [-1, 10_001, True, 1.5, "5"])
async def test_a_weight_outside_the_range_is_refused(registry: ModelRegistry, weight: object) -> None:
    await registry.promote(BASE.id)
    with pytest.raises(WeightError, match="canary_weight_bp"):
        await registry.set_canary(TUNED.id, weight)  # type: ignore[arg-type]


async def test_refusals_name_what_is_wrong(registry: ModelRegistry) -> None:
    await registry.promote(BASE.id)
    with pytest.raises(UnknownModelVersionError, match="m-none-00000000"):
        await registry.promote("m-none-00000000")
    with pytest.raises(CanaryError):
        await registry.set_canary(BASE.id, 100)
    with pytest.raises(WeightError):
        await registry.set_canary(None, 100)
    draft = replace(BASE, name="draft")
    await registry.register(draft, releasable=False)
    with pytest.raises(NotReleasableError):
        await registry.promote(draft.id)
    assert (await registry.set_canary(None, 0)).canary is None


async def test_a_move_decided_on_an_old_pointer_is_refused(registry: ModelRegistry) -> None:
    seen = await registry.promote(BASE.id)
    await registry.promote(TUNED.id, expected_revision=seen.revision)
    with pytest.raises(PointerMovedError) as caught:
        await registry.promote(OTHER.id, expected_revision=seen.revision)
    assert caught.value.retryable
    with pytest.raises(PointerMovedError):
        await registry.undo(expected_revision=seen.revision)
    assert (await registry.pointer()).stable == TUNED.id


async def test_of_many_movers_with_one_view_exactly_one_wins(registry: ModelRegistry) -> None:
    seen = await registry.promote(BASE.id)
    moves = [registry.set_canary(TUNED.id, n, expected_revision=seen.revision) for n in range(1, 9)]
    results = await asyncio.gather(*moves, return_exceptions=True)
    assert sum(isinstance(result, PointerMovedError) for result in results) == 7
    assert (await registry.pointer()).revision == seen.revision + 1


async def test_every_move_is_in_the_history_and_the_history_only_grows(
    registry: ModelRegistry, database_url: str
) -> None:
    await registry.promote(BASE.id)
    await registry.set_fallback(BASE.id)
    await registry.set_canary(TUNED.id, 500)
    await registry.undo()
    moves = await registry.history()
    assert [move.action for move in moves] == ["undo", "set_canary", "set_fallback", "promote"]
    assert moves[0].fallback == BASE.id
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        for statement in (
            "DELETE FROM serving.pointer_history",
            "UPDATE serving.pointer_history SET stable = NULL",
            "TRUNCATE serving.pointer_history",
        ):
            with pytest.raises(psycopg.errors.IntegrityError, match="append-only"):
                await connection.execute(statement)


async def test_a_database_that_does_not_answer_is_unavailable_and_retryable() -> None:
    pool = AsyncConnectionPool(
        "postgresql://127.0.0.1:1/none", min_size=0, max_size=1, open=False, timeout=0.2
    )
    async with pool:
        with pytest.raises(RegistryUnavailableError) as caught:
            await ModelRegistry(pool).pointer()
    assert caught.value.retryable
