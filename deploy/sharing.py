"""The embedded PostgreSQL of one home, used by several processes at once: the last one to leave stops it.

Two kernel locks, which go with their process however it ends: `gate` is held while somebody starts or stops
the server, so that the two never overlap; `users` is held, shared, by everybody who works with it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.postgres import EmbeddedPostgres


class SharedPostgres:
    """One process's use of the server. `start` and `stop` may each be called again."""

    def __init__(self, server: EmbeddedPostgres, locks: Path) -> None:
        self.server = server
        self._gate = locks / "postgres.gate"
        self._users = locks / "postgres.users"
        self._use: int | None = None

    async def start(self) -> str:
        """The database URL. A start that is cancelled is waited for and taken back."""
        starting = asyncio.ensure_future(asyncio.to_thread(self._start))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.wait([starting])
            await self.stop()
            raise

    async def stop(self) -> None:
        """Leave; stop the server if nobody else is there."""
        await asyncio.to_thread(self._stop)

    def _start(self) -> str:
        with _locked(self._gate):
            if self._use is None:
                self._use = _open(self._users)
                fcntl.flock(self._use, fcntl.LOCK_SH)
            return self.server.start()

    def _stop(self) -> None:
        with _locked(self._gate):
            if self._use is not None:
                os.close(self._use)
                self._use = None
            users = _open(self._users)
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            finally:
                # Whoever comes now waits at the gate, so nobody can be there before the stop below is done.
                os.close(users)
            self.server.stop()


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
