"""Ends what is left of a stack when the process that started it is gone, however it went.

Runs beside `twinrail up` as a process of its own and reads lines from it: `group <pgid>` to watch a process
group, `forget <pgid>`, `postgres <postmaster.pid>`. When the pipe closes, everything still listed is ended:
after an orderly stop the list is empty, after `kill -9` it is the whole stack. Only the standard library, so
that it stays small.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

#: PostgreSQL writes a checkpoint when it stops; the others only have to let go.
POSTGRES_GRACE_S = 30.0
GROUP_GRACE_S = 5.0


def watch(lines: Iterable[str]) -> tuple[set[int], Path | None]:
    """Read until the pipe closes; return what is to be ended."""
    groups: set[int] = set()
    postmaster: Path | None = None
    for line in lines:
        word, _, value = line.strip().partition(" ")
        if word == "group":
            groups.add(int(value))
        elif word == "forget":
            groups.discard(int(value))
        elif word == "postgres":
            postmaster = Path(value) if value else None
    return groups, postmaster


def end(groups: set[int], postmaster: Path | None) -> None:
    """End the groups and the database server, politely first."""
    for group in groups:
        _signal_group(group, signal.SIGTERM)
    if not _wait(lambda: not any(_group_lives(group) for group in groups), GROUP_GRACE_S):
        for group in groups:
            _signal_group(group, signal.SIGKILL)
    pid = postmaster_pid(postmaster) if postmaster else None
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)  # fast shutdown: sessions are ended, what was committed stays
        _wait(lambda: postmaster_pid(postmaster) != pid, POSTGRES_GRACE_S)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def postmaster_pid(file: Path | None) -> int | None:
    """The server's process id, while its file is there; the server removes it as the last thing it does."""
    try:
        pid = int(file.read_text(encoding="utf-8").split("\n", 1)[0]) if file else None
        if pid is not None:
            os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid


def _wait(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it goes when its pipe closes, and not before
    end(*watch(sys.stdin))
