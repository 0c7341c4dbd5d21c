"""Cuts a growing text into sentences, so that each can be checked before it is shown.

Nothing is lost or changed: the pieces put together are the text. A boundary is decided only when the first
character after it is known, because `9.` may go on as `9.00` and `help.` as a host name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

#: Never the end of a sentence.
_ABBREVIATIONS: Final = frozenset(
    {"e.g", "i.e", "approx", "vs", "mr", "mrs", "ms", "dr", "prof", "ltd", "inc", "co", "corp"}
)
#: Not the end when a number follows: `No. 5`, `1 Mar. 2026`.
_BEFORE_NUMBERS: Final = frozenset(
    {"no", "nos", "fig", "jan", "feb", "mar", "apr", "jun"}
    | {"jul", "aug", "sep", "sept", "oct", "nov", "dec"}
)
#: End mark, closing quotes or brackets, white space, then the first character of what follows.
_END: Final = re.compile(r"[.!?…]+[\"'\u201d\u2019)\]]*(\s+)(?=\S)|(?<=\S)[ \t]*(\n\s*)(?=\S)")
_WORD_BEFORE: Final = re.compile(r"([\w.&-]*)$")
_LIST_MARK: Final = re.compile(r"(?:^|\n)\s*(?:\d{1,3}|[A-Za-z])$")


class SentenceSplitter:
    """Feed it text, get the sentences that are complete; `flush` gives the rest."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, text: str) -> list[str]:
        """Sentences completed by `text`, with their white space."""
        self._rest += text
        return list(self._complete())

    def flush(self) -> str:
        """What is left when nothing more comes."""
        rest, self._rest = self._rest, ""
        return rest

    def _complete(self) -> Iterator[str]:
        start = 0
        for match in _END.finditer(self._rest):
            if _is_boundary(self._rest, start, match):
                yield self._rest[start : match.end()]
                start = match.end()
        self._rest = self._rest[start:]


def split_sentences(text: str) -> list[str]:
    """All sentences of a finished text; joined, they are the text."""
    splitter = SentenceSplitter()
    pieces = splitter.feed(text)
    rest = splitter.flush()
    return [*pieces, rest] if rest else pieces


def _is_boundary(text: str, start: int, match: re.Match[str]) -> bool:
    if match.group(2) is not None or "\n" in (match.group(1) or ""):
        return True
    following = text[match.end()]
    if following.islower():
        return False
    mark = match.group(0)[0]
    if mark != "." or match.group(0).startswith(".."):
        return True
    before = text[start : match.start()]
    if _LIST_MARK.search(before):
        return False
    word = _WORD_BEFORE.search(before)
    last = word.group(1).lower().lstrip(".") if word else ""
    if last in _ABBREVIATIONS or (last in _BEFORE_NUMBERS and following.isdigit()):
        return False
    return not (len(last) == 1 and last.isalpha() and last != "i")  # an initial: `J. Smith`
