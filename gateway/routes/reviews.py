"""The review queue: what waits for a person, what was said of it, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from gateway import instruments as names
from gateway.access import ApiKey, Scope
from gateway.errors import NotFoundError
from gateway.evaluations import HUMAN, outcome_of
from gateway.review_export import as_csv, as_jsonl, gaps_of
from gateway.reviewing import Reading, Reason, ReviewEnding, ReviewState
from gateway.reviews import QueueFilter
from gateway.routes.turns import find_turn
from gateway.schemas.feedback import Label
from gateway.schemas.fields import Since, Until
from gateway.schemas.reviews import (
    Agreement,
    AskBody,
    GapList,
    Progress,
    Proposal,
    ReadingBody,
    ReadingView,
    ReviewList,
    ReviewRow,
    ReviewView,
)
from gateway.state import Caller, GatewayState, State

router = APIRouter(prefix="/v1/reviews", tags=["reviews"])

Reviewer = Annotated[ApiKey, Depends(Caller(Scope.REVIEW))]
Reader = Annotated[ApiKey, Depends(Caller(Scope.REVIEW, Scope.EVAL))]
Cluster = Annotated[str | None, Query(max_length=200)]


@router.get("")
async def list_reviews(
    key: Reader,
    state: State,
    reason: Reason | None = None,
    label: Label | None = None,
    cluster: Cluster = None,
    in_state: Annotated[ReviewState | None, Query(alias="state")] = None,
    ending: ReviewEnding | None = None,
    since: Since = None,
    until: Until = None,
    unread: Annotated[bool, Query(description="Only those that this key has not read.")] = False,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Annotated[UUID | None, Query(description="Only later ones than this review.")] = None,
    counts: Annotated[
        bool | None, Query(description="Count them too; as a rule, with the first page only.")
    ] = None,
) -> ReviewList:
    """Reviews, oldest first, and with the first page how far all are that reason, label, cluster and time
    leave. `label` is that of the reader, or before there is one, the automatic one."""
    wanted = QueueFilter(
        reason=reason,
        label=label,
        cluster=cluster,
        state=in_state,
        ending=ending,
        since=since,
        until=until,
        unread=unread,
    )
    rows = await state.reviews.queue(key, wanted, limit=limit, after=after)
    found = ReviewList(reviews=[ReviewRow(**_row(row)) for row in rows])
    if counts or (counts is None and after is None):
        found.progress = _progress(await state.reviews.progress(key, wanted))
        found.clusters = await state.reviews.clusters(key)
    return found


@router.post("")
async def ask_for_review(body: AskBody, key: Reader, state: State) -> ReviewView:
    """Put a turn into the queue, as whoever compares arms does where they disagree. Again for the same reason
    changes nothing. A turn that is still being written can be asked for a moment later."""
    turn = await find_turn(state, key, body.turn_id)
    if state.recorder.pending(body.turn_id) is not None:
        await state.recorder.flushed()
    await state.reviews.ask(key.tenant, UUID(str(turn["id"])), body.reason)
    return await _view(state, key, body.turn_id)


@router.get("/gaps")
async def list_gaps(
    key: Reader, state: State, limit: Annotated[int, Query(ge=1, le=5_000)] = 1_000
) -> GapList:
    """Questions that ended as knowledge gaps, by the article that is missing, the most wanted first: for the
    owner of the content."""
    return GapList(gaps=gaps_of(await state.reviews.gaps(key, limit=limit)))


@router.get("/export", response_class=Response)
async def export_reviews(
    key: Reader,
    state: State,
    form: Annotated[Literal["csv", "jsonl"], Query(alias="format")] = "jsonl",
    reason: Reason | None = None,
    label: Label | None = None,
    cluster: Cluster = None,
    in_state: Annotated[ReviewState | None, Query(alias="state")] = ReviewState.CLOSED,
    ending: ReviewEnding | None = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
    after: Annotated[UUID | None, Query(description="Only later ones than this review.")] = None,
) -> Response:
    """Reviews as a file, oldest first; closed ones if no state is named."""
    wanted = QueueFilter(
        reason=reason,
        label=label,
        cluster=cluster,
        state=in_state,
        ending=ending,
        since=since,
        until=until,
    )
    rows = await state.reviews.queue(key, wanted, limit=limit, after=after)
    body, kind = (as_csv(rows), "text/csv") if form == "csv" else (as_jsonl(rows), "application/x-ndjson")
    headers = {"content-disposition": f'attachment; filename="reviews.{form}"'}
    return Response(body, media_type=kind, headers=headers)


@router.post("/{turn_id}:undo")
async def undo_reading(turn_id: UUID, key: Reviewer, state: State) -> ReviewView:
    """Take back the last thing that this key said of the turn."""
    await find_turn(state, key, turn_id)
    await state.reviews.undo(key, turn_id)
    return await _view(state, key, turn_id)


@router.get("/{turn_id}")
async def read_review(turn_id: UUID, key: Reader, state: State) -> ReviewView:
    """A review with what was said. Nobody sees the first reading before the second is in."""
    await find_turn(state, key, turn_id)
    return await _view(state, key, turn_id)


@router.post("/{turn_id}")
async def read_turn(turn_id: UUID, body: ReadingBody, key: Reviewer, state: State) -> ReviewView:
    """Say what is wrong with the turn and what becomes of it. The last word of a key counts, until a second
    reader has spoken as well."""
    turn = await find_turn(state, key, turn_id)
    await state.reviews.read(key, turn_id, body.model_dump(mode="json"))
    names.readings.add(1, {names.REVIEW_ENDING: body.ending.value})
    view = await _view(state, key, turn_id)
    if view.state is ReviewState.CLOSED:
        state.evaluations.tell(turn, [outcome_of({"label": view.label, "source": HUMAN, "criteria": ""})])
    return view


async def _view(state: GatewayState, key: ApiKey, turn_id: UUID) -> ReviewView:
    found = await state.reviews.review(key, turn_id)
    if found is None:
        raise NotFoundError(
            f"There is no review of the turn {turn_id}.", field="id", fix="List them: GET /v1/reviews."
        )
    row, readings = found
    return ReviewView(**_row(row), readings=[_reading(each, key) for each in readings])


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    proposed = Proposal(
        label=row["proposed_label"],
        sub=row["proposed_sub"] or "",
        rule=row["proposed_rule"] or "",
        criteria=row["criteria"] or "",
    )
    shown = {name: row[name] for name in ReviewRow.model_fields if name != "proposed"}
    return {**shown, "proposed": proposed if row["is_labelled"] else None}


def _reading(reading: Reading, key: ApiKey) -> ReadingView:
    return ReadingView(
        reader=reading.reader,
        mine=reading.key_id == key.id,
        ending=reading.ending,
        label=reading.label,
        sub=reading.sub,
        note=reading.note,
        corrected_answer=reading.corrected_answer,
        settles=reading.settles,
        created_at=reading.created_at,
    )


def _progress(rows: Sequence[Mapping[str, Any]]) -> Progress:
    def total(name: str, **where: str) -> int:
        return sum(row[name] for row in rows if all(row[field] == is_ for field, is_ in where.items()))

    return Progress(
        total=total("reviews"),
        open=total("reviews", state=ReviewState.OPEN),
        second=total("reviews", state=ReviewState.SECOND),
        disputed=total("reviews", state=ReviewState.DISPUTED),
        closed=total("reviews", state=ReviewState.CLOSED),
        endings={ending: total("reviews", ending=ending) for ending in ReviewEnding},
        agreement=Agreement(
            read_twice=total("read_twice"),
            same_label=total("same_label"),
            same_ending=total("same_ending"),
            proposed=total("proposed"),
            accepted=total("accepted"),
        ),
    )
