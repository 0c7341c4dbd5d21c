"""Documents are read in processes of their own: one that hangs, crashes or eats memory harms nobody else."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import orjson

from retrieval.errors import ParsingProcessError, UnparsableDocumentError
from retrieval.files import out_of_memory
from retrieval.limits import DEFAULT_LIMITS, ReadLimits
from retrieval.parsing import ParsedDocument
from retrieval.parsing_wire import LENGTH, Frame, result_of, write_frame
from retrieval.remembering import KnownFiles

READER = "retrieval.files:entries"
#: Rows of one corpus that may end the process before the rest of it is given up.
MOST_DEATHS = 10
#: Requests after which a process is replaced: libraries leak, and its memory is limited.
MOST_REQUESTS = 10_000
_START_S = 60.0
_STOP_S = 2.0
_PIECE_BYTES = 1 << 18
#: All that a parser needs of our environment, where the database's password is.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")


class ParsingProcess:
    """Reads one after the other. Starts with the first one, and again after one that ended it."""

    def __init__(
        self,
        limits: ReadLimits = DEFAULT_LIMITS,
        *,
        reader: str = READER,
        known: KnownFiles | None = None,
    ) -> None:
        self._limits = limits
        self._reader = reader
        #: Files that need no reading while they look as they did.
        self._known = known
        self._running: _Running | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_running(self) -> bool:
        """Whether there is a process at this moment."""
        return self._running is not None

    def close(self) -> None:
        """End the process; the next file would start another."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    def interrupt(self) -> None:
        """Give up the document that another thread reads; there it counts as one that ended its reader."""
        if running := self._running:
            running.end()

    def read(self, path: Path, name: str) -> Iterator[ParsedDocument | UnparsableDocumentError]:
        """Every document of a file, or why it cannot be read."""
        if self._known is None:
            yield from self._ask({"path": str(path)}, name)
            return
        mark = self._known.mark(path)
        if (known := self._known.recall(path, name, mark)) is not None:
            yield known
            return
        found: list[ParsedDocument | UnparsableDocumentError] = []
        for result in self._ask({"path": str(path)}, name):
            found = [*found[:1], result]
            yield result
        match found:
            case [ParsedDocument() as only]:
                self._known.keep(path, name, mark, only)

    def read_content(
        self, document_id: str, content: Mapping[str, Any]
    ) -> ParsedDocument | UnparsableDocumentError:
        """A document that was sent, as `parse_content` takes it, or why it cannot be read."""
        text = content.get("text")
        try:
            self._limits.check_size(document_id, len(text) if isinstance(text, str) else 0)
        except UnparsableDocumentError as exc:
            return exc
        # In the form of Python's own JSON, which has whole numbers and characters that orjson refuses: the
        # parser says what is wrong with them.
        (result,) = self._ask({"content": json.dumps(content)}, document_id)
        return result

    def _ask(self, request: Frame, name: str) -> Iterator[ParsedDocument | UnparsableDocumentError]:
        done, deaths, careful = 0, 0, False
        while deaths < MOST_DEATHS:
            place = name
            process = self._fit_process()
            finished = begun = starved = False
            try:
                process.send({**request, "name": name, "skip": done, "careful": careful})
                while "end" not in (frame := process.receive(self._limits.timeout_s)):
                    if "begin" in frame:
                        place, begun = frame["begin"], True
                        continue
                    result = result_of(frame)
                    starved |= isinstance(result, UnparsableDocumentError) and result.field == "memory"
                    yield result
                    done += 1
                    place, begun = name, False
                finished = not starved  # what took all its memory may not have given it back
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

    def _fit_process(self) -> _Running:
        if self._running is not None and self._running.requests >= MOST_REQUESTS:
            self.close()
        if self._running is None:
            self._running = _Running(self._reader, self._limits)
        return self._running

    def _failure(self, place: str, gone: _GoneError) -> UnparsableDocumentError:
        limits = self._limits
        match gone.status:
            case None:
                problem = f"took longer than {limits.timeout_s:g} s to read"
                fix = "split it, or raise RETRIEVAL_PARSE_TIMEOUT_S"
                return UnparsableDocumentError(place, "time", problem, fix)
            case status if status == -signal.SIGXCPU:
                problem = f"took more than {limits.cpu_s:g} s of CPU time to read"
                fix = "split it, or raise RETRIEVAL_PARSE_CPU_S"
                return UnparsableDocumentError(place, "cpu", problem, fix)
            case status if status in (-signal.SIGKILL, -signal.SIGABRT):
                return out_of_memory(place, limits)
            case status:
                how = signal.Signals(-status).name if status < 0 else f"status {status}"
                fix = "save it again, or in another format"
                return UnparsableDocumentError(place, "content", f"crashed its reader ({how})", fix)


class ParsingPool:
    """Processes for those who read at the same time. They stay for the next ones: to start one takes longer
    than most documents do. With `remembers`, a file is parsed again only when it has changed."""

    def __init__(
        self, limits: ReadLimits = DEFAULT_LIMITS, *, reader: str = READER, remembers: bool = False
    ) -> None:
        self._limits = limits
        self._reader = reader
        self._known = KnownFiles() if remembers else None
        self._idle: list[ParsingProcess] = []
        self._closed = False

    @contextmanager
    def lent(self) -> Iterator[ParsingProcess]:
        """A process for the block."""
        try:
            process = self._idle.pop()
        except IndexError:
            process = ParsingProcess(self._limits, reader=self._reader, known=self._known)
        try:
            yield process
        finally:
            self._idle.append(process)
            if self._closed:
                self.close()

    def close(self) -> None:
        """End all processes, those that are lent when they come back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()


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
        self.requests = 0
        self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        try:
            self._process = subprocess.Popen(  # -P: nothing in the current folder stands in for a module
                [sys.executable, "-P", "-m", "retrieval.parsing_worker", reader, json.dumps(asdict(limits))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                env=environment,
            )
        except OSError as exc:
            self._complaints.close()
            raise ParsingProcessError(f"the parsing process does not start: {exc.strerror}") from exc
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
        """Ask for a file or a document."""
        assert self._process.stdin is not None
        self.requests += 1
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

    def end(self) -> None:
        """End it now, and leave what it has said to whoever listens."""
        self._process.kill()

    def kill(self) -> None:
        """End it now, and hear nothing more."""
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
