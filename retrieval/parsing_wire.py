"""What the parsing process and its owner say to each other: JSON in frames, each after its length.

JSON and not pickle, because the other end has just read a file of which nobody knows who wrote it.
"""

from __future__ import annotations

import struct
from datetime import date, datetime
from typing import Any, BinaryIO

import orjson

from retrieval.chunking import Block, BlockKind
from retrieval.documents import Document
from retrieval.errors import UnparsableDocumentError
from retrieval.parsing import ParsedDocument

LENGTH = struct.Struct("!I")
Frame = dict[str, Any]


def write_frame(stream: BinaryIO, frame: Frame, *, flush: bool = True) -> None:
    """Send a frame at once, or with the next one that is."""
    content = orjson.dumps(frame)
    stream.write(LENGTH.pack(len(content)) + content)
    if flush:
        stream.flush()


def read_frame(stream: BinaryIO) -> Frame | None:
    """The next frame, or None where the other end has gone."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    frame: Frame = orjson.loads(stream.read(LENGTH.unpack(head)[0]))
    return frame


def result_frame(result: ParsedDocument | UnparsableDocumentError) -> Frame:
    """What came of one document."""
    if isinstance(result, ParsedDocument):
        return {"document": result}
    parts = (result.file, result.field, result.problem, result.fix)
    return {"failure": [part.encode("utf-8", "replace").decode() for part in parts]}


def result_of(frame: Frame) -> ParsedDocument | UnparsableDocumentError:
    """The other way."""
    if "failure" in frame:
        return UnparsableDocumentError(*frame["failure"])
    row = frame["document"]
    return ParsedDocument(
        document=_document(row["document"]),
        blocks=tuple(
            Block(BlockKind(each["kind"]), each["level"], each["start"], each["end"])
            for each in row["blocks"]
        ),
        origin=row["origin"],
        modified_at=datetime.fromisoformat(row["modified_at"]) if row["modified_at"] else None,
    )


def _document(row: Frame) -> Document:
    return Document(
        **{
            **row,
            "principals": tuple(row["principals"]),
            "effective_from": _date(row["effective_from"]),
            "effective_to": _date(row["effective_to"]),
            "metadata": {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in row["metadata"].items()
            },
        }
    )


def _date(value: str | None) -> date | None:
    return date.fromisoformat(value) if value else None
