"""The pages for readers, as the tests see them: blocks that can be run, prose, tables, headings and links.

The rules for whoever writes a page stand in CONTRIBUTING.md, section Documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

#: Languages whose blocks are run.
RUN = ("sh", "python")

_FENCE = re.compile(r"^(?P<ticks>`{3,})(?P<info>[^`]*)$")
_RUN_BY = re.compile(r"^<!-- run by (?P<path>\S+) -->$")
_SHOWS_PROBLEM = "<!-- ends in a problem -->"
_LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_INLINE_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block."""

    page: str
    #: Line of the opening fence.
    line: int
    #: The info string; empty for what is only shown.
    language: str
    text: str
    #: The other test that runs it, from the comment above the fence.
    run_by: str | None
    #: A refusal is what the block is there to show.
    shows_problem: bool

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A Markdown file."""

    name: str
    lines: tuple[str, ...]
    blocks: tuple[Block, ...]
    #: Every line that is in no block, with its number.
    prose: tuple[tuple[int, str], ...]

    @property
    def path(self) -> Path:
        """The file."""
        return ROOT / self.name

    @property
    def anchors(self) -> frozenset[str]:
        """What `#...` may name, as GitHub makes it from the headings."""
        return frozenset(_slug(line.lstrip("#").strip()) for _, line in self.prose if line.startswith("#"))

    def inline_code(self) -> Iterator[tuple[int, str]]:
        """Everything between single backticks, with its line."""
        for number, line in self.prose:
            for code in _INLINE_CODE.findall(line):
                yield number, code

    def links(self) -> Iterator[tuple[int, str]]:
        """Targets of links and pictures, with their line."""
        for number, line in self.prose:
            for match in _LINK.finditer(_INLINE_CODE.sub("", line)):
                yield number, match["target"]

    def tables(self) -> dict[str, list[dict[str, str]]]:
        """The rows of the tables under each heading: column name -> cell."""
        found: dict[str, list[dict[str, str]]] = {}
        heading, columns = "", None
        for _, line in self.prose:
            if line.startswith("#"):
                heading, columns = line.lstrip("#").strip(), None
            elif not line.startswith("|"):
                columns = None
            elif columns is None:
                columns = _cells(line)
            elif not set(line) <= set("|-: "):
                found.setdefault(heading, []).append(dict(zip(columns, _cells(line), strict=True)))
        return found


@cache
def page(name: str) -> Page:
    """One page by its path in the repository."""
    return parse(name, (ROOT / name).read_text(encoding="utf-8"))


def pages() -> list[Page]:
    """Every page for readers."""
    names = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
    names += sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    return [page(name) for name in names]


def runnable() -> list[Block]:
    """Every block that has to run as it stands, page by page."""
    return [block for each in pages() for block in each.blocks if block.language in RUN]


def parse(name: str, text: str) -> Page:
    """Take a page apart; raises ValueError where a block is not closed."""
    lines = text.splitlines()
    blocks: list[Block] = []
    prose: list[tuple[int, str]] = []
    number = 0
    while number < len(lines):
        opening = _FENCE.match(lines[number])
        if opening is None:
            prose.append((number + 1, lines[number]))
            number += 1
            continue
        try:
            end = lines.index(opening["ticks"], number + 1)
        except ValueError as exc:
            raise ValueError(f"{name}:{number + 1}: the block is not closed") from exc
        above = lines[number - 1] if number else ""
        mark = _RUN_BY.match(above)
        blocks.append(
            Block(
                page=name,
                line=number + 1,
                language=opening["info"].strip(),
                text="\n".join(lines[number + 1 : end]) + "\n",
                run_by=mark["path"] if mark else None,
                shows_problem=above == _SHOWS_PROBLEM,
            )
        )
        number = end + 1
    return Page(name=name, lines=tuple(lines), blocks=tuple(blocks), prose=tuple(prose))


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
