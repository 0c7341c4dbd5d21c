"""A supervised child process: its own group, its own log, started again with back-off when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from deploy.errors import DeployError, ProcessDiedError
from deploy.guard import Guard
from deploy.logfile import open_log

#: Linux: a signal for the child when its parent dies. The watchdog covers what this cannot.
PR_SET_PDEATHSIG = 1
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
READY_PAUSE_S = 0.1
#: A child that lived this long had a good start: the next pause is the first again.
GOOD_LIFE_S = 60.0
LOG_LIMIT_BYTES = 20 * 1024 * 1024


class Child:
    """One process that is kept running until `stop`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        guard: Guard,
        say: Callable[[str], None],
        stop_timeout_s: float = 30.0,
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._environment = environment
        self._guard = guard
        self._say = say
        self._stop_timeout_s = stop_timeout_s
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self, ready: Callable[[], Awaitable[bool]], *, timeout_s: float) -> None:
        """Start, wait until `ready`, then keep it running. An early death is an error with its last words.

        `ready` is asked until it says yes after every later start too: it may have to set the process up.
        """
        await self._spawn()
        try:
            async with asyncio.timeout(timeout_s):
                while not await ready():
                    if self.pid is None:
                        raise ProcessDiedError(self._last_words())
                    await asyncio.sleep(READY_PAUSE_S)
        except TimeoutError as exc:
            raise ProcessDiedError(
                f"{self.name}: not ready after {timeout_s:.0f} s; {self.log} says why"
            ) from exc
        self._keeper = asyncio.create_task(self._keep(ready), name=f"keep {self.name}")

    async def stop(self) -> None:
        """SIGTERM, wait, and SIGKILL for the whole group if that did not do."""
        if self._keeper:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._process is None:
            return
        group = self._process.pid
        signal_group(group, signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), self._stop_timeout_s)
        except TimeoutError:
            self._say(f"{self.name} did not end in {self._stop_timeout_s:.0f} s and is killed")
        signal_group(group, signal.SIGKILL)
        await self._process.wait()
        self._guard.forget(group)
        self._process = None

    async def _keep(self, ready: Callable[[], Awaitable[bool]]) -> None:
        """Start it again whenever it dies; pause longer each time it dies young or does not start."""
        pause_s = FIRST_PAUSE_S
        loop = asyncio.get_running_loop()
        while process := self._process:
            born = loop.time()
            code = await process.wait()
            signal_group(process.pid, signal.SIGKILL)
            self._guard.forget(process.pid)
            self._process = None
            if loop.time() - born > GOOD_LIFE_S:
                pause_s = FIRST_PAUSE_S
            self._say(
                f"{self.name} ended ({_ending(code)}); starting it again in {pause_s:g} s; log: {self.log}"
            )
            pause_s = await self._spawn_after(pause_s)
            await self._until(ready)

    async def _until(self, ready: Callable[[], Awaitable[bool]]) -> None:
        """Wait until it is ready again or has died; what keeps it from being ready is said once.

        Setting it up is tried again with growing pauses. Its death ends a pause: then it is started anew.
        """
        said, pause_s = "", READY_PAUSE_S
        while (process := self._process) and process.returncode is None:
            try:
                if await ready():
                    return
                pause_s = READY_PAUSE_S
            except (DeployError, OSError) as exc:
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                if str(exc) != said:
                    said = str(exc)
                    self._say(f"{self.name} is not ready: {said}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), pause_s)

    async def _spawn_after(self, pause_s: float) -> float:
        """Try until there is a process again, whatever the machine lacks just now; returns the next pause."""
        while True:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            try:
                await self._spawn()
            except OSError as exc:
                self._say(f"{self.name} cannot be started ({exc}); trying again in {pause_s:g} s")
            else:
                return pause_s

    async def _spawn(self) -> None:
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_suffix(".old.log"))
        with open_log(self.log) as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self._environment),
                start_new_session=True,
                preexec_fn=die_with_parent if sys.platform == "linux" else None,
            )
        self._guard.watch(self._process.pid)

    def _last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
        return f"{self.name}: ended before it was ready: {' / '.join(lines) or 'no output'}; log: {self.log}"


def die_with_parent() -> None:
    """Between fork and exec: ask the kernel to end us with our parent."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
