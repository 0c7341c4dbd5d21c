"""Reading while the event loop goes on: in a thread that ends soon after whoever waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

from retrieval.parsing_process import ParsingPool, ParsingProcess

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadProgress:
    """How far a source is read: files out of all, and documents so far, of which one file may hold many."""

    files: int
    total: int
    documents: int


OnRead = Callable[[ReadProgress], None]


class _StoppedError(Exception):
    """Nobody waits for what is read."""


async def read_apart(
    read: Callable[[ParsingProcess, OnRead], Result], *, parsers: ParsingPool, on_progress: OnRead
) -> Result:
    """What `read` returns. It is to report its progress before each document: there it can be stopped.

    When the caller is cancelled, the document that is being read is given up too: it may take minutes.
    """
    stopped = threading.Event()
    reading: list[ParsingProcess] = []

    def say(progress: ReadProgress) -> None:
        if stopped.is_set():
            raise _StoppedError
        on_progress(progress)

    def work() -> Result:
        with ExitStack() as stack:
            process = stack.enter_context(parsers.lent())
            reading.append(process)
            stack.callback(reading.clear)
            return read(process, say)

    try:
        return await asyncio.to_thread(work)
    except asyncio.CancelledError:
        stopped.set()
        for process in reading:
            process.interrupt()
        raise
