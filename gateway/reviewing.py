"""Which turns a person looks at, and what the readers of one come to: decisions without a database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final, Self
from uuid import UUID

from gateway.errors import ConflictError


class Reason(StrEnum):
    """Why a turn is in the queue."""

    LOW_CONFIDENCE = "low_confidence"
    ESCALATED = "escalated"
    FAILED_VERIFICATION = "failed_verification"
    NO_ANSWER = "no_answer"
    NEGATIVE_FEEDBACK = "negative_feedback"
    LABELLED = "labelled"
    CANARY_DISAGREEMENT = "canary_disagreement"
    SAMPLE = "sample"


class ReviewState(StrEnum):
    """How far a review is."""

    OPEN = "open"
    SECOND = "second"
    DISPUTED = "disputed"
    CLOSED = "closed"


class ReviewEnding(StrEnum):
    """What becomes of a reviewed turn; exactly one of them."""

    KNOWLEDGE_GAP = "knowledge_gap"
    TRAINING_EXAMPLE = "training_example"
    POLICY_CASE = "policy_case"
    REGRESSION_TEST = "regression_test"
    NO_FAULT = "no_fault"


#: Tickets of a turn that are no failed check of a draft.
_OTHER_TICKETS: Final = {
    "abstained": Reason.LOW_CONFIDENCE,
    "escalated": Reason.ESCALATED,
    "engine": Reason.NO_ANSWER,
    "deadline": Reason.NO_ANSWER,
    "circuit": Reason.NO_ANSWER,
}


def reasons_of(ticket: str | None, *, sampled: bool) -> tuple[Reason, ...]:
    """Why a turn needs a person: by its ticket, by chance, or both, so that the sample stays a fair one."""
    own = () if ticket is None else (_OTHER_TICKETS.get(ticket, Reason.FAILED_VERIFICATION),)
    return (*own, Reason.SAMPLE) if sampled else own


def is_sampled(turn_id: UUID, share: float) -> bool:
    """Whether the turn is in the random sample: the same answer wherever and whenever it is asked."""
    return _lot(b"sample", turn_id) < share


def wants_second(turn_id: UUID, share: float) -> bool:
    """Whether the turn is read twice; independent of the sample."""
    return _lot(b"second", turn_id) < share


def _lot(purpose: bytes, turn_id: UUID) -> float:
    """A number from 0 to 1 (excluded) that belongs to the turn."""
    return int.from_bytes(sha256(purpose + turn_id.bytes).digest()[:8]) / 2**64


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one reader said."""

    key_id: UUID
    reader: str
    ending: ReviewEnding
    #: None: nothing is wrong with the answer.
    label: str | None
    sub: str
    note: str
    corrected_answer: str | None
    settles: bool
    created_at: datetime

    @classmethod
    def of_row(cls, row: Any) -> Self:
        """A stored one."""
        return cls(
            key_id=row["key_id"],
            reader=row["reader"],
            ending=ReviewEnding(row["ending"]),
            label=row["label"],
            sub=row["sub"],
            note=row["note"],
            corrected_answer=row["corrected_answer"],
            settles=row["settles"],
            created_at=row["created_at"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a review stands. `final` is what it was closed with."""

    state: ReviewState
    final: Reading | None
    readers: int
    same_label: bool | None
    same_ending: bool | None


def standing(readings: Sequence[Reading], *, second: bool) -> Standing:
    """What the readings that count, oldest first, come to. A settlement decides, and is no part of the
    agreement: whoever settles has seen what the two said."""
    blind = [reading for reading in readings if not reading.settles]
    settlement = next((reading for reading in reversed(readings) if reading.settles), None)
    same_label = same_ending = None
    if len(blind) > 1:
        same_label = blind[0].label == blind[1].label
        same_ending = blind[0].ending == blind[1].ending
    state: ReviewState
    final: Reading | None
    if settlement is not None:
        state, final = ReviewState.CLOSED, settlement
    elif not blind:
        return Standing(state=ReviewState.OPEN, final=None, readers=0, same_label=None, same_ending=None)
    elif len(blind) == 1:
        state = ReviewState.SECOND if second else ReviewState.CLOSED
        final = None if second else blind[0]
    else:
        agreed = same_label and same_ending
        state = ReviewState.CLOSED if agreed else ReviewState.DISPUTED
        final = blind[0] if agreed else None
    return Standing(
        state=state, final=final, readers=len(blind), same_label=same_label, same_ending=same_ending
    )


def require_turn_to_read(readings: Iterable[Reading], *, state: ReviewState, me: UUID, settles: bool) -> None:
    """Raise unless this reader may say something now."""
    blind = [reading for reading in readings if not reading.settles]
    if settles:
        if state not in (ReviewState.DISPUTED, ReviewState.CLOSED):
            raise ConflictError(
                f"The review is {state}: there is nothing to settle.",
                field="settles",
                fix="Send the reading without `settles`.",
            )
        return
    if state is ReviewState.DISPUTED or len(blind) > 1:
        raise ConflictError(
            "Both readers have read it.",
            field="settles",
            fix="Take your own reading back (`:undo`), or send `settles: true` to decide.",
        )
    if state is ReviewState.CLOSED and all(reading.key_id != me for reading in blind):
        raise ConflictError(
            f"The review was closed by {blind[0].reader if blind else 'another reader'}.",
            field="settles",
            fix="Send `settles: true` to correct it; the first reading is kept.",
        )


def visible(readings: Sequence[Reading], *, state: ReviewState, me: UUID) -> list[Reading]:
    """Those that this key may see: while a second reader is awaited, its own only."""
    return [reading for reading in readings if state is not ReviewState.SECOND or reading.key_id == me]
