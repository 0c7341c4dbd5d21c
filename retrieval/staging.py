"""Chunks on their way into the index versions, as the rows of a binary COPY.

Their words and weights are made here in the form that PostgreSQL stores, so that it has nothing to parse, and
words are counted here, where they stand side by side.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from retrieval import binary_rows as rows
from retrieval.chunking import Block, Chunk
from retrieval.lexing import K1, length_norm, lex, term_id
from retrieval.versions import KnowledgeVersion

#: Length of a tenant's mark.
MARK_CHARS = 5
#: Bytes that are sent at a time.
BLOCK_BYTES = 256 * 1024
#: Different words of a chunk that can be searched for, and their bytes: what pgvector's sparse vectors take,
#: and most of what a tsvector takes. Only a chunker that leaves long documents whole gets there.
MOST_WORDS, MOST_WORD_BYTES = 16_000, 1_000_000
#: Number of an index version -> word -> new chunks that have it.
HeldBy = dict[int, Counter[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An index version to write, with the number of its partition."""

    version: KnowledgeVersion
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfilled:
    """A release that an index version has no chunks for."""

    document_id: str
    document_version: int
    born: int
    title: str
    body: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedChunk:
    """A chunk on its way into one partition. `release` is set when it belongs to a release that exists."""

    target: Target
    document_id: str
    chunk: Chunk
    release: Unfilled | None = None


def word_mark(tenant: str) -> str:
    """What stands before each of the tenant's words in a `tsvector`; as retrieval.marked_words has it."""
    return hashlib.md5(tenant.encode(), usedforsecurity=False).hexdigest()[:MARK_CHARS]


def searchable_words(counted: Mapping[str, int]) -> Collection[str]:
    """Those that fit into a row: the most frequent, and single words before pairs."""
    if len(counted) <= MOST_WORDS and sum(map(len, counted)) <= MOST_WORD_BYTES // 4:
        return counted.keys()
    kept: list[str] = []
    size = 0
    for word in sorted(counted, key=lambda word: (-counted[word], " " in word, word))[:MOST_WORDS]:
        size += len(word.encode()) + MARK_CHARS + 1
        if size > MOST_WORD_BYTES:
            break
        kept.append(word)
    return kept


def encoded_chunks(tenant: str, chunks: Iterable[StagedChunk], held_by: HeldBy) -> Iterator[bytes]:
    """Rows of `staged_chunk`; adds to `held_by` what they hold."""
    mark = word_mark(tenant).encode()
    for staged in chunks:
        chunk, target, release = staged.chunk, staged.target, staged.release
        tokens = lex(chunk.embedded_text)
        counted = Counter(tokens)
        words = sorted(searchable_words(counted))
        held_by.setdefault(target.number, Counter()).update(words)
        terms = np.fromiter(map(term_id, words), dtype=np.int64, count=len(words))
        counts = np.fromiter(map(counted.__getitem__, words), dtype=np.float64, count=len(words))
        norm = length_norm(len(tokens), avgdl=target.version.avgdl)
        weights = (counts * (K1 + 1) / (counts + norm)).astype(np.float32)
        yield rows.row(
            (
                rows.int4(target.number),
                rows.text(target.version.embedder),
                rows.text(staged.document_id),
                rows.int4(release.document_version) if release else rows.NULL,
                rows.int4(release.born) if release else rows.NULL,
                rows.int4(chunk.ordinal),
                rows.int4(chunk.start),
                rows.int4(chunk.end),
                rows.text_array(chunk.heading_path),
                rows.text(chunk.text),
                rows.text(chunk.hash),
                # Code points have the order of their UTF-8 bytes, and one mark before all keeps it.
                rows.tsvector([word.encode() for word in words], mark=mark),
                rows.sparsevec(terms, weights),
            )
        )


def encoded_terms(held_by: HeldBy) -> Iterator[bytes]:
    """Rows of `staged_term`."""
    for number, held in held_by.items():
        index_number = rows.int4(number)
        for word, count in held.items():
            yield rows.row((index_number, rows.text(word), rows.int4(count)))


def copied(encoded: Iterable[bytes]) -> Iterator[bytes]:
    """A whole COPY of rows, in blocks."""
    block = [rows.HEADER]
    size = 0
    for each in encoded:
        block.append(each)
        size += len(each)
        if size >= BLOCK_BYTES:
            yield b"".join(block)
            block, size = [], 0
    yield b"".join([*block, rows.TRAILER])
