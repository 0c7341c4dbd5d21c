"""Bytes to text, and what bytes that are no text seem to be."""

from __future__ import annotations

import codecs

from retrieval.errors import UnparsableDocumentError

UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

#: How files of other kinds begin, for those that were given a wrong name.
_MAGIC = {
    b"%PDF-": "a PDF",
    b"PK\x03\x04": "a ZIP archive or an Office document",
    b"\xd0\xcf\x11\xe0": "an old or encrypted Office document",
    b"\x1f\x8b": "compressed with gzip",
    b"\x89PNG": "an image",
    b"GIF8": "an image",
    b"\xff\xd8\xff": "an image",
    b"{\\rtf": "RTF",
}


def foreign_kind(content: bytes) -> str:
    """What the first bytes say that a file is; empty for text and for what is not known."""
    return next((kind for magic, kind in _MAGIC.items() if content.startswith(magic)), "")


def decode(name: str, content: bytes) -> str:
    """The text of a file: UTF-8, or UTF-16 that says so in its first bytes. Line ends become newlines."""
    if kind := foreign_kind(content):
        fix = "give it the suffix of its kind, or convert it to text"
        raise UnparsableDocumentError(name, "content", f"is {kind}, not text", fix)
    wide = content.startswith(UTF16_MARKS)
    if not wide and b"\x00" in content:
        raise UnparsableDocumentError(name, "content", "is binary", "remove the file or convert it to text")
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as exc:
        problem = f"is not {'UTF-16' if wide else 'UTF-8'} text (byte {exc.start})"
        raise UnparsableDocumentError(name, "content", problem, "save the file as UTF-8") from exc
    if "\x00" in text:
        raise UnparsableDocumentError(name, "content", "is not UTF-16 text", "save the file as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")
