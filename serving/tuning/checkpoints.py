"""Checkpoints of a training run: folders that are whole or not there, so that a run can be cut at any moment.

A folder is written beside its place, flushed, and renamed. What is in it is the trainer's business.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from serving.errors import CheckpointError

_STEP = re.compile(r"step-(\d{1,9})")
_DRAFT = ".draft"
#: What the system says when there is no room: of the disk, of the user, of the process.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Checkpoints:
    """The checkpoints of one run: the last one, and the one with the lowest validation loss."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self._folder / f"step-{step}"

    def steps(self) -> list[int]:
        """Steps with a whole checkpoint, ascending."""
        if not self._folder.is_dir():
            return []
        matches = (_STEP.fullmatch(path.name) for path in self._folder.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def newest(self) -> Path | None:
        """The last checkpoint, None when there is none."""
        steps = self.steps()
        return self.of(steps[-1]) if steps else None

    @contextmanager
    def writing(self, step: int) -> Iterator[Path]:
        """A folder to fill, which is the checkpoint of that step once everything is on the disk."""
        draft = self._folder / _DRAFT
        shutil.rmtree(draft, ignore_errors=True)
        try:
            draft.mkdir(parents=True)
            yield draft
            for file in draft.iterdir():
                _flush(file)
            _flush(draft)
            target = self.of(step)
            if target.exists():
                shutil.rmtree(target)
            draft.replace(target)
            _flush(self._folder)
        except (OSError, SafetensorError, RuntimeError) as exc:
            if not no_room(exc):
                raise
            shutil.rmtree(draft, ignore_errors=True)
            kept = self.newest()
            left = f"{kept.name} is kept" if kept else "none was made before"
            raise CheckpointError(
                f"{self._folder}: no space left for the checkpoint of step {step}; {left}: "
                "free some and run the same command again"
            ) from exc

    def drop_but(self, *steps: int | None) -> None:
        """Remove all but those steps."""
        for step in set(self.steps()) - set(steps):
            shutil.rmtree(self.of(step), ignore_errors=True)

    def remove(self) -> None:
        """Remove all of them: the run is over."""
        shutil.rmtree(self._folder, ignore_errors=True)


def no_room(error: BaseException) -> bool:
    """Whether a full disk is behind an error. Libraries that write in another language say it in words."""
    seen: BaseException | None = error
    while seen is not None:
        if getattr(seen, "errno", None) in _NO_ROOM or any(
            f"os error {code}" in str(seen) or os.strerror(code) in str(seen) for code in _NO_ROOM
        ):
            return True
        # torch says neither: its archive writer only knows that fewer bytes were written than it gave.
        if isinstance(seen, RuntimeError) and "PytorchStreamWriter failed" in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
