"""A durable file for turns that cannot be written to the database now: JSON lines, on disk before we go on.

Replay is safe to repeat: a turn is written under its own id, and one that is there already stays.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

logger = logging.getLogger(__name__)


class Spool:
    """The spool of one gateway process. Blocking; call it in a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open = folder / "turns.jsonl"
        self._closed = folder / "turns.replay.jsonl"
        self._refused = folder / "turns.refused.jsonl"

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add turns and wait until they are on disk; raises OSError when they cannot be (disk full)."""
        self._append(self._open, rows)

    def refuse(self, row: Mapping[str, Any], reason: str) -> None:
        """Keep a turn that the database will never take where a person can find it."""
        self._append(self._refused, [{"reason": reason, "turn": row}])

    def take(self) -> list[dict[str, Any]]:
        """Everything spooled until now. The file stays until `done`, so a crash in between loses nothing."""
        if not self._closed.exists():
            if not self._open.exists():
                return []
            self._open.replace(self._closed)
        rows = []
        for n, line in enumerate(self._closed.read_bytes().splitlines(), 1):
            try:
                rows.append(orjson.loads(line))
            except orjson.JSONDecodeError:
                # Only the end of an append that a crash cut off can look like this.
                logger.warning("spool line is cut off", extra={"action": "spool_line_skipped", "line": n})
        return rows

    def done(self) -> None:
        """What `take` gave is in the database."""
        self._closed.unlink(missing_ok=True)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to replay."""
        return not (self._open.exists() or self._closed.exists())

    def _append(self, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        data = b"".join(orjson.dumps(row) + b"\n" for row in rows)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            end = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, data)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, end)  # no half line for the next append to continue
                raise
        finally:
            os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
