"""PDF, DOCX, CSV: text, structure and properties kept; what cannot be read says why."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable

import docx
import pytest
from docx.document import Document as WordDocument
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.chunking import StructureChunker
from retrieval.errors import UnparsableDocumentError
from retrieval.limits import ReadLimits
from retrieval.parsing import ParsedDocument, parse_file
from tests.fakes.pdf import encrypted_pdf, pdf

SMALL = ReadLimits(max_document_bytes=200_000, max_unpacked_bytes=1_000_000, max_pages=3)


def blocks(parsed: ParsedDocument) -> list[tuple[str, int, str]]:
    """Kind, level and words of each block."""
    text = parsed.document.text
    return [(block.kind.value, block.level, text[block.start : block.end]) for block in parsed.blocks]


def word(write: Callable[[WordDocument], None]) -> bytes:
    """Bytes of a Word document."""
    document = docx.Document()
    write(document)
    content = io.BytesIO()
    document.save(content)
    return content.getvalue()


# ---- PDF -----------------------------------------------------------------------------------------


def test_pdf_has_paragraphs_headings_and_lists() -> None:
    page = [
        (20, "Reset your password"),
        (12, "Open the settings page and choose the"),
        (12, "button (it says Reset)."),
        (12, ""),
        (12, "It takes a minute."),
        (15, "Phones"),
        (12, "1. Open the app"),
        (12, "2. Tap on it and wait until"),
        (12, "it is done"),
    ]
    parsed = parse_file("reset.pdf", pdf([page, [(12, "Second page.")]], catalog="/Lang (en-GB)"))
    assert blocks(parsed) == [
        ("heading", 1, "Reset your password"),
        ("paragraph", 0, "Open the settings page and choose the button (it says Reset)."),
        ("paragraph", 0, "It takes a minute."),
        ("heading", 2, "Phones"),
        ("list", 0, "1. Open the app\n2. Tap on it and wait until it is done"),
        ("paragraph", 0, "Second page."),
    ]
    assert (parsed.document.title, parsed.document.language) == ("Reset your password", "en")


@pytest.mark.parametrize(("stated", "title"), [("Password guide", "Password guide"), ("report.doc", "a")])
def test_pdf_title(stated: str, title: str) -> None:
    content = pdf([[(12, "Some text.")]], info=f"/Title ({stated})")
    assert parse_file("a.pdf", content).document.title == title


def test_running_lines_of_a_pdf_are_left_out() -> None:
    pages = [
        [(12, "Nimbus handbook"), (12, f"Text number {word}."), (12, f"Page {number}")]
        for number, word in enumerate(["one", "two", "three", "four", "five"], start=1)
    ]
    text = parse_file("a.pdf", pdf(pages)).document.text
    assert "Nimbus handbook" not in text
    assert "Page" not in text
    assert "Text number three." in text


@pytest.mark.parametrize(
    ("content", "field", "problem"),
    [
        (encrypted_pdf(), "content", "is encrypted"),
        (pdf([[], []]), "content", "no text on 2 pages.*run OCR"),
        (pdf([[(12, "text")]])[:300], "content", "damaged PDF"),
        (pdf([]), "content", "damaged PDF|no text on 0 pages"),
        (b"<!doctype html>", "content", "is no PDF"),
        (b"", "content", "is no PDF"),
        (pdf([[(12, "text")]] * 4), "pages", "are 4, more than 3"),
        (pdf([[(12, "text")]]) + b" " * 200_000, "size", "more than 0.2 MB"),
    ],
)
def test_pdf_that_cannot_be_read(content: bytes, field: str, problem: str) -> None:
    with pytest.raises(UnparsableDocumentError, match=problem) as caught:
        parse_file("a.pdf", content, limits=SMALL)
    assert (caught.value.field, bool(caught.value.fix)) == (field, True)


# ---- DOCX ----------------------------------------------------------------------------------------


def test_docx_keeps_headings_lists_tables_and_code() -> None:
    def write(document: WordDocument) -> None:
        document.core_properties.title = "Plans and prices"
        document.core_properties.language = "de-DE"
        document.add_heading("Plans", 1)
        document.add_paragraph("What you   get.")
        document.add_heading("Prices", 2)
        table = document.add_table(3, 3)
        rows = [("Plan", "Price", "Seats"), ("Plus", "9", "5"), ("", "12", "10")]
        for row, cells in zip(table.rows, rows, strict=True):
            for cell, words in zip(row.cells, cells, strict=True):
                cell.text = words
        table.cell(1, 0).merge(table.cell(2, 0))
        document.add_paragraph("one", style="List Bullet")
        document.add_paragraph("deeper", style="List Bullet 2")
        document.add_paragraph("first", style="List Number")
        document.add_paragraph("second", style="List Number")
        document.add_paragraph("if x:", style="macro")
        document.add_paragraph("    y = 2", style="macro")

    parsed = parse_file("plans.docx", word(write))
    assert blocks(parsed) == [
        ("heading", 1, "Plans"),
        ("paragraph", 0, "What you get."),
        ("heading", 2, "Prices"),
        ("table", 0, "Plus \u2014 Price: 9; Seats: 5\nPlus \u2014 Price: 12; Seats: 10"),
        ("list", 0, "- one\n  - deeper\n1. first\n2. second"),
        ("code", 0, "if x:\n    y = 2"),
    ]
    assert (parsed.document.title, parsed.document.language) == ("Plans", "de")


def test_docx_reads_what_stands_and_not_what_was_deleted() -> None:
    def write(document: WordDocument) -> None:
        runs = (
            "<w:ins><w:r><w:t>new </w:t></w:r></w:ins><w:del><w:r><w:delText>old </w:delText></w:r></w:del>"
            "<w:sdt><w:sdtContent><w:r><w:t>controlled</w:t></w:r></w:sdtContent></w:sdt>"
            "<w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom><w:r><w:br/><w:t>line</w:t></w:r>"
        )
        paragraph = document.add_paragraph()._p
        paragraph.addnext(parse_xml(f"<w:p {nsdecls('w')}>{runs}</w:p>"))

    assert parse_file("a.docx", word(write)).document.text == "new controlled\nline"


def bomb(*, declared: int | None = None) -> bytes:
    """A ZIP archive whose one member unpacks to two megabytes, whatever it declares."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", bytes(2_000_000))
    found = content.getvalue()
    if declared is None:
        return found
    return found.replace(struct.pack("<L", 2_000_000), struct.pack("<L", declared))


def workbook() -> bytes:
    """A ZIP archive with members, and no Word document."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("mimetype", "application/zip")
    return content.getvalue()


def crowded() -> bytes:
    """A ZIP archive with more members than any document has."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for number in range(10_001):
            archive.writestr(str(number), b"")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "field", "problem"),
    [
        (bomb(), "unpacked size", "is 2.0 MB, more than 1.0 MB"),
        (bomb(declared=10), "content", "damaged archive"),
        (word(lambda document: document.add_paragraph("x"))[:2000], "content", "damaged archive"),
        (crowded(), "archive", "has 10001 members"),
        (workbook(), "content", "is no Word document"),
        (b"\xd0\xcf\x11\xe0", "content", "old or encrypted Office document"),
        (b"", "content", "no Office document"),
        (word(lambda document: None), "content", "is empty"),
    ],
)
def test_docx_that_cannot_be_read(content: bytes, field: str, problem: str) -> None:
    limits = ReadLimits(max_unpacked_bytes=1_000_000)
    with pytest.raises(UnparsableDocumentError, match=problem) as caught:
        parse_file("a.docx", content, limits=limits)
    assert (caught.value.field, bool(caught.value.fix)) == (field, True)


# ---- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("prices.csv", 'Plan,Price\nPlus,"9,50"\n\n"two\nlines",1\n'),
        ("prices.csv", 'Plan;Price\r\nPlus;9,50\r\n"two\r\nlines";1\r\n'),
        ("prices.tsv", 'Plan\tPrice\nPlus\t9,50\n"two\nlines"\t1\n'),
    ],
)
def test_a_table_is_one_block_whose_lines_name_their_columns(name: str, content: str) -> None:
    parsed = parse_file(name, content.encode())
    assert blocks(parsed) == [("table", 0, "Plus \u2014 Price: 9,50\ntwo lines \u2014 Price: 1")]
    assert parsed.document.title == "prices"


@pytest.mark.parametrize(
    ("content", "field", "problem"),
    [
        (b'a,b\n"x,1\n', "row", "is not CSV"),
        (b'a,b\n"x"y,1\n', "row", "is not CSV"),
        (b"", "content", "is empty"),
        (b"\x89PNG", "content", "is an image"),
    ],
)
def test_table_that_cannot_be_read(content: bytes, field: str, problem: str) -> None:
    with pytest.raises(UnparsableDocumentError, match=problem) as caught:
        parse_file("a.csv", content)
    assert caught.value.field == field


# ---- all kinds -----------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *[
            "# head\n",
            "\n\n",
            "- item\n",
            "1. step\n",
            "| a | b |\n|---|---|\n",
            "| 1 | 2 |\n",
            "```\ncode\n",
            "> q\n",
        ],
        *[
            "<p>",
            "</p>",
            "<ul><li>",
            "</ul>",
            "<pre> x\n</pre>",
            "<table><tr><td>",
            "</table>",
            "<br>",
            "&amp;",
            "\x85",
        ],
        *[
            "**bold**",
            "`x`",
            "[a](b)",
            "<who>",
            "\u2028",
            "\u00a0",
            "\r\n",
            "  ",
            "\U0001f600",
            "e\u0301",
            "Yes. No! ",
        ],
    ]
)


@settings(deadline=None)
@given(
    pieces=st.lists(st.one_of(PIECES, st.text(max_size=8)), min_size=1, max_size=40),
    name=st.sampled_from(["a.md", "a.html", "a.txt"]),
    words=st.integers(1, 30),
)
def test_chunks_are_spans_of_the_text(pieces: list[str], name: str, words: int) -> None:
    content = ("word " + "".join(pieces)).encode("utf-8", "replace").replace(b"\x00", b"")
    try:
        parsed = parse_file(name, content)
    except UnparsableDocumentError as exc:
        assert exc.problem == "is empty"  # noqa: PT017 - markup such as <!-- may hide all of it
        return
    text = parsed.document.text
    last = 0
    for block in parsed.blocks:
        assert last <= block.start < block.end <= len(text)
        assert text[block.start : block.end].strip()
        last = block.end
    chunks = StructureChunker(words=words).chunk(parsed.document.title, text, parsed.blocks)
    assert chunks
    for chunk in chunks:
        assert chunk.text == text[chunk.start : chunk.end]
