"""Our end of the watchdog's pipe: what `twinrail up` starts is told to a process that outlives it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy import watchdog


class Guard:
    """A watchdog process, from `with` to its end."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(Path(watchdog.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
            cwd="/",
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the pipe and wait: what an unclean end left is gone when this returns."""
        if self._process and self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait()

    @property
    def pid(self) -> int | None:
        """The watchdog's process id."""
        return self._process.pid if self._process else None

    def watch(self, group: int) -> None:
        """End this process group when we are gone."""
        self._tell(f"group {group}")

    def forget(self, group: int) -> None:
        """The group ended in order."""
        self._tell(f"forget {group}")

    def watch_postgres(self, postmaster: Path) -> None:
        """End the server of this postmaster.pid when we are gone."""
        self._tell(f"postgres {postmaster}")

    def forget_postgres(self) -> None:
        """The server ended in order."""
        self._tell("postgres ")

    def _tell(self, line: str) -> None:
        """Nothing is lost when the watchdog was killed but its own purpose: the stack goes on without it."""
        if self._process and self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()
