"""What `twinrail up` puts on an empty model rail, and what it leaves alone on one that has moved."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.database import pool
from deploy.errors import DatabaseUnavailableError, DeployError
from deploy.keyring import SPECS, ensure_keys
from deploy.models import LocalModels, ModelFolders
from deploy.release import release_shipped, use_given
from gateway.access import KeyStore
from gateway.database import Database
from serving.errors import VersionUnreadableError
from serving.manifests import Manifest, check_manifest_file, manifest_file
from serving.pool import EngineHealth
from serving.registry import ModelRegistry

FOLDERS = ModelFolders(Path("models"))
TUNED = LocalModels(
    folders=FOLDERS,
    base_digest="b" * 64,
    adapter_digest="a" * 64,
    manifest={"prompt": "support_short", "prompt_budget_tokens": 430},
)
BASE_ONLY = LocalModels(folders=FOLDERS, base_digest="b" * 64, adapter_digest=None)


@pytest.fixture
async def registry(database_url: str) -> AsyncIterator[ModelRegistry]:
    async with pool(database_url, size=2) as connections:
        yield ModelRegistry(connections)


@pytest.fixture
async def keys(database_url: str) -> AsyncIterator[KeyStore]:
    async with pool(database_url, size=2) as connections:
        yield KeyStore(Database(connections))


def engine(*served: str, reason: str = "") -> EngineHealth:
    return EngineHealth(url="http://e/v1", ready=not reason, served=served, reason=reason)


async def test_the_tuned_model_is_stable_over_the_base_which_also_stands_in(registry: ModelRegistry) -> None:
    released = await release_shipped(registry, TUNED)
    tuned, base = TUNED.tuned_version(), TUNED.base_version()
    assert tuned is not None
    assert released.shipped == released.pointer.stable == tuned.id
    assert released.pointer.previous == released.pointer.fallback == base.id
    assert released.advice == ""
    assert (await registry.undo()).stable == base.id


async def test_manifests_lie_beside_the_weights_and_are_not_written_over(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    models = replace(TUNED, folders=ModelFolders(tmp_path))
    released = await release_shipped(registry, models)
    for version_id in (released.shipped, str(released.pointer.fallback)):
        stored = Manifest.from_json((await registry.version(version_id)).manifest)
        assert check_manifest_file(tmp_path, stored)
    path = manifest_file(tmp_path, released.shipped)
    path.write_text("of another database", encoding="utf-8")
    await release_shipped(registry, models)
    assert path.read_text(encoding="utf-8") == "of another database"


async def test_without_an_adapter_the_base_is_all_there_is(registry: ModelRegistry) -> None:
    released = await release_shipped(registry, BASE_ONLY)
    assert released.pointer.stable == released.pointer.fallback == BASE_ONLY.base_version().id
    assert released.pointer.previous is None


async def test_a_later_start_never_moves_the_pointer(registry: ModelRegistry) -> None:
    first = await release_shipped(registry, TUNED)
    undone = await registry.undo()
    again = await release_shipped(registry, TUNED)
    assert again.pointer == undone
    assert again.pointer.stable != first.pointer.stable


async def damage(database_url: str, version_id: str) -> None:
    async with pool(database_url, size=1) as connections, connections.connection() as connection:
        await connection.execute(
            "UPDATE serving.model_version SET manifest = '[]' WHERE id = %s", [version_id]
        )


@pytest.mark.parametrize("part", ["stable", "fallback"])
async def test_a_damaged_row_keeps_no_start_from_the_other_versions(
    registry: ModelRegistry, database_url: str, part: str
) -> None:
    first = await release_shipped(registry, TUNED)
    damaged = first.pointer.stable if part == "stable" else str(first.pointer.fallback)
    await damage(database_url, damaged)
    again = await release_shipped(registry, TUNED)
    assert again.pointer == first.pointer
    assert again.advice.startswith(f"version: {damaged} cannot be read: manifest: is [], not an object")
    # What is to be promoted instead can be read.
    assert again.shipped == (first.pointer.fallback if part == "stable" else first.shipped)


async def test_another_alpha_in_the_registry_keeps_no_start_from_the_base(
    registry: ModelRegistry, database_url: str
) -> None:
    models = replace(TUNED, manifest={**TUNED.manifest, "alpha": 32})
    first = await release_shipped(registry, models)
    async with pool(database_url, size=1) as connections, connections.connection() as connection:
        await connection.execute(
            """UPDATE serving.model_version SET manifest = manifest || '{"alpha": 64}' WHERE id = %s""",
            [first.shipped],
        )
    again = await release_shipped(registry, models)
    assert again.pointer == first.pointer
    assert again.advice.startswith(f"lora_alpha: is 32, and {first.shipped} is registered with the same")


async def test_a_damaged_row_takes_no_given_engine_away(registry: ModelRegistry, database_url: str) -> None:
    first = await use_given(registry, [engine("one", "two")])
    await damage(database_url, first.shipped)
    again = await use_given(registry, [engine("one", "two")])
    assert again.pointer == first.pointer
    assert again.shipped != first.shipped
    assert again.advice.startswith(f"version: {first.shipped} cannot be read")
    with pytest.raises(VersionUnreadableError, match=f"{first.shipped} cannot be read"):
        await use_given(registry, [engine("one")])


async def test_a_release_with_a_new_model_registers_it_and_says_how_to_promote_it(
    registry: ModelRegistry,
) -> None:
    old = await release_shipped(registry, BASE_ONLY)
    new = await release_shipped(registry, TUNED)
    assert new.pointer == old.pointer
    assert new.shipped in {version.id for version in await registry.versions()}
    assert new.advice.endswith(f"`twinrail promote model {new.shipped}`")


async def test_given_engines_are_registered_by_what_they_list(registry: ModelRegistry) -> None:
    released = await use_given(registry, [engine("acme/Support-7B"), engine("acme/Support-7B", "other")])
    versions = {version.served_name: version for version in await registry.versions()}
    assert set(versions) == {"acme/Support-7B", "other"}
    assert released.pointer.stable == versions["acme/Support-7B"].id
    assert released.pointer.stable.startswith("m-support-7b-")
    assert await use_given(registry, [engine("acme/Support-7B")]) == released
    assert len(await registry.versions()) == 2


async def test_a_given_name_that_looks_like_ours_keeps_one_prefix(
    registry: ModelRegistry,
) -> None:
    released = await use_given(registry, [engine("m-base-5304b353")])
    assert released.pointer.stable.startswith("m-base-5304b353-")


async def test_given_engines_that_do_not_serve_stable_are_explained(registry: ModelRegistry) -> None:
    await use_given(registry, [engine("old")])
    released = await use_given(registry, [engine("new")])
    assert released.pointer.stable.startswith("m-old-")
    assert "they list new: `twinrail promote model m-new-" in released.advice


async def test_engines_that_list_nothing_are_an_error_with_their_reason(registry: ModelRegistry) -> None:
    with pytest.raises(
        DeployError, match=r"^SERVING_ENGINES: nothing to serve with \(http://e/v1: refused\)"
    ):
        await use_given(registry, [engine(reason="refused")])


async def test_keys_are_made_once_and_again_where_the_database_does_not_take_them(keys: KeyStore) -> None:
    first = await ensure_keys(keys, {}, tenant="demo")
    assert set(first) == set(SPECS)
    assert await ensure_keys(keys, first, tenant="demo") == first
    (customer,) = [key for key in await keys.list("demo") if key.name == "customer"]
    await keys.revoke("demo", customer.id)
    later = await ensure_keys(keys, first, tenant="demo")
    assert {name for name in SPECS if later[name] != first[name]} == {"customer"}


async def test_a_database_that_is_not_there_is_named_without_its_password() -> None:
    with pytest.raises(
        DatabaseUnavailableError, match=r"^DATABASE_URL: no answer from 127.0.0.1:9/d; "
    ) as raised:
        async with pool("postgresql://u:secret@127.0.0.1:9/d", timeout_s=1.0):
            pass
    assert "secret" not in str(raised.value)
