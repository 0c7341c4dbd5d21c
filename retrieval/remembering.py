"""Files that were read before and are as they were: who looks at a folder again parses only what changed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from retrieval.front_matter import SIDECAR
from retrieval.parsing import ParsedDocument

#: A file that was written this shortly before may be written again without another time on it.
SETTLED_NS = 2_000_000_000
#: Characters that are kept; what comes after is parsed every time.
MOST_CHARACTERS = 200_000_000

_Stat = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Mark:
    """What a file and the fields beside it look like from outside: device, inode, size, time of change."""

    file: _Stat
    sidecar: _Stat | None


class KnownFiles:
    """Single documents by their files, with the mark that each had when it was read."""

    def __init__(self, *, most_characters: int = MOST_CHARACTERS, settled_ns: int = SETTLED_NS) -> None:
        self._known: dict[Path, tuple[Mark, ParsedDocument]] = {}
        self._left = most_characters
        self._settled_ns = settled_ns

    def mark(self, path: Path) -> Mark | None:
        """How the file looks now; None where that is no proof of what is in it."""
        beside = path.with_name(path.name + SIDECAR)
        try:
            file = _stat(path)
        except OSError:
            return None  # Reading the file says what is wrong with it.
        try:
            sidecar = _stat(beside)
        except FileNotFoundError:
            sidecar = None
        except OSError:
            return None
        changed_ns = max(each[3] for each in (file, sidecar) if each is not None)
        return Mark(file, sidecar) if time.time_ns() - changed_ns > self._settled_ns else None

    def recall(self, path: Path, mark: Mark | None) -> ParsedDocument | None:
        """What the file said, if it still looks as it did then."""
        known = self._known.get(path)
        return known[1] if known is not None and mark is not None and known[0] == mark else None

    def keep(self, path: Path, mark: Mark | None, parsed: ParsedDocument) -> None:
        """Remember what a file said that had the mark before it was opened."""
        earlier = self._known.pop(path, None)
        self._left += len(earlier[1].document.text) if earlier is not None else 0
        needed = len(parsed.document.text)
        if mark is not None and needed <= self._left:
            self._known[path] = (mark, parsed)
            self._left -= needed


def _stat(path: Path) -> _Stat:
    """The time of the last change of content or of attributes, which nobody can set back."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, max(found.st_mtime_ns, found.st_ctime_ns)
