"""The command of docs/operations.md that asks engines what they serve, on engines as operators have them."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler

from tests.fakes.vllm_server import FakeVllm
from tests.unit.docs.pages import page

(COMMAND,) = (block.text for block in page("docs/operations.md").blocks if "/v1/models" in block.text)
#: What the shell gives to Python.
PROGRAM = COMMAND.partition("-c '")[2].rpartition("'")[0]
KEY = "secret"


@web.middleware
async def only_with_key(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.headers.get("authorization") != f"Bearer {KEY}":
        raise web.HTTPUnauthorized
    return await handler(request)


async def said(status: object, environment: dict[str, str]) -> list[str]:
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    out, _ = await program.communicate(json.dumps(status).encode())
    assert program.returncode == 0
    return out.decode().splitlines()


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
@pytest.mark.parametrize("running", [True, False])
async def test_it_says_what_each_engine_serves(path: str, running: bool) -> None:
    app = FakeVllm().app()
    app.middlewares.append(only_with_key)
    async with TestServer(app) as server:
        root = str(server.make_url("")).rstrip("/")
        environment = {"SERVING_ENGINES": root + path, "SERVING_ENGINE_API_KEY": KEY}
        stack = {"engines": {"given 1": root + path}} if running else None
        assert await said({"stack": stack}, environment) == [f"given 1 {root}/v1/models m-fake"]


async def test_without_a_stack_it_says_so() -> None:
    (line,) = await said({"stack": None}, {})
    assert line.startswith("no stack runs on this TWINRAIL_HOME")
