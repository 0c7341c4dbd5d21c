"""DOCX to canonical text, with python-docx: headings, lists, tables and code by their styles.

Text that somebody deleted or moved away under tracked changes is left out, what was inserted is read.
Headers, footers, footnotes and comments are not.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import docx
from docx.document import Document as WordDocument
from docx.enum.style import WD_STYLE_TYPE
from docx.opc.exceptions import OpcError
from docx.oxml.ns import qn

from retrieval.archives import check_archive
from retrieval.canonical import Text, TextWriter, table_line
from retrieval.chunking import BlockKind
from retrieval.errors import UnparsableDocumentError
from retrieval.limits import ReadLimits

_CODE_STYLES = frozenset(
    {"code", "source code", "html preformatted", "preformatted text", "macro", "macro text"}
)
_FIRST_ROW = 0x20
_LEFT_OUT = frozenset(
    {qn("w:moveFrom"), qn("w:del"), "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"}
)
#: What may stand around paragraphs: content controls, tracked insertions.
_AROUND = frozenset({qn("w:sdt"), qn("w:sdtContent"), qn("w:ins"), qn("w:moveTo"), qn("w:customXml")})
_WRITTEN = {
    qn("w:tab"): " ",
    qn("w:br"): "\n",
    qn("w:cr"): "\n",
    qn("w:noBreakHyphen"): "-",
}

#: Elements of the XML tree, for which python-docx has no public types.
Element = Any


def read_docx(name: str, content: bytes, limits: ReadLimits) -> Text:
    """Canonical text of a Word document."""
    check_archive(name, content, limits)
    try:
        document = docx.Document(io.BytesIO(content))
    except (OpcError, KeyError, ValueError, SyntaxError) as exc:  # SyntaxError: XML that is none
        problem = f"is no Word document: {exc}"
        fix = "save it as .docx, or give it the suffix of its kind"
        raise UnparsableDocumentError(name, "content", problem, fix) from exc
    body = _Body(document)
    body.walk(document.element.body)
    body.flush()
    about = document.core_properties
    return body.writer.text(properties={"title": about.title, "language": about.language})


class _Style:
    """What a paragraph style means for us."""

    def __init__(self, style: Any) -> None:
        self.level = 0
        self.code = False
        self.numbering: Element | None = None
        self.listed = False
        #: How deep a list of this style is; Word's own styles are lists of one level each.
        self.depth = 0
        while style is not None:
            name = (style.name or "").lower()
            if (found := re.fullmatch(r"heading ([1-6])", name)) and not self.level:
                self.level = int(found[1])
            elif name == "title" and not self.level:
                self.level = 1
            self.code = self.code or name in _CODE_STYLES
            if not self.listed and (found := re.fullmatch(r"list (?:\w+)(?: ([2-5]))?", name)):
                self.listed, self.depth = True, int(found[1] or 1) - 1
            properties = style.element.pPr
            if self.numbering is None and properties is not None:
                self.numbering = properties.numPr
            style = style.base_style


class _Body:
    """Writes the paragraphs and tables of a document. Those of one list, or of one listing, are one block."""

    def __init__(self, document: WordDocument) -> None:
        self.writer = TextWriter()
        self._document = document
        self._styles: dict[str | None, _Style] = {}
        self._kind = BlockKind.PARAGRAPH
        self._lines: list[str] = []
        self._counted: dict[tuple[int, int], int] = {}

    def walk(self, parent: Element) -> None:
        """Write what stands in the body, in a content control or in a box."""
        for child in parent:
            if child.tag == qn("w:p"):
                self._paragraph(child)
            elif child.tag == qn("w:tbl"):
                self._table(child)
            elif child.tag in _AROUND and not _is_contents(child):
                self.walk(child)

    def flush(self) -> None:
        """Write the list or listing that is still open."""
        if self._lines:
            self.writer.add(self._kind, "\n".join(self._lines))
            self._lines = []

    def _paragraph(self, paragraph: Element) -> None:
        style = self._style(paragraph.style)
        words = "".join(_fragments(paragraph))
        if style.code:
            self._line(BlockKind.CODE, words)
            return
        lines = [line for line in (" ".join(line.split()) for line in words.split("\n")) if line]
        if not lines:
            return
        if style.level:
            self.flush()
            self.writer.add(BlockKind.HEADING, " ".join(lines), style.level)
        elif marker := self._marker(paragraph, style):
            self._line(BlockKind.LIST, marker + lines[0])
            for line in lines[1:]:
                self._line(BlockKind.LIST, " " * len(marker) + line)
        else:
            self.flush()
            self.writer.add(BlockKind.PARAGRAPH, "\n".join(lines))

    def _line(self, kind: BlockKind, line: str) -> None:
        if kind is not self._kind:
            self.flush()
        self._kind = kind
        self._lines.append(line)

    def _style(self, style_id: str | None) -> _Style:
        if style_id not in self._styles:
            self._styles[style_id] = _Style(self._document.part.get_style(style_id, WD_STYLE_TYPE.PARAGRAPH))
        return self._styles[style_id]

    def _marker(self, paragraph: Element, style: _Style) -> str:
        """What stands before an item of a list; empty where the paragraph is none."""
        properties = paragraph.pPr
        own = properties.numPr if properties is not None else None
        numbering = own if own is not None else style.numbering
        number, level = 0, 0
        if numbering is not None:
            number = numbering.numId.val if numbering.numId is not None else 0
            level = numbering.ilvl.val if numbering.ilvl is not None else 0
        indent = "  " * max(level, style.depth)
        if not number:  # 0 takes an item out of the list of its style
            return f"{indent}- " if style.listed and own is None else ""
        for deeper in [key for key in self._counted if key[0] == number and key[1] > level]:
            del self._counted[deeper]
        count = self._counted[number, level] = self._counted.get((number, level), 0) + 1
        bullet = self._formats.get((number, level), "bullet") in ("bullet", "none")
        return f"{indent}- " if bullet else f"{indent}{count}. "

    @cached_property
    def _formats(self) -> dict[tuple[int, int], str]:
        """How the levels of each list are numbered."""
        found: dict[tuple[int, int], str] = {}
        try:
            root: Element = self._document.part.numbering_part.element
        except (KeyError, NotImplementedError):  # a document without lists has no such part
            return found
        abstract = {each.get(qn("w:abstractNumId")): each for each in root.findall(qn("w:abstractNum"))}
        for number in root.findall(qn("w:num")):
            reference = number.find(qn("w:abstractNumId"))
            definition = abstract.get(reference.get(qn("w:val"))) if reference is not None else None
            for level in definition.findall(qn("w:lvl")) if definition is not None else ():
                form = level.find(qn("w:numFmt"))
                if form is not None:
                    key = (int(number.get(qn("w:numId"))), int(level.get(qn("w:ilvl"))))
                    found[key] = form.get(qn("w:val"))
        return found

    def _table(self, table: Element) -> None:
        self.flush()
        rows = list(table.findall(qn("w:tr")))
        if len(rows) == 1 and len(cells := rows[0].findall(qn("w:tc"))) == 1:
            self.walk(cells[0])  # a box around text, not a table
            self.flush()
            return
        above: dict[int, str] = {}
        read = [_cells(row, above) for row in rows]
        heading: list[str] = []
        if len(rows) > 1 and all(read[0]) and _has_heading(table, rows[0]):
            heading = read.pop(0)
        self.writer.add(
            BlockKind.TABLE, "\n".join(table_line(heading, cells) for cells in read if any(cells))
        )


def _fragments(node: Element) -> Iterator[str]:
    for child in node:
        if child.tag == qn("w:t"):
            yield child.text or ""
        elif child.tag in _WRITTEN:
            yield _WRITTEN[child.tag]
        elif child.tag == qn("w:txbxContent"):
            yield "\n"
            for paragraph in child.iter(qn("w:p")):
                yield from _fragments(paragraph)
                yield "\n"
        elif isinstance(child.tag, str) and child.tag not in _LEFT_OUT and child.tag != qn("w:pPr"):
            yield from _fragments(child)


def _cells(row: Element, above: dict[int, str]) -> list[str]:
    """The cells of a row, one for each column: a merged cell stands in its first column and in each row."""
    found: list[str] = []
    for cell in row.findall(qn("w:tc")):
        words = " ".join(" ".join("".join(_fragments(each)).split()) for each in cell.iter(qn("w:p"))).strip()
        column = len(found)
        merged = cell.tcPr.find(qn("w:vMerge")) if cell.tcPr is not None else None
        if merged is not None and merged.get(qn("w:val")) != "restart":
            words = above.get(column, words)
        above[column] = words
        found += [words, *[""] * (cell.grid_span - 1)]
    return found


def _has_heading(table: Element, first: Element) -> bool:
    """Whether the first row names the columns: it is repeated on each page, or styled as a heading."""
    if first.find(f"{qn('w:trPr')}/{qn('w:tblHeader')}") is not None:
        return True
    look = table.find(f"{qn('w:tblPr')}/{qn('w:tblLook')}")
    if look is None:
        return False
    flag = look.get(qn("w:firstRow"))
    return flag in ("1", "true") if flag else bool(int(look.get(qn("w:val"), "0"), 16) & _FIRST_ROW)


def _is_contents(node: Element) -> bool:
    """Whether a content control is the table of contents, which only repeats the headings."""
    return any(
        "table of contents" in each.get(qn("w:val"), "").lower()
        for each in node.findall(f"{qn('w:sdtPr')}/{qn('w:docPartObj')}/{qn('w:docPartGallery')}")
    )
