"""Lists of codes, where each line says what one code means: `S-104 — Meaning: name not allowed`.

The words of such a line belong to its code. Who gives them to another code of the list says what is wrong,
though every word and every value stands in the passages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from serving.sentences import content_stems

_CODE = re.compile(r"\b([A-Za-z]{1,8})-(\d{1,6})\b")
#: A line about one code, in a table as canonical text, a Markdown table or a list.
_LINE = re.compile(r"[-*|\s]*(?P<code>[A-Za-z]{1,8}-\d{1,6})\s*(?:[\u2014\u2013:|]|-\s)")
#: A short line without a mark at its end, such as `Fix S-104`.
_HEADING = re.compile(r"(?![-*|\d])[^\u2014|\n]{1,60}(?<![.!?:;,])")
#: So many lines of one family make a list.
_LEAST = 2


@dataclass(frozen=True, slots=True)
class CodeUnit:
    """A sentence or line: the codes that it or its heading names, the one whose line it is, and its words."""

    codes: frozenset[str]
    line_of: str | None
    stems: frozenset[str]


def code_units(units: Sequence[str], stems: Sequence[frozenset[str]]) -> tuple[CodeUnit, ...]:
    """The units of a text that has codes; nothing for one that has none."""
    nothing: frozenset[str] = frozenset()
    found: list[CodeUnit] = []
    heading = nothing
    for unit, words in zip(units, stems, strict=True):
        codes = _codes(unit)
        line = _LINE.match(unit)
        if line is None and _HEADING.fullmatch(unit):
            heading = codes if len(codes) == 1 else nothing
        found.append(CodeUnit(codes or heading, line["code"].lower() if line else None, words))
    return tuple(found) if any(unit.codes for unit in found) else ()


@dataclass(frozen=True, slots=True)
class CodeLists:
    """The lists of passages: of each code in one, the words of its line, and of all that is said of it."""

    lines: Mapping[str, frozenset[str]] = field(default_factory=dict)
    named: Mapping[str, frozenset[str]] = field(default_factory=dict)
    #: Words that the passages with codes of its family say of no code.
    common: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, pages: Iterable[Sequence[CodeUnit]]) -> Self:
        """Put together what the passages say of each code."""
        pages = [page for page in pages if page]
        lines: dict[str, frozenset[str]] = {}
        for unit in (unit for page in pages for unit in page):
            if unit.line_of:
                lines[unit.line_of] = lines.get(unit.line_of, frozenset()) | unit.stems
        families = [_family(code) for code in lines]
        lines = {code: words for code, words in lines.items() if families.count(_family(code)) >= _LEAST}
        named: dict[str, frozenset[str]] = {}
        common: dict[str, frozenset[str]] = {}
        for code in lines:
            about = [
                unit
                for page in pages
                if any(_family(each) == _family(code) for unit in page for each in unit.codes)
                for unit in page
            ]
            nothing: frozenset[str] = frozenset()
            named[code] = nothing.union(*(unit.stems for unit in about if code in unit.codes))
            common[code] = nothing.union(*(unit.stems for unit in about if not unit.codes))
        return cls(lines, named, common)

    def mistaken(self, sentence: str) -> tuple[str, ...]:
        """The code of the sentence, as written, if what tells it from another code of its list is the other
        one's alone. Of several codes it cannot be said what belongs to which."""
        if not self.lines:
            return ()
        codes = [match for match in _CODE.finditer(sentence) if match.group().lower() in self.lines]
        if len({match.group().lower() for match in codes}) != 1:
            return ()
        code = codes[0].group().lower()
        wanted = set(content_stems(sentence))
        for other in self.lines:
            if other == code or _family(other) != _family(code):
                continue
            theirs = wanted & (self.lines[other] - self.named[code] - self.common[code])
            if theirs and not wanted & (self.named[code] - self.named[other] - {code}):
                return (codes[0].group(),)
        return ()


def _codes(text: str) -> frozenset[str]:
    return frozenset(match.group().lower() for match in _CODE.finditer(text))


def _family(code: str) -> str:
    return code.partition("-")[0]
