"""Rows for `COPY ... (FORMAT binary)`, and arrays as PostgreSQL sends them.

Numbers as text take longer to write here and to read there than everything else that a publish does.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from psycopg.adapt import Dumper
from psycopg.pq import Format

from retrieval.embedding import Vector
from retrieval.lexing import TERM_SPACE

HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
TRAILER = struct.pack(">h", -1)
NULL = struct.pack(">i", -1)
_TEXT_OID = 25
_INT_OID = 23
_REAL_OID = 700
_REALS_OID = 1021
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
    if not len(terms):
        return sized(struct.pack(">iii", TERM_SPACE, 0, 0))
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


@dataclass(frozen=True, slots=True)
class RealArray:
    """A parameter of type `real[]`."""

    values: Vector


class RealArrayDumper(Dumper):
    """Sends the numbers as they are; psycopg's own dumper of lists asks Python about each of them."""

    format = Format.BINARY
    oid = _REALS_OID

    def dump(self, obj: RealArray) -> bytes:
        """One dimension, counted from 1."""
        pairs = np.empty(len(obj.values), dtype=[("size", ">i4"), ("value", ">f4")])
        pairs["size"] = 4
        pairs["value"] = obj.values
        return struct.pack(">iiiii", 1, 0, _REAL_OID, len(pairs), 1) + pairs.tobytes()


def _array(oid: int, values: Sequence[bytes]) -> bytes:
    if not values:
        return sized(struct.pack(">iii", 0, 0, oid))
    return sized(struct.pack(">iiiii", 1, 0, oid, len(values), 1) + b"".join(values))
