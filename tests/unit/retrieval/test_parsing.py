"""Files and rows to documents, and what is said about those that cannot be read."""

from __future__ import annotations

import gzip
import json
from datetime import date
from pathlib import Path

import pytest

from retrieval.errors import DuplicateDocumentError, EmptySourceError, UnparsableDocumentError
from retrieval.parsing import parse_file, parse_row
from retrieval.sources import read_source

ARTICLE = b"""---
id: sync-plus-price
title: Sync Plus: price and what you get
product: sync
audience: internal
language: en
effective_from: 2026-03-01
effective_to: "2026-12-31"
supersedes: sync-plus-price-2024
tags: [a, b]
---
# Sync Plus

Nine dollars.
"""


def test_front_matter() -> None:
    document = parse_file("sync/price.md", ARTICLE).document
    assert (document.id, document.title) == ("sync-plus-price", "Sync Plus: price and what you get")
    assert document.principals == ("staff",)
    assert (document.effective_from, document.effective_to) == (date(2026, 3, 1), date(2026, 12, 31))
    assert document.metadata == {
        "audience": "internal",
        "product": "sync",
        "supersedes": "sync-plus-price-2024",
        "tags": '["a", "b"]',
    }
    assert document.text == "Sync Plus\n\nNine dollars."


def test_html_with_front_matter() -> None:
    content = b"---\nid: x\naudience: public\n---\n<!doctype html><body><h1>Head</h1><p>Text</p></body>"
    document = parse_file("x.html", content).document
    assert (document.title, document.text, document.principals) == ("Head", "Head\n\nText", ("public",))


def test_names_stand_in_for_missing_fields() -> None:
    document = parse_file("guides/first_steps.txt", b"\xef\xbb\xbfhello\r\nworld").document
    assert (document.id, document.title, document.text) == (
        "guides/first_steps",
        "first steps",
        "hello\nworld",
    )


def test_text_that_begins_with_a_rule_is_no_front_matter() -> None:
    assert parse_file("a.md", b"---\n\ntext\n").document.text == "text"


@pytest.mark.parametrize(
    ("content", "field", "problem"),
    [
        (b"\x89PNG\x00\x00", "content", "binary"),
        (b"\xff\xfe bad", "content", "not UTF-8"),
        (b"", "content", "empty"),
        (b"---\nid: x\n---\n\n  \n", "content", "empty"),
        (b"---\nid: x\ntitle: [a\n---\ntext", "front matter", "not valid YAML"),
        (b"---\nid: x\ntext without end", "front matter", "no closing"),
        (b"---\n- a\n- b\n---\ntext", "front matter", "no fields"),
        (b"---\neffective_from: next week\n---\ntext", "effective_from", "not a date"),
        (b"---\neffective_from: 2026-02-01\neffective_to: 2026-01-01\n---\ntext", "effective_to", "before"),
        (b"---\naudience: vip\n---\ntext", "audience", "'vip' is not known"),
        (b"---\nprincipals: staff\n---\ntext", "principals", "not a list"),
        (b"---\nid: ''\n---\ntext", "id", "must be 1 to 200"),
    ],
)
def test_errors_name_file_field_and_fix(content: bytes, field: str, problem: str) -> None:
    with pytest.raises(UnparsableDocumentError, match=problem) as caught:
        parse_file("folder/page.md", content)
    assert (caught.value.file, caught.value.field) == ("folder/page.md", field)
    assert str(caught.value).startswith(f"folder/page.md: {field}: ")
    assert caught.value.fix


def test_corpus_row() -> None:
    row = {
        "id": "1",
        "title": "T",
        "text": "**b**",
        "metadata": {"visibility": "internal", "n": 3, "ok": True},
    }
    document = parse_row("corpus.jsonl:1", row).document
    assert (document.text, document.principals) == ("b", ("staff",))
    assert document.metadata == {"visibility": "internal", "n": "3", "ok": "true"}


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ([], "row"),
        ({"id": "1"}, "text"),
        ({"id": 1, "text": "t"}, "id"),
        ({"id": "1", "text": "a\x00"}, "text"),
        ({"id": "1", "text": "\ud800"}, "text"),
        ({"id": "1", "text": "t", "metadata": []}, "id-is-fine"),
        ({"id": "1", "text": "t", "metadata": [1]}, "metadata"),
        ({"id": "1", "text": "t", "metadata": {"m": "\x00"}}, "m"),
    ],
)
def test_corpus_rows_that_cannot_be_read(row: object, field: str) -> None:
    if field == "id-is-fine":
        assert parse_row("c:1", row).document.id == "1"
        return
    with pytest.raises(UnparsableDocumentError) as caught:
        parse_row("c:1", row)
    assert caught.value.field == field


def test_principals_are_not_part_of_the_content_hash() -> None:
    open_, closed = (
        parse_row("c:1", {"id": "1", "text": "t", "metadata": {"principals": [name]}})
        for name in ("public", "staff")
    )
    assert open_.content_hash == closed.content_hash
    assert open_.content_hash != parse_row("c:1", {"id": "1", "text": "u"}).content_hash


def test_folder(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "a.md").write_text("a")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "b.md").write_text("b")
    (tmp_path / "notes.docx").write_bytes(b"PK")
    (tmp_path / "rows.jsonl").write_text('{"id": "r1", "text": "x"}\n\nnot json\n{"id": "r2", "text": "y"}\n')
    reading = read_source(tmp_path)
    assert [parsed.document.id for parsed in reading.documents] == ["r1", "r2", "deep/er/a"]
    assert [str(failure) for failure in reading.failures] == [
        "rows.jsonl:3: row: is not JSON in UTF-8; write one JSON object a line"
    ]
    assert reading.skipped == ("notes.docx",)


def test_gzip_corpus(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"id": "a", "text": "x"}\n'))
    assert [parsed.document.id for parsed in read_source(path).documents] == ["a"]
    path.write_bytes(gzip.compress(b'{"id": "a", "text": "x"}\n')[:-9])
    assert "corpus.jsonl.gz: file: is not whole gzip" in str(read_source(path).failures[0])


def test_size_limit(tmp_path: Path) -> None:
    (tmp_path / "big.md").write_text("x" * 2000)
    (tmp_path / "c.jsonl").write_text(
        json.dumps({"id": "big", "text": "x" * 5000}) + '\n{"id": "ok", "text": "y"}\n'
    )
    reading = read_source(tmp_path, max_document_bytes=1000)
    assert [failure.field for failure in reading.failures] == ["size", "size"]
    assert [parsed.document.id for parsed in reading.documents] == ["ok"]


def test_duplicates_name_both_places(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "x", "text": "1"}\n{"id": "x", "text": "2"}\n')
    with pytest.raises(DuplicateDocumentError, match=r"'x' is in both a\.jsonl:1 and a\.jsonl:2"):
        read_source(tmp_path)


def test_sources_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(EmptySourceError, match="no such file"):
        read_source(tmp_path / "missing")
    with pytest.raises(EmptySourceError, match="no document found"):
        read_source(tmp_path)
