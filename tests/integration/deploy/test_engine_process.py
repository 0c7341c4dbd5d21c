"""An engine process and its adapters, on the fake of vLLM's wire."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest

from deploy.child import Child
from deploy.engine_process import EngineChild
from deploy.errors import DeployError
from deploy.guard import Guard
from deploy.ports import free_port
from serving.adapters import AdapterLoader
from serving.pool import EnginePool
from tests.fakes.vllm_server import FakeVllm
from tests.prepared import ROOT

BASE, TUNED, OLDER = "m-base-00000001", "m-support-00000001", "m-support-00000000"
PATIENCE_S = 60.0
#: Serves nothing, for as long as it is left alone.
SILENT = ("-c", "import time; time.sleep(600)")


def child(tmp_path: Path, guard: Guard, said: list[str], *arguments: str) -> Child:
    return Child(
        "engine",
        [sys.executable, *arguments],
        environment={**os.environ, "PYTHONPATH": str(ROOT)},
        log=tmp_path / "engine.log",
        guard=guard,
        say=said.append,
    )


def engine(
    process: Child,
    url: str,
    session: aiohttp.ClientSession,
    adapters: Mapping[str, Path],
    said: list[str],
) -> EngineChild:
    return EngineChild(
        process,
        url,
        session,
        adapters=adapters,
        needed=TUNED,
        loader=AdapterLoader(url, session),
        say=said.append,
        timeout_s=PATIENCE_S,
    )


async def test_an_engine_that_was_started_again_gets_its_adapters_back(tmp_path: Path) -> None:
    port, said = free_port(), list[str]()
    url = f"http://127.0.0.1:{port}"
    fake = ("-m", "tests.fakes.vllm_server", "--port", str(port), "--model", BASE)
    with Guard() as guard:
        async with aiohttp.ClientSession() as session:
            process = child(tmp_path, guard, said, *fake)
            started = engine(process, url, session, {TUNED: tmp_path / "adapter"}, said)
            try:
                await started.start()
                pool = EnginePool([url], session)
                assert await pool.ready(TUNED)
                assert process.pid is not None
                os.kill(process.pid, signal.SIGKILL)
                async with asyncio.timeout(PATIENCE_S):
                    while not said or not await pool.ready(TUNED):  # noqa: ASYNC110 (another process's)
                        await asyncio.sleep(0.05)
            finally:
                await started.stop()
    assert len(said) == 1


async def test_a_needed_adapter_that_the_engine_refuses_is_an_error_after_all_were_tried(
    tmp_path: Path,
) -> None:
    good = tmp_path / "good"
    fake = FakeVllm(adapter_paths=frozenset({str(good)}))
    adapters = {TUNED: tmp_path / "gone", OLDER: good}
    with Guard() as guard:
        async with aiohttp.ClientSession() as session, fake.serving() as url:
            process = child(tmp_path, guard, [], *SILENT)
            started = engine(process, url.removesuffix("/v1"), session, adapters, [])
            try:
                with pytest.raises(DeployError, match=rf"^adapter {tmp_path}/gone: not loaded .*{TUNED}"):
                    await started.start()
            finally:
                await started.stop()
    assert fake.adapters == {OLDER: str(good)}


async def test_a_refused_adapter_takes_no_other_version_away_and_is_named_once(tmp_path: Path) -> None:
    good, said = tmp_path / "good", list[str]()
    fake = FakeVllm(adapter_paths=frozenset({str(good)}))
    adapters = {OLDER: tmp_path / "gone", TUNED: good}
    with Guard() as guard:
        async with aiohttp.ClientSession() as session, fake.serving() as url:
            process = child(tmp_path, guard, said, *SILENT)
            started = engine(process, url.removesuffix("/v1"), session, adapters, said)
            try:
                await started.start()
                assert fake.adapters == {TUNED: str(good)}
                assert process.pid is not None
                fake.adapters.clear()
                os.kill(process.pid, signal.SIGKILL)
                async with asyncio.timeout(PATIENCE_S):
                    while TUNED not in fake.adapters:  # noqa: ASYNC110 (another process's)
                        await asyncio.sleep(0.05)
            finally:
                await started.stop()
    named = [line for line in said if line.startswith(f"adapter {tmp_path}/gone: not loaded (")]
    assert len(named) == 1
    assert OLDER in named[0]
