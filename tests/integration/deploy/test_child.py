"""Child processes: supervised, started again, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.child import READY_PAUSE_S, Child
from deploy.errors import DeployError, ProcessDiedError
from deploy.guard import Guard

#: Writes its pid into the file that it is given, starts a grandchild, then sleeps.
SLEEPER = textwrap.dedent(
    """
    import os, subprocess, sys, time
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(sys.argv[1], "a") as file:
        file.write(f"{os.getpid()} {grandchild.pid}\\n")
    time.sleep(600)
    """
)
STUBBORN = (
    "import signal as s, time; s.signal(s.SIGTERM, s.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
PATIENCE_S = 30.0


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # a zombie has ended, whoever still has to collect it


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


async def happens(true: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_until, true)


def families(file: Path) -> list[tuple[int, int]]:
    """(child, grandchild) of every start so far."""
    if not file.exists():
        return []
    return [
        (int(a), int(b)) for a, b in (line.split() for line in file.read_text(encoding="utf-8").splitlines())
    ]


def child(
    tmp_path: Path, guard: Guard, code: str, said: list[str], *args: str, stop_timeout_s: float = 10.0
) -> Child:
    return Child(
        "worker",
        [sys.executable, "-c", code, *args],
        environment=dict(os.environ),
        log=tmp_path / "worker.log",
        guard=guard,
        say=said.append,
        stop_timeout_s=stop_timeout_s,
    )


async def test_a_child_that_dies_is_started_again_and_stop_ends_its_whole_group(tmp_path: Path) -> None:
    file, said = tmp_path / "pids", list[str]()
    with Guard() as guard:
        worker = child(tmp_path, guard, SLEEPER, said, str(file))

        async def ready() -> bool:
            return len(families(file)) == 1

        await worker.start(ready, timeout_s=PATIENCE_S)
        os.kill(families(file)[0][0], signal.SIGKILL)
        await happens(lambda: len(families(file)) == 2)
        assert said == [
            f"worker ended (signal SIGKILL); starting it again in 0.5 s; log: {tmp_path / 'worker.log'}"
        ]
        await worker.stop()
        everybody = [pid for family in families(file) for pid in family]
        await happens(lambda: not any(lives(pid) for pid in everybody))


async def test_a_child_that_cannot_be_started_for_a_while_is_tried_again(tmp_path: Path) -> None:
    file, said, moved = tmp_path / "pids", list[str](), tmp_path / "moved"
    folder = tmp_path / "logs"
    folder.mkdir()
    with Guard() as guard:
        worker = child(folder, guard, SLEEPER, said, str(file))

        async def ready() -> bool:
            return len(families(file)) == 1

        await worker.start(ready, timeout_s=PATIENCE_S)
        folder.rename(moved)  # its log cannot be opened
        os.kill(families(file)[0][0], signal.SIGKILL)
        await happens(lambda: len(said) == 2)
        assert said[1].startswith("worker cannot be started ([Errno 2] No such file or directory: ")
        assert said[1].endswith("; trying again in 1 s")
        assert worker.pid is None
        moved.rename(folder)
        await happens(lambda: len(families(file)) == 2)
        await worker.stop()


async def test_what_cannot_be_set_up_after_a_restart_is_tried_with_growing_pauses(tmp_path: Path) -> None:
    file, said, asked = tmp_path / "pids", list[str](), list[float]()
    with Guard() as guard:
        worker = child(tmp_path, guard, SLEEPER, said, str(file))

        async def ready() -> bool:
            if said:
                asked.append(time.monotonic())
                raise DeployError("refused")
            return len(families(file)) == 1

        await worker.start(ready, timeout_s=PATIENCE_S)
        os.kill(families(file)[0][0], signal.SIGKILL)
        await happens(lambda: len(asked) == 4)
        await worker.stop()
    assert said[1:] == ["worker is not ready: refused"]
    # No machine is too slow for this: a pause is never shorter than it was asked to be.
    assert asked[3] - asked[2] > 6 * READY_PAUSE_S


async def test_a_watchdog_that_was_killed_takes_nothing_with_it(tmp_path: Path) -> None:
    file, said = tmp_path / "pids", list[str]()
    with Guard() as guard:
        worker = child(tmp_path, guard, SLEEPER, said, str(file))

        async def ready() -> bool:
            return len(families(file)) == 1

        await worker.start(ready, timeout_s=PATIENCE_S)
        assert guard.pid is not None
        os.kill(guard.pid, signal.SIGKILL)
        await happens(lambda: not lives(guard.pid or 0))
        os.kill(families(file)[0][0], signal.SIGKILL)
        await happens(lambda: len(families(file)) == 2)
        await worker.stop()


async def test_a_child_that_dies_before_it_is_ready_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    with Guard() as guard:
        worker = child(tmp_path, guard, "import sys; sys.exit('GATEWAY_PORT: in use')", [])

        async def never() -> bool:
            return False

        with pytest.raises(
            ProcessDiedError, match=r"worker: ended before it was ready: GATEWAY_PORT: in use; log: "
        ):
            await worker.start(never, timeout_s=PATIENCE_S)
        await worker.stop()


async def test_a_child_that_does_not_end_is_killed(tmp_path: Path) -> None:
    said = list[str]()
    with Guard() as guard:
        worker = child(tmp_path, guard, STUBBORN, said, stop_timeout_s=0.3)

        async def ready() -> bool:
            return "up" in worker.log.read_text(encoding="utf-8")

        await worker.start(ready, timeout_s=PATIENCE_S)
        pid = worker.pid
        await worker.stop()
        assert pid is not None
        assert not lives(pid)
        assert said == ["worker did not end in 0 s and is killed"]


def test_when_the_supervisor_is_killed_the_watchdog_ends_what_it_started(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    supervisor = textwrap.dedent(
        f"""
        import subprocess, sys, time
        from deploy.guard import Guard
        with Guard() as guard:
            command = [sys.executable, "-c", {SLEEPER!r}, {str(file)!r}]
            started = subprocess.Popen(command, start_new_session=True)
            guard.watch(started.pid)
            time.sleep(600)
        """
    )
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", supervisor], os.environ)
    wait_until(lambda: len(families(file)) == 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    wait_until(lambda: not any(lives(each) for each in families(file)[0]))


def test_the_guard_waits_for_an_empty_list_without_ending_anybody(tmp_path: Path) -> None:
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)"], os.environ)
    try:
        with Guard() as guard:
            guard.watch(pid)
            guard.forget(pid)
        assert lives(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
