"""An engine process, on the fake of vLLM's wire."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from deploy.child import Child
from deploy.engine_process import EngineChild
from deploy.errors import ProcessDiedError
from deploy.guard import Guard
from deploy.ports import free_port
from serving.pool import EnginePool
from tests.prepared import ROOT

BASE = "m-base-00000001"
PATIENCE_S = 60.0


def child(tmp_path: Path, guard: Guard, said: list[str], *arguments: str) -> Child:
    return Child(
        "engine",
        [sys.executable, *arguments],
        environment={**os.environ, "PYTHONPATH": str(ROOT)},
        log=tmp_path / "engine.log",
        guard=guard,
        say=said.append,
    )


async def test_an_engine_that_dies_is_started_again(tmp_path: Path) -> None:
    port, said = free_port(), list[str]()
    url = f"http://127.0.0.1:{port}"
    fake = ("-m", "tests.fakes.vllm_server", "--port", str(port), "--model", BASE)
    with Guard() as guard:
        async with aiohttp.ClientSession() as session:
            process = child(tmp_path, guard, said, *fake)
            started = EngineChild(process, url, session, timeout_s=PATIENCE_S)
            try:
                await started.start()
                pool = EnginePool([url], session)
                assert await pool.ready(BASE)
                assert await started.is_idle()
                assert process.pid is not None
                os.kill(process.pid, signal.SIGKILL)
                async with asyncio.timeout(PATIENCE_S):
                    while not said or not await pool.ready(BASE):  # noqa: ASYNC110 (another process's)
                        await asyncio.sleep(0.05)
            finally:
                await started.stop()
            assert await started.is_idle()
    assert len(said) == 1


async def test_an_engine_that_ends_before_it_answers_says_its_last_words(tmp_path: Path) -> None:
    with Guard() as guard:
        async with aiohttp.ClientSession() as session:
            process = child(tmp_path, guard, [], "-c", "raise SystemExit('out of memory')")
            started = EngineChild(process, f"http://127.0.0.1:{free_port()}", session, timeout_s=PATIENCE_S)
            with pytest.raises(ProcessDiedError, match="out of memory"):
                await started.start()
            await started.stop()
