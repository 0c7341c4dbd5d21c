"""Which articles are offered where retrieval is nearly sure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from gateway.access import ApiKey, Scope
from gateway.clarifying import choices_for, clarifying_text
from gateway.turn import Question
from retrieval.hits import Hit, Said, SearchResult
from retrieval.rewriting import with_last_turn
from serving.prompting import Message
from serving.wording import load_wording

WORDING = load_wording()


def question(*history: Message) -> Question:
    """A question of a customer."""
    key = ApiKey(
        id=uuid4(),
        name="customer",
        tenant="acme",
        principals=("public",),
        scopes=frozenset({Scope.ASK}),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return Question(text="guests", key=key, conversation_id="c", history=history)


def found(
    scores: Sequence[float], *, confidence: float = 0.6, titles: Sequence[str] = "abcde"
) -> SearchResult:
    """Hits in this order, of an article each."""
    hits = tuple(
        Hit(
            rank=number,
            chunk_id=number,
            document_id=f"d{number}",
            document_version=1,
            title=title,
            url="",
            heading_path=(),
            text="text",
            start=0,
            end=4,
            score=score,
            dense_score=score,
            lexical_score=0.0,
            effective_from=None,
            effective_to=None,
            metadata={},
        )
        for number, (score, title) in enumerate(zip(scores, titles, strict=False), start=1)
    )
    return SearchResult(
        hits=hits,
        version="k-1",
        snapshot=1,
        confidence=confidence,
        abstain_below=0.8,
        mode="exact+words",
        candidates=len(hits),
        underfilled=False,
    )


@pytest.mark.parametrize(
    ("scores", "titles"),
    [
        ((0.5, 0.4, 0.2), "ab"),
        ((0.5, 0.5, 0.5, 0.5), "abc"),
        ((0.5, 0.2), ""),
        # In a reranker's order: the first has not the best score, and is too far from it.
        ((0.3, 0.9, 0.8, 0.5), "bc"),
        ((), ""),
    ],
)
def test_articles_near_the_best_score(scores: Sequence[float], titles: str) -> None:
    assert "".join(choice.title for choice in choices_for(question(), found(scores), WORDING)) == titles


def test_passages_of_one_title_are_one_choice() -> None:
    assert choices_for(question(), found((0.5, 0.5), titles=("Guests", "guests")), WORDING) == ()


@pytest.mark.parametrize(("confidence", "offered"), [(0.39, 0), (0.4, 2), (0.79, 2), (0.8, 0)])
def test_only_from_half_the_threshold_to_the_threshold(confidence: float, offered: int) -> None:
    result = found((0.5, 0.5), confidence=confidence)
    assert len(choices_for(question(), result, WORDING)) == offered


def test_never_twice_in_a_row_where_the_history_is_sent() -> None:
    result = found((0.5, 0.5))
    asked = Message("assistant", clarifying_text(choices_for(question(), result, WORDING), WORDING))
    assert choices_for(question(Message("user", "guests"), asked), result, WORDING) == ()
    later = (asked, Message("user", "a"), Message("assistant", "A guest is ..."))
    assert len(choices_for(question(*later), result, WORDING)) == 2


def test_a_choice_sent_with_the_history_is_searched_with_its_question() -> None:
    asked = clarifying_text(choices_for(question(), found((0.5, 0.5)), WORDING), WORDING)
    history = (Said(role="user", text="How much is a drive?"), Said(role="assistant", text=asked))
    assert with_last_turn("Guests", history).startswith("Guests drive ")
