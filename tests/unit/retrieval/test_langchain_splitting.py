"""LangChain splitters as chunkers: exact spans, or an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_text_splitters import CharacterTextSplitter, RecursiveCharacterTextSplitter

from retrieval.chunking import cut
from retrieval.errors import ChunkerError
from retrieval.langchain_splitting import SplitterChunker
from retrieval.markup import read_markdown


def recursive(size: int, overlap: int) -> SplitterChunker:
    splitter = RecursiveCharacterTextSplitter(chunk_size=size, chunk_overlap=overlap)
    return SplitterChunker(splitter, chunker_id=f"recursive-{size}-{overlap}")


@given(st.text("ab \n.é💡", min_size=1, max_size=400).filter(str.strip), st.sampled_from([0, 5, 19]))
def test_pieces_are_spans_in_order(text: str, overlap: int) -> None:
    chunks = cut(recursive(20, overlap), "t", text, ())
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    starts = [chunk.start for chunk in chunks]
    assert starts == sorted(set(starts))
    if not overlap:
        kept = "".join(chunk.text for chunk in chunks)
        assert "".join(kept.split()) == "".join(text.split())


def test_a_piece_knows_its_headings() -> None:
    read = read_markdown("# Sync\n\n## Price\n\nNine dollars.\n\n## Limits\n\nTen devices.")
    chunks = cut(recursive(14, 0), "Sync", read.text, read.blocks)
    paths = {chunk.text: chunk.heading_path for chunk in chunks}
    assert paths["Nine dollars."] == ("Price",)
    assert paths["Ten devices."] == ("Limits",)


def test_a_splitter_that_rewrites_is_refused() -> None:
    splitter = CharacterTextSplitter(separator="|", chunk_size=8, chunk_overlap=0, is_separator_regex=False)

    class Shouting(CharacterTextSplitter):
        def split_text(self, text: str) -> list[str]:
            return [piece.upper() for piece in super().split_text(text)]

    assert cut(SplitterChunker(splitter, chunker_id="bars-1"), "t", "one|two|three", ())
    shouting = Shouting(separator="|", chunk_size=8, chunk_overlap=0)
    with pytest.raises(ChunkerError, match="chunker: loud-1 rewrote the text of 't': 'ONE"):
        cut(SplitterChunker(shouting, chunker_id="loud-1"), "t", "one|two|three", ())
