"""Files are read in a process of their own: one that hangs, crashes or eats memory takes nothing with it."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import orjson

from retrieval.errors import ParsingProcessError, UnparsableDocumentError
from retrieval.files import out_of_memory
from retrieval.limits import DEFAULT_LIMITS, ReadLimits
from retrieval.parsing import ParsedDocument
from retrieval.parsing_wire import LENGTH, Frame, result_of, write_frame

READER = "retrieval.files:entries"
#: Rows of one corpus that may end the process before the rest of it is given up.
MOST_DEATHS = 10
_START_S = 60.0
_STOP_S = 2.0
_PIECE_BYTES = 1 << 18
#: All that a parser needs of our environment, where the database's password is.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")


class ParsingProcess:
    """Reads files one after the other. Starts with the first one, and again after one that ended it."""

    def __init__(self, limits: ReadLimits = DEFAULT_LIMITS, *, reader: str = READER) -> None:
        self._limits = limits
        self._reader = reader
        self._running: _Running | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process; the next file would start another."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    def read(self, path: Path, name: str) -> Iterator[ParsedDocument | UnparsableDocumentError]:
        """Every document of a file, or why it cannot be read."""
        done, deaths, careful = 0, 0, False
        while deaths < MOST_DEATHS:
            place = name
            process = self._running = self._running or _Running(self._reader, self._limits)
            finished = begun = False
            try:
                process.send({"path": str(path), "name": name, "skip": done, "careful": careful})
                while "end" not in (frame := process.receive(self._limits.timeout_s)):
                    if "begin" in frame:
                        place, begun = frame["begin"], True
                        continue
                    yield result_of(frame)
                    done += 1
                    place, begun = name, False
                finished = True
                return
            except _GoneError as gone:
                if not begun and done and not careful:
                    careful = True  # one of the rows that came in batches: find out which
                    continue
                yield self._failure(place, gone)
                if not begun:
                    return
                done, deaths, careful = done + 1, deaths + 1, False
            finally:
                if not finished:  # a process that is dead or in the middle of something is of no use
                    process.kill()
                    self._running = None
        problem = f"ended the reader {MOST_DEATHS} times, so the rows after are not read"
        yield UnparsableDocumentError(name, "file", problem, "remove the rows listed above")

    def _failure(self, place: str, gone: _GoneError) -> UnparsableDocumentError:
        seconds = f"{self._limits.timeout_s:g} s"
        split = "split it, or raise RETRIEVAL_PARSE_TIMEOUT_S"
        match gone.status:
            case None:
                return UnparsableDocumentError(place, "time", f"took longer than {seconds} to read", split)
            case status if status == -signal.SIGXCPU:
                return UnparsableDocumentError(place, "time", f"took more than {seconds} of CPU time", split)
            case status if status in (-signal.SIGKILL, -signal.SIGABRT):
                return out_of_memory(place, self._limits)
            case status:
                how = signal.Signals(-status).name if status < 0 else f"status {status}"
                fix = "save it again, or in another format"
                return UnparsableDocumentError(place, "content", f"crashed its reader ({how})", fix)


class _GoneError(Exception):
    """The process ended (`status`), or did not answer in time (None)."""

    def __init__(self, status: int | None) -> None:
        super().__init__(status)
        self.status = status


class _Running:
    """One process, from its start to its end."""

    def __init__(self, reader: str, limits: ReadLimits) -> None:
        environment = {name: value for name in _ENVIRONMENT if (value := os.environ.get(name))}
        environment["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(  # -P: nothing in the current folder stands in for a module
            [sys.executable, "-P", "-m", "retrieval.parsing_worker", reader, json.dumps(asdict(limits))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env=environment,
        )
        self._received = bytearray()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._answers, selectors.EVENT_READ)
        try:
            self.receive(_START_S)
        except _GoneError as gone:
            words = self._last_words
            self.kill()
            raise ParsingProcessError(f"the parsing process does not start: {words}") from gone

    def send(self, frame: Frame) -> None:
        """Ask for a file."""
        assert self._process.stdin is not None
        try:
            write_frame(self._process.stdin, frame)  # type: ignore[arg-type]
        except BrokenPipeError as exc:
            raise _GoneError(self._process.wait()) from exc

    def receive(self, timeout_s: float) -> Frame:
        """The next frame."""
        until = time.monotonic() + timeout_s
        (length,) = LENGTH.unpack(self._take(LENGTH.size, until))
        frame: Frame = orjson.loads(self._take(length, until))
        return frame

    def stop(self) -> None:
        """Hang up; what does not go then is killed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._close()

    def kill(self) -> None:
        """End it now."""
        self._process.kill()
        self._close()

    @property
    def _answers(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def _last_words(self) -> str:
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it says nothing"

    def _take(self, count: int, until: float) -> bytes:
        while len(self._received) < count:
            if not self._selector.select(max(0.0, until - time.monotonic())):
                raise _GoneError(None)
            piece = os.read(self._answers.fileno(), _PIECE_BYTES)
            if not piece:
                raise _GoneError(self._process.wait())
            self._received += piece
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def _close(self) -> None:
        self._process.wait()
        self._selector.close()
        for stream in (self._process.stdin, self._process.stdout, self._complaints):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
