"""A served search beside its repetition: what counts as agreement, and what cannot be compared."""

from __future__ import annotations

import pytest

from gateway.shadowing import Compared, Outcome, compare
from retrieval.hits import Hit, SearchResult


def found(documents: str, *, degraded: tuple[str, ...] = ()) -> SearchResult:
    """A result with a hit for each letter."""
    hits = tuple(
        Hit(
            rank=rank,
            chunk_id=rank,
            document_id=document,
            document_version=1,
            title=document,
            url="",
            heading_path=(),
            text=document,
            start=0,
            end=1,
            score=1.0,
            dense_score=1.0,
            lexical_score=1.0,
            effective_from=None,
            effective_to=None,
            metadata={},
        )
        for rank, document in enumerate(documents, start=1)
    )
    return SearchResult(
        hits=hits,
        version="k-a-00000000",
        snapshot=1,
        confidence=0.5,
        abstain_below=0.1,
        mode="exact+words",
        candidates=len(hits),
        underfilled=False,
        degraded=degraded,
    )


@pytest.mark.parametrize(
    ("served", "repeated", "outcome", "overlap"),
    [
        ("abc", "abc", Outcome.AGREED, 1.0),
        ("abc", "acb", Outcome.AGREED, 1.0),
        ("abc", "bac", Outcome.DIFFERED, 1.0),
        # Several chunks of a document are one document.
        ("aab", "abb", Outcome.AGREED, 1.0),
        ("aab", "acd", Outcome.AGREED, 1 / 3),
        ("abcd", "a", Outcome.AGREED, 1 / 4),
        ("ab", "cd", Outcome.DIFFERED, 0.0),
        ("ab", "", Outcome.DIFFERED, 0.0),
        ("", "ab", Outcome.DIFFERED, 0.0),
        # No hits on either side say nothing, and nothing is not zero.
        ("", "", Outcome.EMPTY, None),
    ],
)
def test_lists_are_compared_by_documents(
    served: str, repeated: str, outcome: Outcome, overlap: float | None
) -> None:
    assert compare(found(served), found(repeated)) == Compared(
        outcome=outcome, overlap=overlap if overlap is None else pytest.approx(overlap)
    )


def test_an_order_that_is_not_the_versions_own_is_not_compared() -> None:
    late = found("ba", degraded=("rerank",))
    for served, repeated in ((late, found("ab")), (found("ab"), late)):
        assert compare(served, repeated) == Compared(outcome=Outcome.DEGRADED)
