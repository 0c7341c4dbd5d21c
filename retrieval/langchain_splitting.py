"""Any LangChain text splitter as the chunker of an index version."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_text_splitters import TextSplitter

from retrieval.chunking import Block, BlockKind, Chunk, span_chunk
from retrieval.errors import ChunkerError


class SplitterChunker:
    """A splitter whose pieces are spans of the text. LangChain names no settings, so the caller gives the id.

    Pieces are looked for in their order, since a splitter's own `add_start_index` counts overlaps in its own
    unit and is wrong for tokens. One that rewrites the text (another separator, lower case) is
    refused: citations are offsets into the stored text.
    """

    def __init__(self, splitter: TextSplitter, *, chunker_id: str) -> None:
        self._splitter = splitter
        self.id = chunker_id

    def chunk(self, title: str, text: str, blocks: Sequence[Block]) -> tuple[Chunk, ...]:
        """The pieces of a document, each under the headings that it begins below."""
        chunks: list[Chunk] = []
        headings = [block for block in blocks if block.kind is BlockKind.HEADING]
        path: list[tuple[int, str]] = []
        passed, start = 0, -1
        for piece in self._splitter.split_text(text):
            if not piece.strip():
                continue
            start = text.find(piece, start + 1)
            if start < 0:
                raise ChunkerError(
                    f"chunker: {self.id} rewrote the text of {title!r}: {piece[:40]!r} does not stand there; "
                    "use a splitter that only cuts (keep_separator=True)"
                )
            while passed < len(headings) and headings[passed].start < start:
                heading = headings[passed]
                path = [entry for entry in path if entry[0] < heading.level]
                name = " ".join(text[heading.start : heading.end].split())
                if name.casefold() != title.casefold():
                    path.append((heading.level, name))
                passed += 1
            names = tuple(name for _, name in path)
            chunks.append(span_chunk(len(chunks), title, text, start, start + len(piece), names))
        return tuple(chunks)
