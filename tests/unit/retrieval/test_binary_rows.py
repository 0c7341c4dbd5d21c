"""Rows of a binary COPY are what the client library would have written."""

from __future__ import annotations

import io

import numpy as np
from pgvector import HalfVector, SparseVector

from retrieval import binary_rows as rows
from retrieval.lexing import TERM_SPACE


def test_vectors_are_written_as_the_client_library_writes_them() -> None:
    vector = np.array([0.5, -0.25, 0.125], dtype=np.float32)
    terms = np.array([900, 7, 12])
    weights = np.array([1.5, 0.5, 2.0], dtype=np.float32)

    assert rows.halfvec(vector) == rows.sized(HalfVector(vector).to_binary())
    sparse = SparseVector({6: 0.5, 11: 2.0, 899: 1.5}, TERM_SPACE)
    assert rows.sparsevec(terms, weights) == rows.sized(sparse.to_binary())


def test_of_two_lexemes_in_one_dimension_the_heavier_stays() -> None:
    two = rows.sparsevec(np.array([7, 7, 9]), np.array([0.5, 2.0, 1.0], dtype=np.float32))

    assert two == rows.sparsevec(np.array([7, 9]), np.array([2.0, 1.0], dtype=np.float32))


def test_words_of_a_tsvector_end_alike_and_carry_the_mark() -> None:
    assert rows.tsvector([b"ab", b"c"], mark=b"t") == rows.sized(
        b"\x00\x00\x00\x02" + b"tab\x00\x00\x00" + b"tc\x00\x00\x00"
    )
    assert rows.tsvector([]) == rows.sized(b"\x00\x00\x00\x00")


def test_a_row_is_counted_and_framed() -> None:
    framed = io.BytesIO(rows.row((rows.int4(7), rows.NULL, rows.text("a"))))

    assert framed.read(2) == b"\x00\x03"
    assert framed.read(8) == b"\x00\x00\x00\x04\x00\x00\x00\x07"
    assert framed.read(4) == b"\xff\xff\xff\xff"
    assert framed.read() == b"\x00\x00\x00\x01a"
