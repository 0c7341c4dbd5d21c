"""Markdown and HTML to canonical text: what a person would read, with the structure as spans.

Markdown is rendered to HTML first, so there is one reader of structure. Table rows become lines that name
their columns (`row — column: value; ...`), list items keep their markers, links and emphasis leave their
words. Site furniture (menus, footers, scripts) is dropped.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from selectolax.lexbor import LexborHTMLParser, LexborNode

from retrieval.canonical import Text, TextWriter, table_line
from retrieval.chunking import BlockKind
from retrieval.front_matter import with_names

_DROPPED_TAGS = "script style nav footer aside noscript template form svg iframe head button"
_INLINE_TAGS = (
    "-text a abbr b bdi br cite code data del dfn em font i img ins kbd label mark q s samp small span strike"
    " strong sub sup time tt u var wbr"
)
_BLOCK_TAGS = (
    "p div section article main header body html ul ol li dl dt dd table thead tbody tfoot tr td th caption"
    " colgroup col pre blockquote hr figure figcaption details summary address center h1 h2 h3 h4 h5 h6"
    " fieldset legend"
)
_LISTS = frozenset({"ul", "ol", "dl"})
_DROPPED = frozenset(_DROPPED_TAGS.split())
_BLOCK = frozenset(_BLOCK_TAGS.split())
_KNOWN_TAGS = _DROPPED | _BLOCK | frozenset(_INLINE_TAGS.split())
_TAG_NAME = re.compile(r"</?([A-Za-z][\w-]*)")
#: Runs of blank space that are not one plain space already; `\n` stays where lines still count.
_BLANK = re.compile(r"[^\S ]\s*| \s+")
_BLANK_IN_LINE = re.compile(r"[^\S\n ][^\S\n]*| [^\S\n]+")
#: What may mean something in Markdown inside of a block; ` \n` may be a hard line break.
_MARKS = re.compile(r"[\\`~*_\[<&]| \n")
_LINE_START = re.compile(r"\n[ \t]+")


def read_markdown(source: str) -> Text:
    """Canonical text of Markdown. `<placeholders>` that are no HTML stay in the text."""
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).disable("inline")
    renderer = RendererHTML(reader)
    references: dict[str, Any] = {}
    tokens = reader.parse(source, references)
    # Inline tokens take many times the memory of their text, so one block's are made and rendered at a time.
    for token in tokens:
        if token.type == "inline":
            token.type = "html_block"
            if _MARKS.search(token.content) is None:
                token.content = escapeHtml(_LINE_START.sub("\n", token.content))
                continue
            words: list[Token] = []
            reader.inline.parse(token.content, reader, references, words)
            for word in words:
                _escape_placeholder(word)
                word.type = "text" if word.type == "text_special" else word.type
            token.content = renderer.renderInline(words, reader.options, references)
        else:
            _escape_placeholder(token)
    return read_html(renderer.render(tokens, reader.options, references))


def read_html(source: str) -> Text:
    """Canonical text of HTML: of `<main>` or `<article>` where there is one, else of the body."""
    root = LexborHTMLParser(source).root
    if root is None:
        return Text(text="", blocks=())
    content = root.css_first("main") or root.css_first("article")
    writer = TextWriter()
    # A header inside the content carries its title; one around it is the site's.
    _write(
        writer,
        content or root.css_first("body") or root,
        dropped=_DROPPED if content else _DROPPED | {"header"},
    )
    return writer.text(properties=_properties(root), fields=_fields(root))


def _properties(root: LexborNode) -> dict[str, object]:
    """Title and language as the page states them."""
    title = root.css_first("head > title")
    found = {
        "title": " ".join(title.text().split()) if title else "",
        "language": (root.attributes.get("lang") or "").strip() if root.tag == "html" else "",
    }
    return {name: value for name, value in found.items() if value}


def _fields(root: LexborNode) -> dict[str, object]:
    """Fields of front matter in the head: `<meta name="twinrail:audience" content="internal">`."""
    fields: dict[str, object] = {}
    for node in root.css("head > meta[name]"):
        prefix, _, name = (node.attributes.get("name") or "").partition(":")
        if prefix.strip().lower() == "twinrail" and name.strip():
            fields[name.strip()] = (node.attributes.get("content") or "").strip()
    return with_names(fields)


def _write(writer: TextWriter, node: LexborNode, *, dropped: frozenset[str]) -> None:
    """Write the blocks under a node; runs of inline nodes between blocks are paragraphs."""
    run: list[LexborNode] = []
    for child in node.iter(include_text=True):
        tag = child.tag or ""
        if tag in dropped:
            continue
        if not _is_block(child):
            run.append(child)
            continue
        writer.add(BlockKind.PARAGRAPH, _inline(run, dropped))
        run = []
        if re.fullmatch(r"h[1-6]", tag):
            writer.add(BlockKind.HEADING, " ".join(_inline([child], dropped).split()), level=int(tag[1]))
        elif tag in _LISTS:
            writer.add(BlockKind.LIST, "\n".join(_list_lines(child, dropped)))
        elif tag == "table":
            writer.add(BlockKind.TABLE, "\n".join(_table_lines(child, dropped)))
        elif tag == "pre":
            writer.add(BlockKind.CODE, child.text(deep=True))
        elif tag == "p":
            writer.add(BlockKind.PARAGRAPH, _inline([child], dropped))
        else:
            _write(writer, child, dropped=dropped)
    writer.add(BlockKind.PARAGRAPH, _inline(run, dropped))


def _is_block(node: LexborNode) -> bool:
    """Whether a node stands on lines of its own; a wrapper such as `<font>` does if something in it does."""
    tag = node.tag or ""
    if tag in _BLOCK:
        return True
    return tag != "-text" and any(_is_block(child) for child in node.iter())


def _inline(nodes: Iterable[LexborNode], dropped: frozenset[str]) -> str:
    """The words of inline nodes on one line, or several where there are `<br>`."""
    words = _BLANK_IN_LINE.sub(" ", "".join(_fragments(nodes, dropped)))
    if "\n" not in words:
        return words.strip()
    return "\n".join(line for line in map(str.strip, words.split("\n")) if line)


def _fragments(nodes: Iterable[LexborNode], dropped: frozenset[str]) -> Iterator[str]:
    for node in nodes:
        tag = node.tag or ""
        if tag in dropped or tag.startswith(("-comment", "_comment")):
            continue
        if tag == "-text":
            yield _BLANK.sub(" ", node.text(deep=False))
        elif tag == "br":
            yield "\n"
        elif tag == "img":
            yield node.attributes.get("alt") or ""
        else:
            yield from _fragments(node.iter(include_text=True), dropped)


def _list_lines(node: LexborNode, dropped: frozenset[str], indent: str = "") -> Iterator[str]:
    number = int(start) if (start := node.attributes.get("start") or "1").isdigit() else 1
    for item in node.iter():
        if item.tag not in ("li", "dt", "dd"):
            continue
        marker = f"{number}. " if node.tag == "ol" else "" if item.tag == "dt" else "- "
        number += 1
        own = [child for child in item.iter(include_text=True) if child.tag not in _LISTS]
        words = _inline(own, dropped)
        if item.css_first("p"):
            words = "\n".join(part for child in own if (part := _inline([child], dropped)))
        lines = words.split("\n")
        yield indent + marker + lines[0]
        for line in lines[1:]:
            yield indent + " " * len(marker) + line
        for child in item.iter():
            if child.tag in _LISTS:
                yield from _list_lines(child, dropped, indent + "  ")


def _table_lines(table: LexborNode, dropped: frozenset[str]) -> Iterator[str]:
    caption = table.css_first("caption")
    if caption:
        yield " ".join(_inline([caption], dropped).split())
    header: list[str] = []
    for row in table.css("tr"):
        nodes = [cell for cell in row.iter() if cell.tag in ("td", "th")]
        cells = [" ".join(_inline([cell], dropped).split()) for cell in nodes]
        if not header and len(cells) > 1 and all(cell.tag == "th" for cell in nodes):
            header = cells
        elif any(cells):
            yield table_line(header, cells)


def _escape_placeholder(token: Token) -> None:
    """Make text of what only looks like HTML."""
    if token.type in ("html_block", "html_inline") and not _is_html(token.content):
        escaped = html.escape(token.content)
        token.content = f"<p>{escaped}</p>" if token.type == "html_block" else escaped


def _is_html(fragment: str) -> bool:
    """Whether a fragment that looks like HTML is: a comment, or a tag that HTML has."""
    name = _TAG_NAME.match(fragment.lstrip())
    return fragment.lstrip().startswith("<!") if name is None else name.group(1).lower() in _KNOWN_TAGS
