"""What people say about answers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from gateway.access import ApiKey, Scope
from gateway.evaluations import feedback_of
from gateway.routes.turns import find_turn
from gateway.schemas.feedback import FeedbackBody, FeedbackView
from gateway.state import Caller, State

router = APIRouter(prefix="/v1/feedback", tags=["turns"])

AnyCaller = Annotated[ApiKey, Depends(Caller(Scope.ASK, Scope.REVIEW, Scope.EVAL))]


@router.post("")
async def give_feedback(body: FeedbackBody, key: AnyCaller, state: State) -> FeedbackView:
    """Say what you think of an answer. Idempotent: a key's last word on a turn counts, the same word twice is
    one."""
    turn = await find_turn(state, key, body.turn_id)
    row = await state.turns.give_feedback(
        key.tenant,
        turn_id=body.turn_id,
        key_id=key.id,
        rating=body.rating,
        comment=body.comment,
        corrected_answer=body.corrected_answer,
        label=body.label,
    )
    if row["is_new"] and (rating := feedback_of(row)) is not None:
        state.evaluations.tell(turn, [rating])
    return FeedbackView.model_validate(row)
