"""Cut a document's text along its structure. A chunk is a span: `document.text[start:end] == chunk.text`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

from retrieval.errors import ChunkerError, UnknownChunkerError

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+")
_WORD = re.compile(r"\S+")
#: A single table or code block is cut only when it has more words than this.
LONGEST_WHOLE_WORDS = 1000


class BlockKind(StrEnum):
    """What a span of the canonical text is."""

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    LIST = "list"
    TABLE = "table"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class Block:
    """One structural span of the canonical text. `level` counts for headings only (1 is the title)."""

    kind: BlockKind
    level: int
    start: int
    end: int

    def row(self) -> list[object]:
        """The form in which the store keeps it."""
        return [self.kind.value, self.level, self.start, self.end]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of one document."""

    ordinal: int
    start: int
    end: int
    text: str
    #: The headings under which the chunk begins.
    heading_path: tuple[str, ...]
    #: Text that is embedded and counted: title and headings give the piece its subject.
    embedded_text: str

    @property
    def hash(self) -> str:
        """Identifies the embedded text: equal texts are embedded once."""
        return hashlib.sha256(self.embedded_text.encode()).hexdigest()[:32]


class Chunker(Protocol):
    """Cuts texts. `id` names exactly how: chunks of two ids are never mixed in one index version."""

    @property
    def id(self) -> str: ...

    def chunk(self, title: str, text: str, blocks: Sequence[Block]) -> Sequence[Chunk]:
        """The chunks of a document, in order; each is a span of `text`."""


#: None but our own.
NO_CHUNKERS: Mapping[str, Chunker] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Piece:
    """Part of a chunk to be: a block, or a part of a long one."""

    start: int
    end: int
    words: int
    path: tuple[str, ...]
    heading: bool


@dataclass(frozen=True, slots=True)
class StructureChunker:
    """About `words` words a chunk: short neighbouring sections share one, long paragraphs are cut."""

    words: int = 200

    @property
    def id(self) -> str:
        """The name that goes into an index version."""
        return f"structure-{self.words}"

    def chunk(self, title: str, text: str, blocks: Sequence[Block]) -> tuple[Chunk, ...]:
        """The chunks of a document, in order. Any text that is not blank gives at least one."""
        groups: list[list[_Piece]] = []
        open_group: list[_Piece] = []
        held = 0  # words of the open group that are not headings
        for piece in self._pieces(title, text, blocks):
            if open_group and self._closes(held, piece):
                groups.append(open_group)
                open_group, held = [], 0
            open_group.append(piece)
            held += 0 if piece.heading else piece.words
        if open_group:
            groups.append(open_group)
        return tuple(
            self._make(ordinal, title, text, group) for ordinal, group in enumerate(self._joined_tail(groups))
        )

    def _closes(self, held: int, piece: _Piece) -> bool:
        if piece.heading:
            return held >= self.words * 0.6
        return held > 0 and held + piece.words > self.words * 1.2

    def _joined_tail(self, groups: list[list[_Piece]]) -> list[list[_Piece]]:
        """A last chunk of a few words joins the one before it."""
        if len(groups) > 1:
            held = sum(piece.words for piece in groups[-1] if not piece.heading)
            before = sum(piece.words for piece in groups[-2])
            if held < self.words * 0.15 and before + held <= self.words * 1.4:
                return [*groups[:-2], groups[-2] + groups[-1]]
        return groups

    def _pieces(self, title: str, text: str, blocks: Sequence[Block]) -> Iterator[_Piece]:
        path: list[tuple[int, str]] = []
        for block in blocks:
            span = text[block.start : block.end]
            words = len(_WORD.findall(span))
            if block.kind is BlockKind.HEADING:
                path = [entry for entry in path if entry[0] < block.level]
                name = " ".join(span.split())
                if name.casefold() != title.casefold():
                    path.append((block.level, name))
            names = tuple(words_of for _, words_of in path)
            heading = block.kind is BlockKind.HEADING
            whole = block.kind in (BlockKind.TABLE, BlockKind.CODE) and words <= LONGEST_WHOLE_WORDS
            if heading or whole or words <= self.words * 1.2:
                yield _Piece(block.start, block.end, words, names, heading)
                continue
            for start, end in self._cuts(text, block):
                yield _Piece(start, end, len(_WORD.findall(text[start:end])), names, False)

    def _cuts(self, text: str, block: Block) -> Iterator[tuple[int, int]]:
        """Whole sentences or lines of at most `words` words together; a longer one is cut between words."""
        ends = [match.end() for match in _SENTENCE_END.finditer(text, block.start, block.end)]
        start, held = block.start, 0
        position = block.start
        for end in [*(end for end in ends if end < block.end), block.end]:
            words = [(match.start(), match.end()) for match in _WORD.finditer(text, position, end)]
            if held and held + len(words) > self.words:
                yield _trimmed(text, start, position)
                start, held = position, 0
            first = 0
            while len(words) - first > self.words:
                first += self.words
                cut = words[first][0]
                yield _trimmed(text, start, cut)
                start = cut
            held += len(words) - first
            position = end
        if text[start : block.end].strip():
            yield _trimmed(text, start, block.end)

    def _make(self, ordinal: int, title: str, text: str, group: list[_Piece]) -> Chunk:
        body = [piece for piece in group if not piece.heading]
        # A heading belongs to the path of what follows; alone it is all the text there is.
        first = group.index(body[0]) if body else 0
        start, end = group[first].start, (body or group)[-1].end
        return span_chunk(ordinal, title, text, start, end, (body or group)[0].path)


class WholeChunker:
    """One chunk a document, to the last blank: for texts that somebody else has cut already."""

    id = "whole-1"

    def chunk(self, title: str, text: str, blocks: Sequence[Block]) -> tuple[Chunk, ...]:
        """The document."""
        return (span_chunk(0, title, text, 0, len(text), ()),)


def span_chunk(
    ordinal: int, title: str, text: str, start: int, end: int, heading_path: tuple[str, ...]
) -> Chunk:
    """The chunk of a span; title and headings go before its text when it is embedded."""
    span = text[start:end]
    return Chunk(
        ordinal=ordinal,
        start=start,
        end=end,
        text=span,
        heading_path=heading_path,
        embedded_text="\n".join(part for part in (title, " > ".join(heading_path), span) if part),
    )


def chunker_of(chunker: str, given: Mapping[str, Chunker]) -> Chunker:
    """The chunker that an index version names: one of the caller's, else one of our own."""
    if chunker in given:
        return given[chunker]
    if chunker == WholeChunker.id:
        return WholeChunker()
    if match := re.fullmatch(r"structure-([1-9]\d{0,3})", chunker):
        return StructureChunker(words=int(match.group(1)))
    known = ", ".join([*given, "structure-<words>", WholeChunker.id])
    raise UnknownChunkerError(
        f"chunker: {chunker!r} is not known here; known: {known}. A program's own is known "
        "where that program passes it in (`chunkers`) only: let it write, or retire the index version"
    )


def cut(chunker: Chunker, title: str, text: str, blocks: Sequence[Block]) -> tuple[Chunk, ...]:
    """The chunks of a document, checked: citations are offsets, so a chunk must be what stands there."""
    chunks = tuple(chunker.chunk(title, text, blocks))
    if not chunks:
        raise ChunkerError(f"chunker: {chunker.id} made no chunk of {title!r}, which would never be found")
    for chunk in chunks:
        if not 0 <= chunk.start < chunk.end or text[chunk.start : chunk.end] != chunk.text:
            raise ChunkerError(
                f"chunker: {chunker.id} gave {chunk.text[:40]!r} for characters {chunk.start} to {chunk.end} "
                f"of {title!r}, where another text stands; a chunker must copy spans"
            )
    return chunks


def plain_blocks(text: str) -> tuple[Block, ...]:
    """Blocks of a text without markup: paragraphs between blank lines."""
    return tuple(
        Block(BlockKind.PARAGRAPH, 0, match.start(), match.end())
        for match in re.finditer(r"\S(?:.*\S)?(?:\n[^\S\n]*\S(?:.*\S)?)*", text)
    )


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    span = text[start:end]
    return start + len(span) - len(span.lstrip()), end - (len(span) - len(span.rstrip()))
