"""The stack as `twinrail up` starts it: PostgreSQL, vLLM on CPU, the demo help centre. One a session.

Models are prepared once and kept in TWINRAIL_TEST_MODELS (default: `.twinrail/models` of the checkout).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.home import Home
from deploy.ports import free_port
from deploy.watchdog import postmaster_pid
from tests.prepared import MODELS, ROOT

#: Generous: two shared cores, models converted on the first run.
READY_S = 900.0
GONE_S = 120.0
#: A test starts up to two stacks; it must be our own limits that end it, because they say what did not come.
TEST_TIMEOUT_S = 2 * (READY_S + GONE_S) + 600.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of this folder the time that their stacks may take."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_S))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a command left."""

    code: int
    data: str
    log: str

    @property
    def json(self) -> Any:
        return json.loads(self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A `twinrail up` of its own home."""

    process: subprocess.Popen[bytes]
    home: Path
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def twinrail(self, *arguments: str) -> Finished:
        """Run a command against this stack."""
        done = subprocess.run(
            [sys.executable, "-m", "deploy", *arguments],
            cwd=ROOT,
            env=environment(self.home, self.port),
            capture_output=True,
            text=True,
            timeout=READY_S,
            check=False,
        )
        return Finished(code=done.returncode, data=done.stdout, log=done.stderr)

    def wait_for(self, condition: Callable[[], bool], what: str, *, seconds: float = READY_S) -> None:
        """Wait for a condition; what `up` has said so far explains why it never came."""
        deadline = time.monotonic() + seconds
        while not condition():
            said = self.log.read_text(encoding="utf-8", errors="replace")
            assert self.process.poll() is None, f"`twinrail up` ended before {what}:\n{said}"
            assert time.monotonic() < deadline, f"{what} did not come in {seconds:.0f} s:\n{said}"
            time.sleep(0.2)

    def is_ready(self) -> bool:
        state = Home(self.home).state()
        return state is not None and state.ready

    def said(self, text: str) -> bool:
        return text in self.log.read_text(encoding="utf-8", errors="replace")

    def processes(self) -> list[psutil.Process]:
        """Everything that this stack runs now, PostgreSQL and the engines' own children included."""
        roots = [self.process.pid]
        postmaster = postmaster_pid(Home(self.home).postgres / "data" / "postmaster.pid")
        roots += [postmaster] if postmaster else []
        found = []
        for pid in roots:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                found += [process, *process.children(recursive=True)]
        return found


def environment(home: Path, port: int, **more: str) -> dict[str, str]:
    """What a user's shell would hold, with a home, a port and a models folder of the tests."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TWINRAIL_", "GATEWAY_", "SERVING_", "RETRIEVAL_", "OTEL_", "EVAL_"))
        and name != "DATABASE_URL"
    }
    return {
        **kept,
        "TWINRAIL_HOME": str(home),
        "TWINRAIL_MODELS": str(MODELS),
        "GATEWAY_PORT": str(port),
        "HF_HUB_OFFLINE": "1",
        "SERVING_START_TIMEOUT_S": str(READY_S),
        **more,
    }


@contextlib.contextmanager
def running(home: Path, log: Path, *arguments: str, port: int | None = None, **more: str) -> Iterator[Stack]:
    """`twinrail up` in a session of its own, as a terminal would have it; ended at the end."""
    port = port or free_port()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy", "up", *arguments],
            cwd=ROOT,
            env=environment(home, port, PYTHONUNBUFFERED="1", **more),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    stack = Stack(process=process, home=home, port=port, log=log)
    try:
        yield stack
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(GONE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def folder_for_all() -> Iterator[Path]:
    """A folder that PostgreSQL's user may enter. Not pytest's: each session of it shuts their parent."""
    with tempfile.TemporaryDirectory(prefix="twinrail-e2e-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for one test's stack."""
    with folder_for_all() as made:
        yield made


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A stack that is ready, with the engines of all arms."""
    with folder_for_all() as made, running(made / "home", made / "up.log") as started:
        started.wait_for(started.is_ready, "ready")
        yield started
