"""Reads the text of one field out of a JSON object while the model is still writing it.

Not a validator: the finished document is parsed and checked as a whole. This only finds the characters early.
"""

from __future__ import annotations

import re
from typing import Final

_SIMPLE_ESCAPES: Final = {
    '"': '"',
    "\\": "\\",
    "/": "/",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
}
_REPLACEMENT: Final = "\ufffd"
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
#: What a string holds as it is, in one run.
_PLAIN: Final = re.compile(r'[^"\\]+')


class FieldReader:
    """Feed it pieces of JSON, get the new characters of a top-level string field.

    Pieces may end anywhere: inside an escape, inside a surrogate pair, inside a key. Half a surrogate pair
    comes out as U+FFFD, because text with a lone surrogate cannot be sent as UTF-8.
    """

    def __init__(self, field: str = "answer") -> None:
        self._field = field
        self._depth: list[str] = []
        self._key: list[str] = []
        self._last_key = ""
        self._expects_key = False
        self._in_string = False
        self._is_key = False
        self._captures = False
        self._escape = ""
        self._high: int | None = None
        #: The whole field has been read.
        self.done = False

    def feed(self, piece: str) -> str:
        """The characters of the field that `piece` completes; empty while other parts of the JSON pass."""
        out: list[str] = []
        place = 0
        while place < len(piece):
            if not self._in_string:
                self._structure_char(piece[place])
            elif not self._escape and (run := _PLAIN.match(piece, place)):
                self._emit(run.group(), out)
                place = run.end()
                continue
            else:
                self._string_char(piece[place], out)
            place += 1
        return "".join(out)

    def _structure_char(self, char: str) -> None:
        if char == '"':
            self._in_string = True
            self._is_key = self._expects_key and self._depth == ["{"]
            self._captures = (
                not self._is_key and self._depth == ["{"] and self._last_key == self._field and not self.done
            )
            self._key.clear()
        elif char in "{[":
            self._depth.append(char)
            self._expects_key = char == "{"
        elif char in "}]":
            if self._depth:
                self._depth.pop()
            self._expects_key = False
        elif char == ",":
            self._expects_key = self._depth[-1:] == ["{"]
            if self._depth == ["{"]:
                self._last_key = ""
        elif char == ":":
            self._expects_key = False

    def _string_char(self, char: str, out: list[str]) -> None:
        """A character that means something in a string: part of an escape, or the string's end."""
        if self._escape:
            self._escape_char(char, out)
        elif char == "\\":
            self._escape = char
        else:
            self._end_string(out)

    def _escape_char(self, char: str, out: list[str]) -> None:
        self._escape += char
        if self._escape[1] != "u":
            self._emit(_SIMPLE_ESCAPES.get(char, _REPLACEMENT), out)
            self._escape = ""
        elif len(self._escape) == 6:
            try:
                code = int(self._escape[2:], 16)
            except ValueError:
                code = 0xFFFD
            self._escape = ""
            self._code_point(code, out)

    def _code_point(self, code: int, out: list[str]) -> None:
        if 0xD800 <= code < 0xDC00:
            self._flush_high(out)
            self._high = code
        elif 0xDC00 <= code < 0xE000:
            if self._high is None:
                self._emit(_REPLACEMENT, out)
            else:
                pair = 0x10000 + ((self._high - 0xD800) << 10) + (code - 0xDC00)
                self._high = None
                self._emit(chr(pair), out)
        else:
            self._emit(chr(code), out)

    def _flush_high(self, out: list[str]) -> None:
        if self._high is not None:
            self._high = None
            self._emit(_REPLACEMENT, out)

    def _emit(self, text: str, out: list[str]) -> None:
        self._flush_high(out)
        if self._is_key:
            self._key.append(text)
        elif self._captures:
            out.append(_LONE_SURROGATE.sub(_REPLACEMENT, text))

    def _end_string(self, out: list[str]) -> None:
        self._flush_high(out)
        self._in_string = False
        if self._is_key:
            self._last_key = "".join(self._key)
            self._expects_key = False
        elif self._captures:
            self.done = True
        self._captures = self._is_key = False
