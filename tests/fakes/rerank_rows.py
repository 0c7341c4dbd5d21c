"""Rows for rerankers without a corpus: six passages, the second is the answer."""

from __future__ import annotations

from retrieval.rerank_lists import Passage, Row


def row(**changes: object) -> Row:
    """A row with some of its fields changed."""
    passages = tuple(
        Passage(document=name, text=f"text of {name}", fused=round(1.0 - place / 10, 1), gold=name == "b")
        for place, name in enumerate("abcdef")
    )
    fields = {
        "id": "q1",
        "set": "s",
        "kind": "asked",
        "fold": 2,
        "group": "q1",
        "question": "what is b",
        "passages": passages,
        "found": 6,
        "golds": 1,
    }
    return Row(**(fields | changes))  # type: ignore[arg-type]
