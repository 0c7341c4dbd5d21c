"""Chunks are spans of the text, in order, that lose no word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.chunking import BlockKind, StructureChunker, plain_blocks
from retrieval.errors import UnknownVersionError
from retrieval.markup import read_markdown

words = st.text("abcdé .!?\u00a0💡", min_size=1, max_size=30)
lines = st.one_of(
    words,
    words.map(lambda text: f"## {text}"),
    words.map(lambda text: f"- {text}"),
    words.map(lambda text: f"| {text} | b |\n| --- | --- |\n| c | d |"),
    words.map(lambda text: f"```\n{text}\n```"),
    st.integers(1, 300).map(lambda count: "word. " * count),
)
documents = st.lists(lines, min_size=1, max_size=12).map("\n\n".join)


@given(source=documents, size=st.integers(5, 220))
def test_chunks_are_spans_in_order(source: str, size: int) -> None:
    read = read_markdown(source)
    chunks = StructureChunker(words=size).chunk("title", read.text, read.blocks)
    assert bool(chunks) == bool(read.text.strip())
    end = 0
    for number, chunk in enumerate(chunks):
        assert chunk.ordinal == number
        assert read.text[chunk.start : chunk.end] == chunk.text
        assert chunk.text.strip()
        assert chunk.start >= end
        end = chunk.end


@given(source=documents, size=st.integers(5, 220))
def test_every_word_outside_headings_is_in_a_chunk(source: str, size: int) -> None:
    read = read_markdown(source)
    chunks = StructureChunker(words=size).chunk("title", read.text, read.blocks)
    covered = {position for chunk in chunks for position in range(chunk.start, chunk.end)}
    for block in read.blocks:
        if block.kind is not BlockKind.HEADING:
            span = range(block.start, block.end)
            assert all(position in covered for position in span if not read.text[position].isspace())


def test_short_sections_share_a_chunk_and_long_ones_are_cut() -> None:
    read = read_markdown(
        "# Page\n\nintro\n\n## One\n\nfirst\n\n## Two\n\n" + "A sentence of five words. " * 90
    )
    chunks = StructureChunker(words=100).chunk("Page", read.text, read.blocks)
    assert chunks[0].text.startswith("intro\n\nOne\n\nfirst\n\nTwo")
    assert chunks[0].heading_path == ()
    assert chunks[1].heading_path == ("Two",)
    assert all(len(chunk.text.split()) <= 130 for chunk in chunks)
    assert all(chunk.text.endswith(".") for chunk in chunks)


def test_tables_and_code_stay_whole() -> None:
    rows = "\n".join(f"| row {number} | value |" for number in range(120))
    code = "\n".join(f"step {number}" for number in range(150))
    read = read_markdown(f"| name | what |\n| --- | --- |\n{rows}\n\n```\n{code}\n```")
    chunks = StructureChunker(words=50).chunk("t", read.text, read.blocks)
    assert [len(chunk.text.splitlines()) for chunk in chunks] == [120, 150]


def test_embedded_text_names_the_subject() -> None:
    read = read_markdown("# Sync Plus\n\n## Price\n\nNine dollars.")
    (chunk,) = StructureChunker().chunk("Sync Plus", read.text, read.blocks)
    assert chunk.embedded_text == "Sync Plus\nPrice\nNine dollars."
    assert chunk.heading_path == ("Price",)


def test_a_document_of_headings_is_one_chunk() -> None:
    read = read_markdown("# Only\n\n## Headings")
    (chunk,) = StructureChunker().chunk("x", read.text, read.blocks)
    assert chunk.text == "Only\n\nHeadings"


def test_a_sentence_longer_than_a_chunk_is_cut_between_words() -> None:
    text = "word " * 1000
    chunks = StructureChunker(words=100).chunk("t", text.strip(), plain_blocks(text.strip()))
    assert " ".join(chunk.text for chunk in chunks) == text.strip()
    assert all(len(chunk.text.split()) <= 120 for chunk in chunks)


def test_chunker_is_named_by_its_id() -> None:
    assert StructureChunker.from_id("structure-120").id == "structure-120"
    with pytest.raises(UnknownVersionError, match="chunker: 'magic'"):
        StructureChunker.from_id("magic")
