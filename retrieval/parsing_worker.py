"""The process that reads documents: `python -m retrieval.parsing_worker <module:function> <limits as JSON>`.

It takes requests on stdin, for files or for documents that were sent, and says on stdout what came of each
document. Its memory is limited once, its CPU time anew for each document, so it also ends when nobody is left
to end it.
"""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

from retrieval.errors import UnparsableDocumentError
from retrieval.files import Entry, Unread, failure_of
from retrieval.limits import ReadLimits
from retrieval.parsing import ParsedDocument
from retrieval.parsing_wire import Frame, read_frame, result_frame, write_frame

#: Objects made between two searches for garbage. A parser makes millions that all live until its document is
#: done, and looking through them every 700, as Python does, takes a third of the time.
_GARBAGE_AFTER = 200_000
_BATCH_S = 0.1
_BATCH_BYTES = 1 << 20

Reader = Callable[[Unread, str, ReadLimits], Iterator[Entry]]


def serve(reader: Reader, limits: ReadLimits, requests: BinaryIO, replies: BinaryIO) -> None:
    """Do request after request until the owner hangs up."""
    write_frame(replies, {"ready": True})
    while request := read_frame(requests):
        _limit_cpu(limits)
        try:
            _read(reader, limits, request, replies)
        except BrokenPipeError:
            return
        except Exception as exc:  # noqa: BLE001 - whatever a parser raises is one bad file, and is reported
            write_frame(replies, result_frame(failure_of(request["name"], exc, limits)))
        write_frame(replies, {"end": True})


def _read(reader: Reader, limits: ReadLimits, request: Frame, replies: BinaryIO) -> None:
    """Send each document. To wake the owner for each costs more than to read one, so rows go in batches.

    Then nobody knows which row ended the process: the owner asks again from there, and `careful`.
    """
    unread: Unread = Path(request["path"]) if "path" in request else json.loads(request["content"])
    name, skip = request["name"], request["skip"]
    flushed = time.monotonic()
    for index, entry in enumerate(reader(unread, name, limits)):
        if index < skip:
            continue
        _limit_cpu(limits)
        alone = request["careful"] or index == skip
        if alone:
            write_frame(replies, {"begin": entry.place})
        frame = result_frame(_parsed(entry, limits))
        due = alone or time.monotonic() - flushed > _BATCH_S
        write_frame(replies, frame, flush=due)
        flushed = time.monotonic() if due else flushed


def _parsed(entry: Entry, limits: ReadLimits) -> ParsedDocument | UnparsableDocumentError:
    try:
        return entry.parse()
    except Exception as exc:  # noqa: BLE001 - the same for one row
        return failure_of(entry.place, exc, limits)


def _limit_cpu(limits: ReadLimits) -> None:
    """CPU time for one more document."""
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    allowed = math.ceil(time.process_time() + limits.cpu_s)
    resource.setrlimit(
        resource.RLIMIT_CPU, (allowed if most == resource.RLIM_INFINITY else min(allowed, most), most)
    )


def _limit_memory(limits: ReadLimits) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = limits.memory_mb << 20
    with suppress(ValueError, OSError):  # macOS knows no such limit
        resource.setrlimit(
            resource.RLIMIT_AS,
            (wanted, wanted) if most == resource.RLIM_INFINITY else (min(wanted, most), most),
        )
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Take over stdout, so that nothing that a parser prints gets between the frames."""
    module, _, function = sys.argv[1].partition(":")
    limits = ReadLimits(**json.loads(sys.argv[2]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, who then hangs up
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=_BATCH_BYTES)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    reader: Reader = getattr(import_module(module), function)
    _limit_memory(limits)
    gc.freeze()
    gc.set_threshold(_GARBAGE_AFTER, 20, 20)
    serve(reader, limits, sys.stdin.buffer, replies)


if __name__ == "__main__":
    main()
