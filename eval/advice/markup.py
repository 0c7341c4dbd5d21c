"""HTML and SVG that cannot be broken by what is put into it: text is escaped unless it is markup already."""

from __future__ import annotations

from html import escape


class Markup(str):
    """Text that is HTML or SVG."""

    __slots__ = ()


Child = str | Markup | None

#: Elements without content or end.
_VOID = frozenset({"meta", "br"})


def tag(name: str, /, *children: Child, **attributes: str | float | None) -> Markup:
    """One element. `class_` is `class`, `data_path` is `data-path`; None leaves an attribute or child out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{joined(*children)}</{name}>")


def joined(*children: Child) -> Markup:
    """Children one after the other."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else escape(child) for child in children if child is not None
        )
    )


def _text(value: str | float) -> str:
    """Coordinates need no more than a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
