"""Chunks are spans of the text, in order, that lose no word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.chunking import (
    Block,
    BlockKind,
    Chunk,
    StructureChunker,
    WholeChunker,
    chunker_of,
    cut,
    plain_blocks,
    span_chunk,
)
from retrieval.errors import ChunkerError, UnknownChunkerError
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


@pytest.mark.parametrize("chunker", ["structure-120", "whole-1"])
def test_chunker_is_named_by_its_id(chunker: str) -> None:
    assert chunker_of(chunker, {}).id == chunker


@pytest.mark.parametrize("chunker", ["magic", "structure-0", "structure-", "structure-99999", ""])
def test_an_unknown_chunker_is_refused_with_those_at_hand(chunker: str) -> None:
    with pytest.raises(
        UnknownChunkerError, match=r"chunker: .* known: own-1, structure-<words>, whole-1. .* retire"
    ):
        chunker_of(chunker, {"own-1": WholeChunker()})


def test_the_callers_chunker_goes_first() -> None:
    own = Liar("x")
    assert chunker_of("structure-200", {"structure-200": own}) is own


def test_a_whole_document_keeps_every_character() -> None:
    (chunk,) = cut(WholeChunker(), "T", " two\n\nlines \n", ())
    assert (chunk.start, chunk.end, chunk.text) == (0, 13, " two\n\nlines \n")


class Liar:
    """Gives a text that does not stand at its offsets, or nothing."""

    id = "liar-1"

    def __init__(self, text: str | None) -> None:
        self._text = text

    def chunk(self, title: str, text: str, blocks: Sequence[Block]) -> list[Chunk]:
        if self._text is None:
            return []
        return [replace(span_chunk(0, title, text, 0, 3, ()), text=self._text)]


@pytest.mark.parametrize(("text", "said"), [("abC", "another text stands"), (None, "no chunk")])
def test_a_chunker_that_copies_no_span_is_refused(text: str | None, said: str) -> None:
    with pytest.raises(ChunkerError, match=f"chunker: liar-1 .*{said}"):
        cut(Liar(text), "t", "abcdef", ())
