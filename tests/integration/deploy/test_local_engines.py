"""The engines of one machine: one that fails is said, and never keeps the others from being stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.database import pool
from deploy.errors import ProcessDiedError
from deploy.local_engines import OwnEngines
from deploy.models import LocalModels, ModelFolders
from serving.registry import ModelRegistry
from tests.fakes.engine_process import FakeEngineFactory


@pytest.fixture
async def registry(database_url: str) -> AsyncIterator[ModelRegistry]:
    async with pool(database_url, size=2) as connections:
        yield ModelRegistry(connections)


def models(root: Path) -> LocalModels:
    """A tuned model and its base, both with weights here: two engines."""
    made = LocalModels(
        folders=ModelFolders(root),
        base_digest="b" * 64,
        adapter_digest="a" * 64,
        manifest={"prompt": "support_short", "prompt_budget_tokens": 430},
    )
    for folder in (made.folders.base, made.folders.merged("b" * 64, "a" * 64)):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}", encoding="utf-8")
    return made


async def settled(said: list[str]) -> None:
    async with asyncio.timeout(10):
        while not said:  # noqa: ASYNC110 (a list has no event)
            await asyncio.sleep(0.01)


async def test_a_fallback_engine_that_dies_is_said_and_ended(tmp_path: Path, registry: ModelRegistry) -> None:
    said = list[str]()
    make = FakeEngineFactory(start_errors={"fallback": ProcessDiedError("engine: out of memory; log: x")})
    engines = OwnEngines(models(tmp_path), make, first_port=None, say=said.append)
    await engines.release(registry)
    await engines.start_stable()
    engines.start_others()
    await settled(said)
    assert said == ["engine for fallback and previous did not start: engine: out of memory; log: x"]
    stable, fallback = make.made
    assert (stable.stopped, fallback.stopped) == (0, 1)
    await engines.stop()
    assert stable.stopped == 1


async def test_an_engine_that_does_not_stop_leaves_no_other_running(
    tmp_path: Path, registry: ModelRegistry
) -> None:
    said = list[str]()
    make = FakeEngineFactory(stop_errors={"stable": PermissionError("not ours")})
    engines = OwnEngines(models(tmp_path), make, first_port=None, say=said.append)
    await engines.release(registry)
    await engines.start_stable()
    engines.start_others()
    await settled(said)
    await engines.stop()
    assert [engine.stopped for engine in make.made] == [1, 1]
    assert said[-1] == "an engine was not stopped in order: not ours"
