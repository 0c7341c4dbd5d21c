"""Canonical text: what a person would read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from retrieval.canonical import Text, read_plain
from retrieval.chunking import BlockKind
from retrieval.markup import read_html, read_markdown


def spans(read: Text) -> list[tuple[str, str]]:
    return [(block.kind.value, read.text[block.start : block.end]) for block in read.blocks]


def test_markdown() -> None:
    source = """# Title

Some **bold** and [a link](http://x.example) with `code`,
on two lines.

1. one
   - nested
2. two

| Plan | Price | Users |
| --- | --- | --- |
| Plus | $9 | 1 |
| Team | $14 | |

```
x = 1

y = 2
```

> quoted
"""
    assert spans(read_markdown(source)) == [
        ("heading", "Title"),
        ("paragraph", "Some bold and a link with code, on two lines."),
        ("list", "1. one\n  - nested\n2. two"),
        ("table", "Plus \u2014 Price: $9; Users: 1\nTeam \u2014 Price: $14"),
        ("code", "x = 1\n\ny = 2"),
        ("paragraph", "quoted"),
    ]


def test_placeholders_are_text_and_line_breaks_are_lines() -> None:
    read = read_markdown("Use <account_id> or `<id>` here.<br>Next line.\n\n<CustomTag>\nkept\n</CustomTag>")
    assert "Use <account_id> or <id> here.\nNext line." in read.text
    assert "<CustomTag>" in read.text
    assert "kept" in read.text


def test_html_without_its_furniture() -> None:
    source = """<!doctype html><html><head><title>t</title><style>p{}</style></head><body>
    <header>Site name</header><nav><a href=/>Home</a></nav>
    <main><article><header><h1>Return a drive</h1></header><p>Send it <em>back</em>.</p>
    <script>alert(1)</script><div>Loose <b>text</b><ul><li>one<li>two</ul></div></article></main>
    <footer>(c)</footer></body></html>"""
    assert spans(read_html(source)) == [
        ("heading", "Return a drive"),
        ("paragraph", "Send it back."),
        ("paragraph", "Loose text"),
        ("list", "- one\n- two"),
    ]


def test_header_row_in_plain_cells_stays_a_row() -> None:
    read = read_html("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td><td>d</td></tr></table>")
    assert spans(read) == [("table", "a | b\nc | d")]


def test_plain_text_blocks() -> None:
    read = read_plain("  one\r\ntwo\r\n\r\n\r\nthree  ")
    assert spans(read) == [("paragraph", "one\ntwo"), ("paragraph", "three")]
    assert read.first_heading == ""


@given(st.text('<>/abp# -|`*\n&;!"=1.é', max_size=120))
def test_blocks_cover_the_text_in_order(source: str) -> None:
    for read in (read_markdown(source), read_html(source), read_plain(source)):
        end = 0
        for block in read.blocks:
            assert read.text[end : block.start].strip() == ""
            assert block.start < block.end
            assert (block.level > 0) == (block.kind is BlockKind.HEADING)
            end = block.end
        assert read.text[end:].strip() == ""
