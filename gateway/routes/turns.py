"""What was asked, what was used, what was answered."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from gateway.access import ApiKey, Scope
from gateway.errors import NotFoundError
from gateway.schemas.answers import Arms, Confidence, Usage, Versions
from gateway.schemas.feedback import FeedbackView
from gateway.schemas.fields import Since, Until
from gateway.schemas.turns import CitedNow, DraftRow, TurnList, TurnRow, TurnView
from gateway.standing import cited_now
from gateway.state import Caller, GatewayState, State
from gateway.turns import QUESTION_CHARACTERS, TurnFilter

router = APIRouter(prefix="/v1/turns", tags=["turns"])

#: Scopes that see the turns of other keys too, where those saw nothing that this key may not see.
_OVERSEERS = (Scope.REVIEW, Scope.EVAL)

AnyCaller = Annotated[ApiKey, Depends(Caller(Scope.ASK, *_OVERSEERS))]
Overseer = Annotated[ApiKey, Depends(Caller(*_OVERSEERS))]


@router.get("/{turn_id}")
async def read_turn(turn_id: UUID, key: AnyCaller, state: State) -> TurnView:
    """One turn, from the moment of its answer on. A key with only `ask` sees the turns that it made,
    one with `review` or `eval` also those of keys whose principals it has."""
    row = await find_turn(state, key, turn_id)
    pending = state.recorder.pending(turn_id) is not None
    feedback = [] if pending else await state.turns.feedback(key.tenant, turn_id)
    cited = await cited_now(state.knowledge, key.access, (row["answer"] or {}).get("citations", ()))
    return _view(row, cited=cited, feedback=[FeedbackView.model_validate(entry) for entry in feedback])


@router.get("")
async def latest_turns(
    key: Overseer,
    state: State,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Annotated[UUID | None, Query(description="Only older ones than this turn.")] = None,
    since: Since = None,
    until: Until = None,
    pinned: Annotated[
        bool | None, Query(description="Only those of evaluations, or only the others.")
    ] = None,
    conversation_id: Annotated[str | None, Query(max_length=200)] = None,
    version: Annotated[
        str | None, Query(max_length=200, description="Id of an index version or a model version.")
    ] = None,
) -> TurnList:
    """The tenant's latest turns at a glance, newest first."""
    wanted = TurnFilter(
        since=since, until=until, pinned=pinned, conversation_id=conversation_id, version=version
    )
    pending = [
        row
        for row in state.recorder.pending_of(key.tenant)
        if _may_see(key, row) and wanted.takes(row) and (before is None or str(row["id"]) < str(before))
    ][:limit]
    stored = await state.turns.latest(key, wanted, limit=limit, before=before)
    seen = {str(row["id"]) for row in pending}
    rows = [*pending, *(row for row in stored if str(row["id"]) not in seen)]
    rows.sort(key=_place, reverse=True)
    return TurnList(turns=[_row(row) for row in rows[:limit]])


def _place(row: Mapping[str, Any]) -> tuple[datetime, str]:
    """Where a turn stands in the list: as in the database, so that the last of a page is the last in both."""
    asked = row["created_at"]
    return (datetime.fromisoformat(asked) if isinstance(asked, str) else asked, str(row["id"]))


async def find_turn(state: GatewayState, key: ApiKey, turn_id: UUID) -> Mapping[str, Any]:
    """The turn if the key may see it. Another tenant's turn is as absent as one that never was."""
    row = state.recorder.pending(turn_id)
    if row is None or row["tenant"] != key.tenant:
        row = await state.turns.read(key.tenant, turn_id)
    if row is None or not _may_see(key, row):
        raise NotFoundError(
            f"There is no turn {turn_id}.", field="id", fix="Use the id of an answer of this key."
        )
    return row


def _may_see(key: ApiKey, row: Mapping[str, Any]) -> bool:
    """A turn holds the passages that its asker was shown, so its reader needs the asker's principals."""
    if str(row["key_id"]) == str(key.id) or key.allows(Scope.ADMIN):
        return True
    return key.allows(*_OVERSEERS) and set(row["used"]["principals"]) <= set(key.principals)


def _view(row: Mapping[str, Any], *, cited: list[CitedNow], feedback: list[FeedbackView]) -> TurnView:
    return TurnView(
        id=row["id"],
        conversation_id=row["conversation_id"],
        surface=row["surface"],
        status=row["status"],
        question=row["question"],
        pinned=row["pinned"],
        versions=_versions(row),
        arms=_arms(row),
        degraded=row["degraded"],
        trace_id=row["trace_id"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
        ticket=row["ticket"],
        answer=row["answer"],
        cited=cited,
        stale=any(each.current is False for each in cited),
        used=row["used"],
        feedback=feedback,
    )


def _row(row: Mapping[str, Any]) -> TurnRow:
    used = row["used"]
    return TurnRow(
        id=row["id"],
        created_at=row["created_at"],
        status=row["status"],
        question=row["question"][:QUESTION_CHARACTERS],
        pinned=row["pinned"],
        versions=_versions(row),
        arms=_arms(row),
        confidence=Confidence(retrieval=used.get("confidence"), grounded=used.get("grounded")),
        hits=len(used.get("hits", ())),
        drafts=[
            DraftRow(
                step=draft["step"],
                attempt=draft["attempt"],
                model=draft["model"],
                failure=draft["failure"],
            )
            for draft in used.get("drafts", ())
        ],
        degraded=row["degraded"],
        tried=used.get("tried", []),
        problem=(used.get("problem") or {}).get("title"),
        usage=Usage.model_validate(used.get("usage", {})),
        timings_ms=used.get("timings_ms", {}),
        ticket=row["ticket"],
        trace_id=row["trace_id"],
    )


def _versions(row: Mapping[str, Any]) -> Versions:
    return Versions(
        knowledge=row["knowledge_version"],
        model=row["model_version"],
        prompt=row["used"].get("prompt_name"),
    )


def _arms(row: Mapping[str, Any]) -> Arms:
    return Arms(knowledge=row["knowledge_arm"], model=row["model_arm"])
