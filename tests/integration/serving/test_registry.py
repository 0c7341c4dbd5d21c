"""The registry on real PostgreSQL: idempotent registering, one-statement moves, an append-only history."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from serving.errors import (
    AdapterFileError,
    CanaryError,
    NoStableVersionError,
    NothingToUndoError,
    NotReleasableError,
    PointerMovedError,
    RegistryUnavailableError,
    UnknownModelVersionError,
    VersionInReachError,
    VersionRetiredError,
    VersionUnreadableError,
    WeightError,
)
from serving.manifests import Manifest
from serving.prompting import PromptTemplate
from serving.registry import ModelRegistry
from serving.replicas import ReplicaStore
from serving.sql import QUERIES
from serving.versions import ModelVersion, Pointer, UndoGoal, VersionState, canonical_json

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


DEFINITION = canonical_json(TUNED.definition())


@pytest.fixture
async def registry(database_url: str) -> AsyncIterator[ModelRegistry]:
    async with AsyncConnectionPool(database_url, min_size=1, max_size=4, open=False) as pool:
        registry = ModelRegistry(pool)
        for version in (BASE, TUNED, OTHER):
            await registry.register(version, manifest={"source": "test"}, author="tester")
        yield registry


async def until_one_waits(database_url: str) -> None:
    """Until some transaction waits for the lock of another."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as watch:
        async with asyncio.timeout(10):
            while (await (await watch.execute(waiting)).fetchone()) == (0,):
                await watch.execute("SELECT pg_sleep(0.01)")


@asynccontextmanager
async def store_of(database_url: str) -> AsyncIterator[ReplicaStore]:
    async with AsyncConnectionPool(database_url, min_size=1, max_size=1, open=False) as pool:
        yield ReplicaStore(pool)


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
    for n, expected in enumerate((before, after, before, after)):
        goal = await registry.undo_goal()
        assert goal is not None
        assert traffic(goal) == traffic(expected)
        undone = await registry.undo()
        assert traffic(undone) == traffic(expected)
        # What an undo left was taken back; what the redo left was not.
        assert undone.taken_back is (n % 2 == 0 and before.stable != after.stable)
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
        await until_one_waits(database_url)
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


DRAFT = replace(BASE, name="draft", adapter_digest="d" * 64)


async def actions(registry: ModelRegistry, version_id: str) -> list[tuple[str, str, str]]:
    return [(each.action, each.by, each.reason) for each in await registry.events(version_id)]


async def test_a_candidate_takes_no_traffic_until_a_gate_has_passed_it(registry: ModelRegistry) -> None:
    await registry.promote(BASE.id)
    draft = await registry.register(DRAFT, releasable=False, author="ann")
    assert draft.state is VersionState.CANDIDATE
    for move in (
        registry.promote(DRAFT.id),
        registry.set_canary(DRAFT.id, 5),
        registry.set_fallback(DRAFT.id),
    ):
        with pytest.raises(NotReleasableError, match="is a candidate: no gate has passed it"):
            await move
    passed = await registry.make_releasable(DRAFT.id, by="ci", reason="gate-tone", metrics={"tone": 0.97})
    assert (passed.state, passed.manifest["metrics"]) == (VersionState.RELEASABLE, {"tone": 0.97})
    assert (await registry.promote(DRAFT.id)).stable == DRAFT.id
    assert await registry.make_releasable(DRAFT.id, by="bob", reason="again", forced=True) == passed
    assert await actions(registry, DRAFT.id) == [("passed", "ci", "gate-tone"), ("registered", "ann", "")]


async def test_force_is_marked_and_audited_and_ends_with_a_verdict(registry: ModelRegistry) -> None:
    forced = await registry.register(
        DRAFT,
        releasable=False,
        forced_because="demo on Monday",
        author="ann",
        manifest={"metrics": {"f1": 0.5}},
    )
    assert (forced.state, forced.manifest["forced"]) == (VersionState.FORCED, True)
    await registry.promote(BASE.id)
    await registry.promote(DRAFT.id)
    passed = await registry.make_releasable(DRAFT.id, by="ci", reason="gate-tone", metrics={"tone": 1.0})
    assert (passed.state, passed.manifest["forced"]) == (VersionState.RELEASABLE, False)
    assert passed.manifest["metrics"] == {"f1": 0.5, "tone": 1.0}
    assert [each[0] for each in await actions(registry, DRAFT.id)] == ["passed", "forced", "registered"]
    await registry.note_forced_move(DRAFT.id, by="ann", reason="no engine lists it")
    assert (await actions(registry, DRAFT.id))[0] == ("promoted_by_force", "ann", "no engine lists it")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"definition": "{}"}, "definition: KeyError"),
        ({"definition": "[]"}, "definition: TypeError"),
        ({"definition": "null"}, "definition: TypeError"),
        ({"definition": '{"name": "x", "prompt": []}'}, "definition: KeyError"),
        (
            {"definition": DEFINITION.replace('"max_tokens":160', '"max_tokens":1e999')},
            "definition: Overflow",
        ),
        ({"id": "m-other-00000000"}, "definition: hashes to m-draft-"),
        ({"manifest": "[]"}, "manifest: is .*, not an object"),
        ({"manifest": "null"}, "manifest: is null, not an object"),
        ({"manifest": "{}"}, "manifest.version: missing"),
        ({"manifest": {"adapter_digest": "f" * 64}}, "manifest.adapter_digest: is "),
        ({"manifest": {"alpha": "much"}}, "alpha: 'much' is not a number"),
    ],
)
async def test_a_damaged_row_takes_nothing_away_from_the_others(
    registry: ModelRegistry, database_url: str, row: dict[str, Any], reason: str
) -> None:
    await registry.promote(BASE.id)
    manifest = row.get("manifest", {})
    if isinstance(manifest, dict):
        of = Manifest.of(DRAFT, {}, author="").as_json()
        manifest = json.dumps({**of, **manifest})
    values = {"id": DRAFT.id, "definition": canonical_json(DRAFT.definition()), **row, "manifest": manifest}
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(
            "INSERT INTO serving.model_version"
            " (id, name, definition, manifest, served_name, releasable, author)"
            " VALUES (%(id)s, 'draft', %(definition)s, %(manifest)s, %(id)s, true, 'eve')",
            values,
        )
    assert [each.id for each in await registry.versions()] == [BASE.id, TUNED.id, OTHER.id]
    [damaged] = await registry.unreadable()
    assert (damaged.id, damaged.author) == (values["id"], "eve")
    assert re.search(f"version: {damaged.id} cannot be read: {reason}.*; restore its row", damaged.reason)
    for asked in (
        registry.version(damaged.id),
        registry.promote(damaged.id),
        registry.set_canary(damaged.id, 5),
        registry.set_fallback(damaged.id),
    ):
        with pytest.raises(VersionUnreadableError, match="cannot be read"):
            await asked
    assert (await registry.promote(TUNED.id)).stable == TUNED.id


async def test_what_a_later_release_adds_to_a_manifest_is_let_pass(
    registry: ModelRegistry, database_url: str
) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(
            "UPDATE serving.model_version SET manifest = manifest || '{\"invented\": 1}' WHERE id = %s",
            [OTHER.id],
        )
    assert await registry.unreadable() == []
    assert (await registry.version(OTHER.id)).manifest["invented"] == 1


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"rank": 16, "alpha": 32.0}, None),
        ({"rank": 16}, None),
        ({"alpha": 64}, "lora_alpha: is 64, and m-support-"),
        ({"rank": 8}, "r: is 8, and m-support-"),
        ({"target_modules": ["v_proj", "q_proj"]}, None),
        ({"target_modules": ["q_proj"]}, "target_modules: is .* registered with the same weights and"),
    ],
)
async def test_the_same_weights_are_registered_with_one_use(
    registry: ModelRegistry, facts: dict[str, Any], says: str | None
) -> None:
    first = {"rank": 16, "alpha": 32, "target_modules": ["q_proj", "v_proj"]}
    await registry.register(replace(TUNED, name="support", adapter_digest="c" * 64), manifest=first)
    other = replace(TUNED, name="another", adapter_digest="c" * 64)
    if says is None:
        assert (await registry.register(other, manifest=facts)).id == other.id
        return
    with pytest.raises(AdapterFileError, match=says):
        await registry.register(other, manifest=facts)
    with pytest.raises(UnknownModelVersionError):
        await registry.version(other.id)


async def test_a_damaged_row_says_nothing_of_how_weights_are_used(
    registry: ModelRegistry, database_url: str
) -> None:
    first = await registry.register(
        replace(TUNED, adapter_digest="c" * 64), manifest={"rank": 16, "alpha": 32}
    )
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(
            """UPDATE serving.model_version SET manifest = manifest || '{"alpha": "much"}' WHERE id = %s""",
            [first.id],
        )
    other = replace(TUNED, name="another", adapter_digest="c" * 64)
    assert (await registry.register(other, manifest={"rank": 16, "alpha": 32})).id == other.id


async def test_the_audit_only_grows(registry: ModelRegistry, database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        for statement in (
            "DELETE FROM serving.version_event",
            "UPDATE serving.version_event SET by = 'nobody'",
            "TRUNCATE serving.version_event",
        ):
            with pytest.raises(psycopg.errors.IntegrityError, match="append-only"):
                await connection.execute(statement)


async def test_what_has_a_part_is_not_retired(registry: ModelRegistry) -> None:
    await registry.promote(BASE.id)
    await registry.promote(TUNED.id)
    await registry.set_canary(OTHER.id, 500)
    await registry.register(DRAFT)
    await registry.set_fallback(DRAFT.id)
    roles = await registry.roles()
    assert roles == {
        BASE.id: ("previous",),
        TUNED.id: ("stable", "undo"),
        OTHER.id: ("canary",),
        DRAFT.id: ("fallback",),
    }
    for version_id, reason in {
        BASE.id: "it is previous; wait until the rail has moved on",
        TUNED.id: "it is stable, and an undo leads to it; give its part to another version, and wait",
        OTHER.id: "it is canary; give its part to another version first",
        DRAFT.id: "it is fallback; give its part",
    }.items():
        with pytest.raises(VersionInReachError, match=reason):
            await registry.retire(version_id, by="ann")
    await registry.set_canary(None, 0)
    with pytest.raises(VersionInReachError, match="an undo leads to it"):
        await registry.retire(OTHER.id, by="ann")
    assert {each.state for each in await registry.versions()} == {VersionState.RELEASABLE}


async def test_a_staged_version_is_not_retired(registry: ModelRegistry, database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(
            "INSERT INTO serving.staged (version, staged_by) VALUES (%s, 'test')", [OTHER.id]
        )
    with pytest.raises(VersionInReachError, match="it is staged; let its promotion end first"):
        await registry.retire(OTHER.id, by="ann")


async def test_a_retired_version_stays_known_and_takes_no_part(registry: ModelRegistry) -> None:
    await registry.promote(BASE.id)
    retired = await registry.retire(OTHER.id, by="ann", reason="replaced")
    assert retired.state is VersionState.RETIRED
    assert await registry.retire(OTHER.id, by="bob") == retired
    assert await registry.register(OTHER) == retired
    for move in (
        registry.promote(OTHER.id),
        registry.set_canary(OTHER.id, 5),
        registry.set_fallback(OTHER.id),
    ):
        with pytest.raises(VersionRetiredError, match="is retired, so it takes no part any more"):
            await move
    with pytest.raises(VersionRetiredError):
        await registry.make_releasable(OTHER.id, by="ann", reason="", forced=True)
    assert await registry.pointer() == await registry.set_canary(None, 0)
    revived = await registry.revive(OTHER.id, by="bob", reason="needed")
    assert revived.state is VersionState.RELEASABLE
    assert await registry.revive(OTHER.id, by="bob") == revived
    assert (await registry.promote(OTHER.id)).stable == OTHER.id
    assert [each[:2] for each in await actions(registry, OTHER.id)] == [
        ("revived", "bob"),
        ("retired", "ann"),
        ("registered", "tester"),
    ]


async def test_retiring_is_never_undone_to(registry: ModelRegistry) -> None:
    """Whatever the moves, what an undo and its redo lead to has a role, so it cannot be retired."""
    for version in (BASE, TUNED, OTHER, BASE, TUNED):
        await registry.promote(version.id)
    await registry.retire(OTHER.id, by="ann")
    for _ in range(4):
        pointer = await registry.undo()
        assert OTHER.id not in (pointer.stable, pointer.canary, pointer.previous)


@pytest.mark.parametrize("retiring_first", [True, False])
async def test_of_a_promote_and_a_retire_at_the_same_moment_one_is_refused(
    registry: ModelRegistry, database_url: str, retiring_first: bool
) -> None:
    """Each has decided before the other commits; the pointer's row is what both wait for."""
    await registry.promote(BASE.id)
    statements = {
        "retire": (
            QUERIES["set_retired"],
            {"id": OTHER.id, "by": "ann", "reason": "", "retired": True},
        ),
        "promote": (QUERIES["promote"], {"version": OTHER.id, "expected_revision": None}),
    }
    async with await psycopg.AsyncConnection.connect(database_url) as first:
        await first.execute(QUERIES["lock_pointer"])
        await first.execute(*statements["retire" if retiring_first else "promote"])
        second = asyncio.create_task(
            registry.promote(OTHER.id) if retiring_first else registry.retire(OTHER.id, by="ann")
        )
        await until_one_waits(database_url)
        await first.commit()
    with pytest.raises(VersionRetiredError if retiring_first else VersionInReachError):
        await second
    stable = (await registry.pointer()).stable
    assert stable == (BASE.id if retiring_first else OTHER.id)
    assert ((await registry.version(OTHER.id)).retired_at is not None) == retiring_first


@pytest.mark.parametrize("retiring_first", [True, False])
async def test_of_a_stage_and_a_retire_at_the_same_moment_one_is_refused(
    registry: ModelRegistry, database_url: str, retiring_first: bool
) -> None:
    async with store_of(database_url) as store, await psycopg.AsyncConnection.connect(database_url) as first:
        await first.execute(QUERIES["lock_pointer"])
        if retiring_first:
            values = {"id": OTHER.id, "by": "ann", "reason": "", "retired": True}
            await first.execute(QUERIES["set_retired"], values)
        else:
            await first.execute(
                "INSERT INTO serving.staged (version, staged_by) VALUES (%s, 'test')", [OTHER.id]
            )
        second: asyncio.Task[object] = asyncio.create_task(
            store.stage(OTHER.id, by="bob") if retiring_first else registry.retire(OTHER.id, by="ann")
        )
        await until_one_waits(database_url)
        await first.commit()
        with pytest.raises(VersionRetiredError if retiring_first else VersionInReachError):
            await second
    assert ((await registry.version(OTHER.id)).retired_at is not None) == retiring_first
    assert await registry.roles() == ({} if retiring_first else {OTHER.id: ("staged",)})


async def test_moves_of_a_version_are_those_that_gave_it_a_part_or_took_it(registry: ModelRegistry) -> None:
    await registry.promote(BASE.id)
    await registry.set_canary(TUNED.id, 500)
    await registry.set_canary(None, 0)
    await registry.promote(OTHER.id)
    assert [each.action for each in await registry.moves_of(TUNED.id)] == ["set_canary", "set_canary"]
    assert [each.canary for each in await registry.moves_of(TUNED.id)] == [None, TUNED.id]
    assert len(await registry.moves_of(BASE.id)) == 4
    assert [each.stable for each in await registry.moves_of(OTHER.id, limit=1)] == [OTHER.id]
