"""Files that were read before and are as they were: who looks at a folder again parses only what changed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

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


@dataclass(frozen=True, slots=True)
class _Known:
    #: Ids and titles may come of it.
    name: str
    mark: Mark
    parsed: ParsedDocument


class KnownFiles:
    """Single documents by file and name, with the mark that each had when it was read. Those who read at the
    same time may share it."""

    def __init__(self, *, most_characters: int = MOST_CHARACTERS, settled_ns: int = SETTLED_NS) -> None:
        self._known: dict[Path, _Known] = {}
        #: Files looked at since one of them was looked at before: a round through the folder.
        self._round: set[Path] = set()
        self._left = most_characters
        self._settled_ns = settled_ns
        self._lock = Lock()

    def mark(self, path: Path) -> Mark | None:
        """How the file looks now; None where that is no proof of what is in it."""
        with self._lock:
            self._look_at(path)
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

    def recall(self, path: Path, name: str, mark: Mark | None) -> ParsedDocument | None:
        """What the file said by this name, if it still looks as it did then."""
        with self._lock:
            known = self._known.get(path)
        if known is None or mark is None or (known.name, known.mark) != (name, mark):
            return None
        return known.parsed

    def keep(self, path: Path, name: str, mark: Mark | None, parsed: ParsedDocument) -> None:
        """Remember what a file said that had the mark before it was opened."""
        with self._lock:
            self._forget(path)
            needed = len(parsed.document.text)
            if mark is not None and needed <= self._left:
                self._known[path] = _Known(name, mark, parsed)
                self._left -= needed

    def _look_at(self, path: Path) -> None:
        """A second look at a file begins a new round: what the last one did not come by is gone."""
        if path in self._round:
            for gone in self._known.keys() - self._round:
                self._forget(gone)
            self._round.clear()
        self._round.add(path)

    def _forget(self, path: Path) -> None:
        if (known := self._known.pop(path, None)) is not None:
            self._left += len(known.parsed.document.text)


def _stat(path: Path) -> _Stat:
    """The time of the last change of content or of attributes, which nobody can set back."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, max(found.st_mtime_ns, found.st_ctime_ns)
