"""Log files of the stack: only their owner may read them, whatever the umask and whoever made them first."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO


def open_log(path: Path, *, anew: bool = False) -> BinaryIO:
    """Append to a log, or begin it `anew`. A log that an earlier release left open to others is shut."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if anew else os.O_APPEND)
    descriptor = os.open(path, flags, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        return os.fdopen(descriptor, "wb" if anew else "ab")
    except OSError:
        os.close(descriptor)
        raise
