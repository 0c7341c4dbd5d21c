"""Readers for the parsing process that do what a broken parser does, as the text of the file says."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from functools import partial

from retrieval.errors import UnparsableDocumentError
from retrieval.files import Entry, Unread, entries
from retrieval.limits import ReadLimits
from retrieval.parsing import ParsedDocument


def misbehaving(unread: Unread, name: str, limits: ReadLimits) -> Iterator[Entry]:
    """The real reader, but a text can hang it, crash it or eat all memory."""
    if "before the first" in name:
        _hang()
    for entry in entries(unread, name, limits):
        yield Entry(place=entry.place, parse=partial(_parse, entry))


def _parse(entry: Entry) -> ParsedDocument:
    parsed = entry.parse()
    match parsed.document.text:
        case "hang":
            _hang()
        case "spin":
            while True:
                pass
        case "burn":
            until = time.process_time() + 0.3
            while time.process_time() < until:
                pass
        case "crash":
            ctypes.string_at(0)
        case "exit":
            os._exit(3)
        case "eat":
            bytearray(4 << 30)
        case "bug":
            raise LookupError("never seen")
        case "print":
            os.write(1, b"noise between the frames")
        case "refuse":
            raise UnparsableDocumentError(entry.place, "content", "is refused", "do not say so")
    return parsed


def _hang() -> None:
    time.sleep(3600)
