"""The data folder of one machine: where everything lies, which keys were made, who runs a stack on it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from deploy.errors import AlreadyRunningError, DiskFullError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class StackState:
    """What a running `twinrail up` says of itself to other commands."""

    pid: int
    gateway_url: str
    ready: bool
    database: str
    engines: Mapping[str, str]
    started_at: str


@dataclass(frozen=True, slots=True)
class Home:
    """The folder that TWINRAIL_HOME names."""

    root: Path

    @property
    def postgres(self) -> Path:
        return self.root / "pg"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def spool(self) -> Path:
        return self.root / "spool"

    @property
    def runs(self) -> Path:
        """Runs of `twinrail eval`; made by the first one."""
        return self.root / "runs"

    @property
    def keys_file(self) -> Path:
        return self.root / "keys.json"

    @property
    def run(self) -> Path:
        """Locks and the state of what runs; gone or stale when nothing does."""
        return self.root / "run"

    def prepare(self) -> Self:
        """Make the folders; only their owner may enter those that hold secrets or answers."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            for folder in (self.models, self.logs, self.spool, self.run):
                folder.mkdir(exist_ok=True)
            for folder in (self.logs, self.spool, self.run):
                folder.chmod(0o700)
        except OSError as exc:
            if exc.errno == errno.ENOSPC:
                raise DiskFullError(
                    f"TWINRAIL_HOME: the disk of {self.root} is full; free some space"
                ) from exc
            raise UsageError(
                f"TWINRAIL_HOME: cannot write to {self.root} ({exc.strerror}); choose another folder"
            ) from exc
        return self

    # ---- keys ------------------------------------------------------------------------------------

    def keys(self) -> dict[str, str]:
        """The API keys that `up` made, by name."""
        try:
            keys = json.loads(self.keys_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as exc:
            raise UsageError(
                f"{self.keys_file}: cannot be read ({exc}); restore it, or remove it to get new keys"
            ) from exc
        return {str(name): str(key) for name, key in keys.items()}

    def keep_keys(self, keys: Mapping[str, str]) -> None:
        """Write the keys so that only their owner reads them; never half a file."""
        _write_whole(self.keys_file, json.dumps(dict(keys), indent=2) + "\n")

    # ---- the running stack -----------------------------------------------------------------------

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one `up`. The kernel lets go of it however the process ends."""
        descriptor = os.open(self.run / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise AlreadyRunningError(
                    f"TWINRAIL_HOME: a stack already runs on {self.root}; "
                    "use it, stop it with `twinrail down`, or choose another folder"
                ) from exc
            self._state_file.unlink(missing_ok=True)
            try:
                yield
            finally:
                self._state_file.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def is_running(self) -> bool:
        """Whether some `up` holds the folder."""
        try:
            descriptor = os.open(self.run / "up.lock", os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def state(self) -> StackState | None:
        """What the running stack says, None when nothing runs here."""
        if not self.is_running():
            return None
        try:
            return StackState(**json.loads(self._state_file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def keep_state(self, state: StackState) -> None:
        """Tell other commands about the stack."""
        _write_whole(self._state_file, json.dumps(asdict(state)))

    @property
    def _state_file(self) -> Path:
        return self.run / "state.json"


def _write_whole(path: Path, text: str) -> None:
    """Replace the file in one step, readable by its owner only."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
