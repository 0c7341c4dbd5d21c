"""Which turns people look at, and what readers come to."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from gateway.errors import ConflictError
from gateway.identifiers import new_turn_id
from gateway.reviewing import (
    Reading,
    Reason,
    ReviewEnding,
    ReviewState,
    is_sampled,
    reasons_of,
    require_turn_to_read,
    standing,
    visible,
    wants_second,
)

ANN, BEN, CAT = (UUID(int=n) for n in (1, 2, 3))
GAP, FINE = ReviewEnding.KNOWLEDGE_GAP, ReviewEnding.NO_FAULT


def said(
    key: UUID, ending: ReviewEnding = GAP, label: str | None = "missing_knowledge", *, settles: bool = False
) -> Reading:
    return Reading(
        key_id=key,
        reader=str(key.int),
        ending=ending,
        label=label,
        sub="",
        note="",
        corrected_answer=None,
        settles=settles,
        created_at=datetime.now(UTC),
    )


@pytest.mark.parametrize(
    ("ticket", "sampled", "reasons"),
    [
        (None, False, ()),
        (None, True, (Reason.SAMPLE,)),
        ("abstained", False, (Reason.LOW_CONFIDENCE,)),
        ("abstained", True, (Reason.LOW_CONFIDENCE, Reason.SAMPLE)),
        ("escalated", False, (Reason.ESCALATED,)),
        ("unsupported", False, (Reason.FAILED_VERIFICATION,)),
        ("schema", False, (Reason.FAILED_VERIFICATION,)),
        ("engine", False, (Reason.NO_ANSWER,)),
        ("deadline", False, (Reason.NO_ANSWER,)),
    ],
)
def test_reasons(ticket: str | None, sampled: bool, reasons: tuple[Reason, ...]) -> None:
    assert reasons_of(ticket, sampled=sampled) == reasons


def test_the_sample_is_as_large_as_was_asked_and_always_the_same() -> None:
    turns = [new_turn_id() for _ in range(20_000)]
    drawn = {turn for turn in turns if is_sampled(turn, 0.1)}
    assert 0.09 < len(drawn) / len(turns) < 0.11
    assert drawn == {turn for turn in turns if is_sampled(turn, 0.1)}
    assert drawn <= {turn for turn in turns if is_sampled(turn, 0.2)}
    # Who is read twice has nothing to do with who is in the sample.
    twice = sum(wants_second(turn, 0.5) for turn in drawn) / len(drawn)
    assert 0.45 < twice < 0.55
    assert not any(is_sampled(turn, 0.0) for turn in turns)
    assert all(is_sampled(turn, 1.0) for turn in turns)


@pytest.mark.parametrize(
    ("readings", "second", "state", "same"),
    [
        ([], True, ReviewState.OPEN, None),
        ([said(ANN)], False, ReviewState.CLOSED, None),
        ([said(ANN)], True, ReviewState.SECOND, None),
        ([said(ANN), said(BEN)], True, ReviewState.CLOSED, (True, True)),
        ([said(ANN), said(BEN, FINE, None)], True, ReviewState.DISPUTED, (False, False)),
        ([said(ANN), said(BEN, ReviewEnding.REGRESSION_TEST)], True, ReviewState.DISPUTED, (True, False)),
        (
            [said(ANN), said(BEN, FINE, None), said(CAT, settles=True)],
            True,
            ReviewState.CLOSED,
            (False, False),
        ),
        ([said(ANN), said(BEN, FINE, None, settles=True)], False, ReviewState.CLOSED, None),
    ],
)
def test_where_a_review_stands(
    readings: list[Reading], second: bool, state: ReviewState, same: tuple[bool, bool] | None
) -> None:
    now = standing(readings, second=second)
    assert now.state is state
    assert (now.final is not None) == (state is ReviewState.CLOSED)
    assert (now.same_label, now.same_ending) == (same or (None, None))
    if readings and readings[-1].settles:
        assert now.final is readings[-1]


def test_while_a_second_is_awaited_each_sees_the_own_reading_only() -> None:
    readings = [said(ANN)]
    assert visible(readings, state=ReviewState.SECOND, me=ANN) == readings
    assert visible(readings, state=ReviewState.SECOND, me=BEN) == []
    both = [said(ANN), said(BEN, FINE, None)]
    assert visible(both, state=ReviewState.DISPUTED, me=CAT) == both


@pytest.mark.parametrize(
    ("readings", "state", "me", "settles"),
    [
        ([], ReviewState.OPEN, ANN, False),
        ([said(ANN)], ReviewState.SECOND, ANN, False),
        ([said(ANN)], ReviewState.SECOND, BEN, False),
        ([said(ANN)], ReviewState.CLOSED, ANN, False),
        ([said(ANN)], ReviewState.CLOSED, BEN, True),
        ([said(ANN), said(BEN, FINE, None)], ReviewState.DISPUTED, CAT, True),
    ],
)
def test_who_may_speak(readings: list[Reading], state: ReviewState, me: UUID, settles: bool) -> None:
    require_turn_to_read(readings, state=state, me=me, settles=settles)


@pytest.mark.parametrize(
    ("readings", "state", "me", "settles"),
    [
        ([], ReviewState.OPEN, ANN, True),
        ([said(ANN)], ReviewState.SECOND, BEN, True),
        ([said(ANN)], ReviewState.CLOSED, BEN, False),
        ([said(ANN), said(BEN, FINE, None)], ReviewState.DISPUTED, ANN, False),
        ([said(ANN), said(BEN)], ReviewState.CLOSED, ANN, False),
    ],
)
def test_who_may_not(readings: list[Reading], state: ReviewState, me: UUID, settles: bool) -> None:
    with pytest.raises(ConflictError) as refused:
        require_turn_to_read(readings, state=state, me=me, settles=settles)
    assert refused.value.fix


def test_ids_of_other_kinds_are_drawn_too() -> None:
    assert 0.4 < sum(is_sampled(uuid4(), 0.5) for _ in range(2_000)) / 2_000 < 0.6
