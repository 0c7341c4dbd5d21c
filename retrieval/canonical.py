"""Canonical text: what a person would read, with its structure as spans. Every kind of file ends here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from retrieval.chunking import Block, BlockKind, plain_blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Canonical text with its structure."""

    text: str
    blocks: tuple[Block, ...]
    #: What the format says of the document beside its text: `title`, `language`.
    properties: Mapping[str, object] = field(default_factory=dict)
    #: Fields that the author wrote for us into the document, named as in front matter.
    fields: Mapping[str, object] = field(default_factory=dict)

    @property
    def first_heading(self) -> str:
        """The words of the first heading, or nothing."""
        for block in self.blocks:
            if block.kind is BlockKind.HEADING:
                return self.text[block.start : block.end]
        return ""


class TextWriter:
    """Puts blocks one under another, with a blank line between, and notes where each one stands."""

    def __init__(self) -> None:
        self.length = 0
        self._parts: list[str] = []
        self._blocks: list[Block] = []

    def add(self, kind: BlockKind, text: str, level: int = 0) -> None:
        """Write a block; one without words is none."""
        text = text.strip("\n") if kind is BlockKind.CODE else text.strip()
        if not text.strip():
            return
        if self._parts:
            self._parts.append("\n\n")
            self.length += 2
        self._parts.append(text)
        self._blocks.append(Block(kind, level, self.length, self.length + len(text)))
        self.length += len(text)

    def text(
        self, *, properties: Mapping[str, object] | None = None, fields: Mapping[str, object] | None = None
    ) -> Text:
        """Everything written so far."""
        return Text(
            text="".join(self._parts),
            blocks=tuple(self._blocks),
            properties=properties or {},
            fields=fields or {},
        )


def read_plain(source: str) -> Text:
    """Plain text is its own canonical text, but for line ends and outer blank space."""
    text = source.replace("\r\n", "\n").replace("\r", "\n").strip()
    return Text(text=text, blocks=plain_blocks(text))


def table_line(header: Sequence[str], cells: Sequence[str]) -> str:
    """One row of a table as a line. A row that is no header names its columns, as far as they are known."""
    return _named_row(header, cells) if len(header) == len(cells) > 1 else " | ".join(cells)


def _named_row(header: Sequence[str], cells: Sequence[str]) -> str:
    """A row with its column names, so that a row quoted alone still says what its values are."""
    values = "; ".join(
        f"{name}: {cell}" if name else cell for name, cell in zip(header[1:], cells[1:], strict=True) if cell
    )
    return f"{cells[0] or header[0]} \u2014 {values}" if cells[0] or header[0] else values
