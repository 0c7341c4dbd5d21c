"""The gateway as a process: how it refuses to start, and how it stops."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import aiohttp
import psycopg
import pytest

from deploy.ports import free_port
from gateway.cli import main
from tests.integration.telemetry.running_gateway import (
    ROOT,
    SLOW,
    RunningGateway,
    running_gateway,
)


async def run(variables: Mapping[str, str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `python -m gateway`."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GATEWAY_", "RETRIEVAL_", "SERVING_", "DATABASE_URL", "OTEL_"))
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        *arguments,
        cwd=ROOT,
        env={**inherited, "GATEWAY_PORT": str(free_port()), **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode()


Environ = Callable[[Mapping[str, str]], None]


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Environ:
    """Sets the variables of a gateway, and takes those of this machine away."""

    def use(variables: Mapping[str, str]) -> None:
        for name in list(os.environ):
            if name.startswith(("GATEWAY_", "RETRIEVAL_", "SERVING_", "DATABASE_URL")):
                monkeypatch.delenv(name)
        defaults = {"GATEWAY_PORT": "0", "GATEWAY_SPOOL_DIR": str(tmp_path / "spool")}
        for name, value in {**defaults, **variables}.items():
            monkeypatch.setenv(name, value)

    return use


@pytest.mark.parametrize(
    ("variables", "code", "words"),
    [
        ({}, 2, ("DATABASE_URL", "no database is named")),
        ({"DATABASE_URL": "nonsense"}, 2, ("DATABASE_URL", "not a PostgreSQL URL")),
        ({"DATABASE_URL": "postgresql://u:p@127.0.0.1:1/x"}, 3, ("DATABASE_URL", "does not answer")),
        ({"GATEWAY_PORT": "70000"}, 2, ("GATEWAY_PORT", "65535")),
        ({"GATEWAY_DEADLINE_S": "-1"}, 2, ("GATEWAY_DEADLINE_S", "greater than 0")),
        ({"GATEWAY_HOST": "192.0.2.1"}, 2, ("GATEWAY_HOST", "cannot listen")),
        ({"GATEWAY_SPOOL_DIR": "/proc/spool"}, 2, ("GATEWAY_SPOOL_DIR", "cannot write")),
        ({"SERVING_ENGINES": "ftp://x"}, 2, ("SERVING_ENGINES", "http")),
    ],
)
def test_it_says_in_one_line_why_it_does_not_start(
    variables: dict[str, str],
    code: int,
    words: tuple[str, ...],
    environ: Environ,
    capsys: pytest.CaptureFixture[str],
) -> None:
    environ(variables)
    assert main([]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("twinrail serve: ")
    assert err.count("\n") == 1
    assert all(word in err for word in words), err


def test_a_port_in_use_is_named(environ: Environ, capsys: pytest.CaptureFixture[str]) -> None:
    environ({})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["--port", port]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"twinrail serve: GATEWAY_PORT: port {port} on 127.0.0.1 is in use; ")


async def test_a_database_without_tables(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("DROP SCHEMA gateway CASCADE")
    code, _, err = await run({"DATABASE_URL": database_url, "SERVING_ENGINES": "http://127.0.0.1:1/v1"})
    assert code == 3
    assert "twinrail migrate" in err


async def test_sigterm_lets_streams_finish_and_loses_no_turn(database_url: str, tmp_path: Path) -> None:
    async with running_gateway(database_url, tmp_path) as running:
        running.vllm.program(running.stable, between_tokens_s=0.05)
        asking = asyncio.create_task(running.stream(SLOW))
        await asyncio.wait_for(running.vllm.busy(), 20)
        pid = await _pid_of(running)
        os.kill(pid, signal.SIGTERM)
        await _until_not_ready(running)
        assert (await asyncio.wait_for(asking, 30))[-1] == "answer.completed"
        await _until_gone(running)

    with psycopg.connect(database_url, autocommit=True) as conn, conn.transaction():
        conn.execute("SELECT set_config('gateway.tenant', 'acme', true)")
        rows = conn.execute("SELECT status, question FROM gateway.turn").fetchall()
    assert rows == [("answered", SLOW)]
    assert not list((tmp_path / "spool").glob("*"))


async def _pid_of(running: RunningGateway) -> int:
    """The process that listens on the gateway's port."""
    port = int(running.url.rsplit(":", 1)[1])
    wanted = f"{port:04X}"
    inodes = {
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text(encoding="utf-8").splitlines()[1:]
        if line.split()[1].endswith(f":{wanted}") and line.split()[3] == "0A"
    }
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            target = str(path.readlink())
        except OSError:
            continue
        if target.startswith("socket:[") and target[8:-1] in inodes:
            return int(path.parts[2])
    raise AssertionError("nobody listens")


async def _until_not_ready(running: RunningGateway) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                async with running.session.get(f"{running.url}/readyz") as response:
                    if response.status == 503:
                        return
            except aiohttp.ClientError:
                return
            await asyncio.sleep(0.02)


async def _until_gone(running: RunningGateway) -> None:
    async with asyncio.timeout(40):
        while True:
            try:
                async with running.session.get(f"{running.url}/livez"):
                    pass
            except aiohttp.ClientError:
                return
            await asyncio.sleep(0.05)
