"""What evaluation and people say of a turn: labels with their evidence, and scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends

from gateway.access import ApiKey, Scope
from gateway.evaluations import AUTO, Result, outcome_of
from gateway.routes.turns import Overseer, find_turn
from gateway.schemas.labels import LabelBody, LabelList, LabelView, ScoreList, ScoresBody, ScoreView
from gateway.state import Caller, State

router = APIRouter(prefix="/v1/turns", tags=["turns"])

Evaluator = Annotated[ApiKey, Depends(Caller(Scope.EVAL))]


@router.put("/{turn_id}/labels")
async def put_label(turn_id: UUID, body: LabelBody, key: Overseer, state: State) -> LabelView:
    """Say why the turn failed, or that it passed. Nothing is overwritten: the newest label of each source
    counts, and the same one again is the same one. An automatic label needs the scope `eval`."""
    if body.source == "auto":
        key.require(Scope.EVAL, field="source")
    turn = await find_turn(state, key, turn_id)
    label = body.model_dump(mode="json")
    if _is_erased(turn):
        label["checks"] = [{**check, "detail": ""} for check in label["checks"]]
    stored = await state.labels.put_label(key.tenant, turn_id, label)
    if stored.is_new:
        state.evaluations.tell(turn, [outcome_of(stored.row)])
    return LabelView.model_validate(stored.row)


@router.get("/{turn_id}/labels")
async def read_labels(turn_id: UUID, key: Overseer, state: State) -> LabelList:
    """The newest label of each source. A review counts as a human label once it is closed."""
    await find_turn(state, key, turn_id)
    rows = await state.labels.labels(key.tenant, turn_id)
    return LabelList(labels=[LabelView.model_validate(row) for row in rows])


@router.put("/{turn_id}/scores")
async def put_scores(turn_id: UUID, body: ScoresBody, key: Evaluator, state: State) -> ScoreList:
    """Store measures of the turn; the last value of each name counts."""
    turn = await find_turn(state, key, turn_id)
    scores = [score.model_dump() for score in body.scores]
    if _is_erased(turn):
        scores = [{**score, "detail": ""} for score in scores]
    stored = await state.labels.put_scores(key.tenant, turn_id, scores)
    state.evaluations.tell(
        turn,
        [
            Result(name=row["name"], value=row["value"], source=AUTO, version=row["version"])
            for row in stored.new
        ],
    )
    return ScoreList(scores=[ScoreView.model_validate(row) for row in stored.rows])


@router.get("/{turn_id}/scores")
async def read_scores(turn_id: UUID, key: Overseer, state: State) -> ScoreList:
    """Every score of the turn, by name."""
    await find_turn(state, key, turn_id)
    rows = await state.labels.scores(key.tenant, turn_id)
    return ScoreList(scores=[ScoreView.model_validate(row) for row in rows])


def _is_erased(turn: Mapping[str, Any]) -> bool:
    """Whether the turn has lost a document: then no quote of it may come back in a detail."""
    return any(hit["document_id"] == "erased" for hit in turn["used"].get("hits", ()))
