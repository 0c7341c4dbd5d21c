"""Rows for `COPY ... (FORMAT binary)`: a million vectors as text would take longer to write and read than to make."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from retrieval.embedding import Vector
from retrieval.lexing import TERM_SPACE

HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
TRAILER = struct.pack(">h", -1)
NULL = struct.pack(">i", -1)
_TEXT_OID = 25
_INT_OID = 23
_LEXEME_END = b"\x00\x00\x00"


def row(fields: Sequence[bytes]) -> bytes:
    """A row of fields that are encoded already."""
    return struct.pack(">h", len(fields)) + b"".join(fields)


def sized(payload: bytes) -> bytes:
    """A field."""
    return struct.pack(">i", len(payload)) + payload


def int4(value: int) -> bytes:
    """`integer`."""
    return struct.pack(">ii", 4, value)


def int8(value: int) -> bytes:
    """`bigint`."""
    return struct.pack(">iq", 8, value)


def text(value: str) -> bytes:
    """`text`."""
    return sized(value.encode())


def jsonb(value: Mapping[str, object]) -> bytes:
    """`jsonb`."""
    return sized(b"\x01" + json.dumps(value).encode())


def int_array(values: Sequence[int]) -> bytes:
    """`integer[]`."""
    return _array(_INT_OID, [int4(value) for value in values])


def text_array(values: Sequence[str]) -> bytes:
    """`text[]`."""
    return _array(_TEXT_OID, [text(value) for value in values])


def halfvec(vector: Vector) -> bytes:
    """`halfvec`."""
    return sized(struct.pack(">HH", len(vector), 0) + vector.astype(">f2").tobytes())


def sparsevec(terms: NDArray[np.int64], values: NDArray[np.float32]) -> bytes:
    """`sparsevec` of the whole term space, from term ids counted from 1; of two alike the heavier stays."""
    order = np.lexsort((-values, terms))
    terms, values = terms[order], values[order]
    kept = np.concatenate([[True], terms[1:] != terms[:-1]])
    terms, values = terms[kept], values[kept]
    return sized(
        struct.pack(">iii", TERM_SPACE, len(terms), 0)
        + (terms - 1).astype(">i4").tobytes()
        + values.astype(">f4").tobytes()
    )


def tsvector(lexemes: Sequence[bytes], *, mark: bytes = b"") -> bytes:
    """`tsvector` without positions, from lexemes in the order of their bytes; `mark` goes before each."""
    if not lexemes:
        return sized(struct.pack(">i", 0))
    joined = (_LEXEME_END + mark).join(lexemes)
    return sized(struct.pack(">i", len(lexemes)) + mark + joined + _LEXEME_END)


def _array(oid: int, values: Sequence[bytes]) -> bytes:
    if not values:
        return sized(struct.pack(">iii", 0, 0, oid))
    return sized(struct.pack(">iiiii", 1, 0, oid, len(values), 1) + b"".join(values))
