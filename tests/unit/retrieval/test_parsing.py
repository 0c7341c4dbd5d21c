"""Files and rows to documents, and what is said about those that cannot be read."""

from __future__ import annotations

from datetime import date

import pytest

from retrieval.errors import UnparsableDocumentError
from retrieval.parsing import parse_file, parse_row

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
        "tags": ("a", "b"),
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
        (b"\x89PNG\x00\x00", "content", "is an image"),
        (b"\x00\x01\x02", "content", "binary"),
        (b"%PDF-1.7", "content", "is a PDF"),
        (b"PK\x03\x04", "content", "is a ZIP archive"),
        (b"caf\xe9", "content", "not UTF-8 text .byte 3."),
        (b"\xff\xfe bad\x00", "content", "not UTF-16"),
        (b"\xff\xfe\x00\x00b\x00\x00\x00", "content", "not UTF-16"),
        (b"", "content", "empty"),
        (b"---\nid: x\n---\n\n  \n", "content", "empty"),
        (b"---\nid: x\ntitle: [a\n---\ntext", "front matter", "not valid YAML"),
        (b"---\nid: x\ntext without end", "front matter", "no closing"),
        (b"---\n- a\n- b\n---\ntext", "front matter", "no fields"),
        (b"---\neffective_from: next week\n---\ntext", "effective_from", "not a date"),
        (b"---\neffective_from: 2026-02-01\neffective_to: 2026-01-01\n---\ntext", "effective_to", "before"),
        (b"---\naudience: vip\n---\ntext", "audience", "'vip' is not known"),
        (b"---\nprincipals: staff\n---\ntext", "principals", "not a list"),
        (b"---\nprincipals: [" + b"x" * 201 + b"]\n---\ntext", "principals", "more than 200 characters"),
        (b"---\nspec: {a: 1}\n---\ntext", "spec", "nested object"),
        (b"---\nspec: [[a]]\n---\ntext", "spec", "nested list"),
        (b"---\nseen: .inf\n---\ntext", "seen", "too large a number"),
        (b"---\nseen: 99999999999999999999\n---\ntext", "seen", "too large a number"),
        (b"---\nseen: 2026-02-30\n---\ntext", "front matter", "not valid YAML"),
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
    assert document.metadata == {"visibility": "internal", "n": 3, "ok": True}


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


def test_metadata_keeps_its_types() -> None:
    content = b"""---
level: 3
price: 9.5
beta: yes
seen: 2026-01-31
plans: [plus, 2, 2026-02-01]
nothing:
---
text"""
    metadata = parse_file("a.md", content).document.metadata
    assert metadata == {
        "level": 3,
        "price": 9.5,
        "beta": True,
        "seen": "2026-01-31",
        "plans": ("plus", "2", "2026-02-01"),
    }
    assert metadata["beta"] is True


def test_a_field_without_a_value_says_nothing() -> None:
    document = parse_file("guide.md", b"---\nid:\ntitle:\n---\ntext").document
    assert (document.id, document.title) == ("guide", "guide")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings(encoding: str) -> None:
    mark = "\ufeff" if encoding.startswith("utf-16-") else ""
    document = parse_file("a.txt", f"{mark}na\u00efve \U0001f600".encode(encoding)).document
    assert document.text == "na\u00efve \U0001f600"


def test_text_before_sidecar_before_what_the_format_says() -> None:
    content = b"---\nproduct: sync\n---\n<html lang='de-AT'><head><title>Kopf</title></head><body><p>Text"
    document = parse_file(
        "a.html", content, sidecar={"product": "vault", "language": "fr", "beta": False}
    ).document
    assert (document.title, document.language) == ("Kopf", "fr")
    assert document.metadata == {"product": "sync", "beta": False}


def test_access_is_never_mixed_from_two_places() -> None:
    content = b"---\naudience: internal\n---\ntext"
    document = parse_file("a.md", content, sidecar={"principals": ["public"]}).document
    assert document.principals == ("staff",)


@pytest.mark.parametrize(
    ("head", "title"),
    [
        ("<title>Reset it | Nimbus help</title>", "Reset it"),
        ("<title>Something else</title>", "Something else"),
        ("<title>Untitled</title>", "Reset it"),
        ("", "Reset it"),
    ],
)
def test_title_of_a_page(head: str, title: str) -> None:
    content = f"<html><head>{head}</head><body><h1>Reset it</h1><p>Text</p></body></html>"
    assert parse_file("a.html", content.encode()).document.title == title


def test_fields_in_the_head_of_a_page() -> None:
    content = b"""<html><head><meta name="twinrail:principals" content="staff, vip">
    <meta name="twinrail:effective_from" content="2026-03-01"><meta name="author" content="x"></head>
    <body><p>Text</p></body></html>"""
    document = parse_file("a.html", content).document
    assert document.principals == ("staff", "vip")
    assert document.effective_from == date(2026, 3, 1)
    assert document.metadata == {}
