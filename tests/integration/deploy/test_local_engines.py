"""The engines of one machine: started for what is wanted, stopped when nothing needs them, never too many."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from deploy.database import pool
from deploy.errors import ProcessDiedError
from deploy.local_engines import OwnEngines
from deploy.models import LocalModels, ModelFolders
from serving.digests import STAMP
from serving.registry import ModelRegistry
from serving.replicas import ReplicaStore
from serving.versions import ModelVersion
from tests.fakes.engine_process import FakeEngineFactory

OLD, NEW = "a" * 64, "c" * 64


@dataclass(slots=True)
class Machine:
    """A tuned model and its base, both with weights here, in a registry of their own."""

    registry: ModelRegistry
    store: ReplicaStore
    models: LocalModels
    make: FakeEngineFactory = field(default_factory=FakeEngineFactory)
    said: list[str] = field(default_factory=list)

    def engines(self, *, most: int = 4) -> OwnEngines:
        return OwnEngines(
            self.models,
            self.make,
            self.store,
            first_port=8100,
            most=most,
            say=self.said.append,
            look_s=0.02,
            leave_s=0.0,
        )

    async def register(
        self, adapter_digest: str, *, form: Path, manifest: Mapping[str, Any] | None = None
    ) -> ModelVersion:
        """Another tuned version, with weights on this disk."""
        form.mkdir(parents=True)
        (form / "config.json").write_text("{}", encoding="utf-8")
        tuned = self.models.tuned_version()
        assert tuned is not None
        version = replace(tuned, name="next", adapter_digest=adapter_digest)
        await self.registry.register(version, manifest=manifest)
        return version

    def states(self) -> list[tuple[tuple[str, ...], int, int]]:
        return [(each.placed.arms, each.started, each.stopped) for each in self.make.made]


@pytest.fixture
async def machine(database_url: str, tmp_path: Path) -> AsyncIterator[Machine]:
    models = LocalModels(
        folders=ModelFolders(tmp_path),
        base_digest="b" * 64,
        adapter_digest=OLD,
        manifest={"prompt": "support_short", "prompt_budget_tokens": 430},
    )
    for folder in (models.folders.base, models.folders.merged("b" * 64, OLD)):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}", encoding="utf-8")
    async with pool(database_url, size=3) as connections:
        yield Machine(ModelRegistry(connections), ReplicaStore(connections), models)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 (a list has no event)
            await asyncio.sleep(0.01)


async def test_a_fallback_engine_that_dies_is_said_once_and_ended(machine: Machine) -> None:
    machine.make.start_errors["fallback"] = ProcessDiedError("engine: out of memory; log: x")
    engines = machine.engines()
    await engines.release(machine.registry)
    await engines.start_stable()
    engines.keep_wanted(spares=True)
    await until(lambda: bool(machine.said))
    assert machine.said == ["engine for fallback and previous did not start: engine: out of memory; log: x"]
    assert machine.states() == [(("stable",), 1, 0), (("fallback", "previous"), 1, 1)]
    await engines.stop()
    assert machine.states()[0] == (("stable",), 1, 1)
    assert (await machine.store.fleet()).replicas == ()


async def test_an_engine_that_does_not_stop_leaves_no_other_running(machine: Machine) -> None:
    machine.make.stop_errors["stable"] = PermissionError("not ours")
    engines = machine.engines()
    await engines.release(machine.registry)
    await engines.start_stable()
    engines.keep_wanted(spares=True)
    await until(lambda: len(machine.said) == 1)
    await engines.stop()
    assert [engine.stopped for engine in machine.make.made] == [1, 1]
    assert machine.said[-1] == "an engine was not stopped in order: not ours"


@pytest.mark.parametrize("arm", ["stable", "fallback"])
async def test_engines_are_announced_again_while_one_takes_minutes_to_start(
    machine: Machine, arm: str
) -> None:
    ready = machine.make.slow[arm] = asyncio.Event()
    engines = machine.engines()
    await engines.release(machine.registry)
    starting = asyncio.create_task(engines.start_stable())
    if arm == "fallback":
        await starting
        engines.keep_wanted(spares=True)
    await until(lambda: any(each.started for each in machine.make.made if each.slow))
    known = await announced(machine)
    await machine.store.expire(0.0)  # as a gateway does after a minute of silence
    async with asyncio.timeout(20):
        while await announced(machine) != known:  # noqa: ASYNC110 (a table has no event)
            await asyncio.sleep(0.01)
    assert len(known) == len(machine.make.made)
    ready.set()
    await starting
    await engines.stop()


async def announced(machine: Machine) -> set[str]:
    return {replica.url for replica in (await machine.store.fleet()).replicas}


async def test_a_staged_version_gets_an_engine_and_one_that_nobody_wants_loses_its(machine: Machine) -> None:
    version = await machine.register(NEW, form=machine.models.folders.merged("b" * 64, NEW))
    engines = machine.engines()
    await engines.release(machine.registry)
    await engines.start_stable()
    engines.keep_wanted(spares=False)
    await asyncio.sleep(0.2)
    assert machine.states() == [(("stable",), 1, 0)]  # spares are left out

    await machine.store.stage(version.id, by="test")
    await until(lambda: len(machine.said) == 1)
    assert f"engine for staged is ready too: {version.id} on port 8101" in machine.said
    assert {replica.url for replica in (await machine.store.fleet()).replicas} == {
        "http://127.0.0.1:8100/v1",
        "http://127.0.0.1:8101/v1",
    }
    await machine.store.unstage(version.id)
    await until(lambda: len(machine.said) == 2)
    assert machine.states() == [(("stable",), 1, 0), (("staged",), 1, 1)]
    assert len((await machine.store.fleet()).replicas) == 1
    await engines.stop()


async def test_a_damaged_stable_version_is_said_and_the_fallback_is_started(
    machine: Machine, database_url: str
) -> None:
    engines = machine.engines()
    await engines.release(machine.registry)
    stable = (await machine.registry.pointer()).stable
    async with pool(database_url, size=1) as connections, connections.connection() as connection:
        await connection.execute("UPDATE serving.model_version SET manifest = '[]' WHERE id = %s", [stable])
    again = machine.engines()
    said = await again.release(machine.registry)
    assert said.startswith(f"version: {stable} cannot be read")
    assert again.cannot_serve == said
    assert str((await machine.registry.pointer()).fallback) in await again.start_stable()
    await again.stop()


async def test_no_engine_starts_on_what_was_merged_with_another_alpha_than_was_registered(
    machine: Machine,
) -> None:
    folder = machine.models.folders.merged("b" * 64, NEW)
    version = await machine.register(NEW, form=folder, manifest={"alpha": 32})
    stamp = {"base_digest": "b" * 64, "adapter_digest": NEW, "use": {"rank": 16, "alpha": 16.0}}
    (folder / STAMP).write_text(json.dumps(stamp), encoding="utf-8")
    await machine.store.stage(version.id, by="test")
    engines = machine.engines()
    await engines.release(machine.registry)
    await engines.start_stable()
    engines.keep_wanted(spares=True)
    said = f"{folder}: lora_alpha: it was merged with 16.0, and the manifest of {version.id} recorded 32"
    await until(lambda: any(said in each for each in machine.said))
    stamp["use"] = {"rank": 16, "alpha": 32.0}
    (folder / STAMP).write_text(json.dumps(stamp), encoding="utf-8")
    await until(lambda: any(version.id in each.placed.answers_as for each in machine.make.made))
    await engines.stop()


async def test_an_adapter_on_a_base_that_takes_none_moves_the_base_to_an_engine_that_does(
    machine: Machine,
) -> None:
    folder = machine.models.folders.adapter(NEW)
    version = await machine.register(NEW, form=folder)
    engines = machine.engines()
    await engines.release(machine.registry)
    await engines.start_stable()
    engines.keep_wanted(spares=True)
    await until(lambda: len(machine.said) == 1)
    await machine.store.stage(version.id, by="test")
    await until(lambda: len(machine.said) == 3)
    merged, plain, adapting = machine.make.made
    assert (plain.placed.adapters, plain.stopped) == ((), 1)
    assert (adapting.placed.adapters, adapting.stopped, merged.stopped) == ((version.id,), 0, 0)
    takes = {replica.url: replica.takes_adapters for replica in (await machine.store.fleet()).replicas}
    assert takes == {"http://127.0.0.1:8100/v1": False, "http://127.0.0.1:8102/v1": True}
    await engines.stop()


async def test_a_machine_that_is_full_says_so_and_stops_nothing_that_is_wanted(machine: Machine) -> None:
    version = await machine.register(NEW, form=machine.models.folders.merged("b" * 64, NEW))
    engines = machine.engines(most=2)
    await engines.release(machine.registry)
    await engines.start_stable()
    engines.keep_wanted(spares=True)
    await until(lambda: len(machine.said) == 1)
    await machine.store.stage(version.id, by="test")
    await until(lambda: len(machine.said) == 2)
    assert machine.said[1].startswith(f"no engine for staged ({version.id}): this machine runs 2 at most")
    assert [(started, stopped) for _, started, stopped in machine.states()] == [(1, 0), (1, 0)]
    await engines.stop()
