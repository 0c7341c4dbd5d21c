"""Processes of a benchmark: pinned to cores, watched through /proc, ended by their own id and by no name."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.overhead.errors import ProcessFailedError
from deploy.child import die_with_parent, signal_group

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STOP_TIMEOUT_S = 10.0
_LAST_LINES = 3


@dataclass(frozen=True, slots=True)
class Cores:
    """One core for the server that is measured, the others for everything around it."""

    server: frozenset[int]
    rest: frozenset[int]

    @classmethod
    def of_machine(cls) -> Cores:
        """The first core that we may use, and the second; the same one twice where there is no other."""
        allowed = sorted(os.sched_getaffinity(0))
        return cls(server=frozenset(allowed[:1]), rest=frozenset(allowed[1:2] or allowed))


class Service:
    """A server process in a session of its own, so that its children are found and ended with it."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        cores: frozenset[int],
    ) -> Service:
        """Start it on its cores."""

        def prepare() -> None:
            die_with_parent()
            os.sched_setaffinity(0, cores)

        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=prepare,  # runs before any thread of the new program exists
            )
        return cls(name, process, log)

    async def until_answers(self, url: str, *, timeout_s: float) -> None:
        """Wait for a 200; raises ProcessFailedError with the process's last words."""
        try:
            async with asyncio.timeout(timeout_s):
                while not await asyncio.to_thread(_answers, url):
                    if self._process.poll() is not None:
                        raise ProcessFailedError(
                            f"{self.name}: ended with {self._process.returncode} before it was ready: {self._last_words()}"
                        )
                    await asyncio.sleep(0.1)
        except TimeoutError as exc:
            raise ProcessFailedError(
                f"{self.name}: not ready after {timeout_s:.0f} s: {self._last_words()}"
            ) from exc

    async def stop(self) -> None:
        """SIGTERM, wait, and SIGKILL for what is left of its session."""
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._process.wait, _STOP_TIMEOUT_S)
        signal_group(self._process.pid, signal.SIGKILL)
        await asyncio.to_thread(self._process.wait)

    def cpu_s(self) -> float:
        """Processor time that the process and its children have used."""
        return sum(int(fields[11]) + int(fields[12]) for fields in self._members()) / _TICKS_PER_S

    def resident_mib(self) -> float:
        """Memory that they hold."""
        return sum(int(fields[21]) for fields in self._members()) * _PAGE_BYTES / 2**20

    def _members(self) -> list[list[str]]:
        """The fields of /proc/<pid>/stat after the name, for each process of the session."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended while we looked
            if int(fields[3]) == self._process.pid:
                found.append(fields)
        return found

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-_LAST_LINES:]
        return " / ".join(lines) or "no output"


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2.0) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False
