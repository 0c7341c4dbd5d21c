"""PDF to canonical text, with PDFium.

A PDF holds glyphs at places, and neither paragraphs nor headings. Lines that stand apart begin a paragraph,
and lines in larger type than most of the text are headings. Tables stay lines of text. What stands at the top
or the bottom of most pages is left out.
"""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import pypdfium2
from pypdfium2 import raw

from retrieval.canonical import Text, TextWriter
from retrieval.chunking import BlockKind
from retrieval.encodings import foreign_kind
from retrieval.errors import UnparsableDocumentError
from retrieval.limits import ReadLimits

#: PDFium's mark for a word that goes on in the next line.
_SOFT_HYPHEN = "\ufffe"
_CONTROL = dict.fromkeys([*range(32), 0x7F, 0xFFFF])
_ITEM = re.compile(r"(?:[-\u2013\u2022\u25aa\u25cf\u25e6\uf0b7*]|\d{1,3}[.)])\s+(?=\S)")
_LARGER = 1.15
_APART = 1.35
_HEADING_WORDS = 20
_RUNNING_PAGES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    text: str
    page: int
    #: Height of the type and distance of its top from the foot of the page; 0 while not known.
    size: float
    top: float


def read_pdf(name: str, content: bytes, limits: ReadLimits) -> Text:
    """Canonical text of a PDF."""
    if b"%PDF-" not in content[:1024]:
        problem = f"is {foreign_kind(content) or 'no PDF'}"
        raise UnparsableDocumentError(
            name, "content", problem, "give it the suffix of its kind, or remove it"
        )
    with _opened(name, content) as document:
        limits.check_pages(name, len(document))
        lines: list[_Line] = []
        length = 0
        for number in range(len(document)):
            found = list(_lines(name, document, number))
            length += sum(len(line.text) for line in found)
            limits.check_unpacked(name, length)
            lines += found
        if not lines:
            problem = f"holds no text on {len(document)} pages, so it is scanned or drawn"
            fix = "run OCR first, for instance ocrmypdf, and ingest what comes out"
            raise UnparsableDocumentError(name, "content", problem, fix)
        writer = TextWriter()
        _write(writer, _without_running_lines(lines, len(document)))
        return writer.text(
            properties={"title": document.get_metadata_value("Title"), "language": _language(document)}
        )


def _opened(name: str, content: bytes) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as exc:
        if exc.err_code in (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY):
            fix = "save it without a password"
            raise UnparsableDocumentError(name, "content", "is encrypted", fix) from exc
        problem = "is a damaged PDF, or cut short"
        raise UnparsableDocumentError(name, "content", problem, "export or download it again") from exc


def _language(document: pypdfium2.PdfDocument) -> str:
    buffer = ctypes.create_string_buffer(128)
    size = raw.FPDFCatalog_GetLanguage(document, ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)), 128)
    return buffer.raw[: max(0, min(size, 128) - 2)].decode("utf-16-le", errors="ignore")


def _lines(name: str, document: pypdfium2.PdfDocument, number: int) -> Iterator[_Line]:
    """The lines of a page that are not blank."""
    try:
        page = document[number]
        letters = page.get_textpage()
    except pypdfium2.PdfiumError as exc:
        problem = f"{number + 1} of {len(document)} is damaged"
        raise UnparsableDocumentError(name, "page", problem, "export or download the file again") from exc
    position = 0
    for line in letters.get_text_range().split("\r\n"):
        words = line.translate(_CONTROL).replace("\xad", "")
        if words.strip(f"{_SOFT_HYPHEN} "):
            first = position + len(line) - len(line.lstrip())
            box = _box(letters, raw.FPDFText_GetCharIndexFromTextIndex(letters, first))
            size, top = (round((box[3] - box[1]) * 2) / 2, box[3]) if box else (0.0, 0.0)
            yield _Line(text=words.strip(), page=number, size=size, top=top)
        position += len(line) + 2
    letters.close()
    page.close()


def _box(letters: pypdfium2.PdfTextPage, index: int) -> Sequence[float] | None:
    """Left, bottom, right and top of a letter's cell, which is as high as its type."""
    try:
        box: Sequence[float] = letters.get_charbox(index, loose=True)
    except pypdfium2.PdfiumError:
        return None
    return box


def _without_running_lines(lines: Sequence[_Line], pages: int) -> list[_Line]:
    """Leave out headers, footers and page numbers: first or last lines that most pages share."""
    edges = {
        index
        for index, line in enumerate(lines)
        if index in (0, len(lines) - 1)
        or lines[index - 1].page != line.page
        or lines[index + 1].page != line.page
    }
    shapes = Counter(_shape(lines[index]) for index in edges)
    running = {shape for shape, count in shapes.items() if count >= max(_RUNNING_PAGES, pages * 0.6)}
    return [line for index, line in enumerate(lines) if index not in edges or _shape(line) not in running]


def _shape(line: _Line) -> str:
    return re.sub(r"\d+", "0", line.text)


def _write(writer: TextWriter, lines: Sequence[_Line]) -> None:
    sizes: Counter[float] = Counter()
    for line in lines:
        sizes[line.size] += len(line.text)
    body = sizes.most_common(1)[0][0] if sizes else 0.0
    larger = sorted((size for size in sizes if size > body * _LARGER > 0), reverse=True)
    levels = {size: min(rank, 6) for rank, size in enumerate(larger, start=1)}
    for group in _paragraphs(lines):
        words = _joined(group)
        level = levels.get(group[0].size, 0)
        if level and len(words.split()) <= _HEADING_WORDS:
            writer.add(BlockKind.HEADING, words.replace("\n", " "), level)
        elif _ITEM.match(words):
            writer.add(BlockKind.LIST, words)
        else:
            writer.add(BlockKind.PARAGRAPH, words)


def _paragraphs(lines: Sequence[_Line]) -> Iterator[list[_Line]]:
    """Lines that belong together: one page, one size of type, no more space between than usual there."""
    pitches: dict[int, list[float]] = {}
    for before, line in pairwise(lines):
        if before.page == line.page and before.top > line.top:
            pitches.setdefault(line.page, []).append(before.top - line.top)
    usual = {page: median(found) for page, found in pitches.items()}
    group: list[_Line] = []
    for line in lines:
        if group and not _continues(group[-1], line, usual.get(line.page, 0.0)):
            yield group
            group = []
        group.append(line)
    if group:
        yield group


def _continues(before: _Line, line: _Line, usual: float) -> bool:
    if before.text.endswith(_SOFT_HYPHEN):
        return True
    if before.page != line.page or abs(before.size - line.size) > before.size * (_LARGER - 1):
        return False
    return 0 <= before.top - line.top <= max(usual, line.size) * _APART


def _joined(group: Sequence[_Line]) -> str:
    """The words of a paragraph in one line, or a line an item of a list."""
    listed = _ITEM.match(group[0].text) is not None
    words = ""
    for line in group:
        between = "\n" if listed and _ITEM.match(line.text) else " "
        cut = words.endswith(_SOFT_HYPHEN)
        words = words[:-1] + line.text if cut else f"{words}{between}{line.text}"
    return words.rstrip(_SOFT_HYPHEN).replace(_SOFT_HYPHEN, "").strip()
