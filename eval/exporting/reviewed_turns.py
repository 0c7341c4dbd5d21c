"""Reviewed turns with what was said before them, read from the gateway."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

from eval.client import GatewayClient
from eval.observations import Observation
from eval.online.recorded import LiveTurn, Window, is_erased, list_reviews, list_turns, live_turn
from eval.reviewed import Reviewed
from eval.run import Job, Progress, drain
from eval.sets.questions import Said

_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewedTurn:
    """A turn whose review is closed."""

    turn: LiveTurn
    seen: Observation
    review: Reviewed
    #: What was said before in its conversation, oldest first.
    history: tuple[Said, ...]
    #: Asked by an evaluation.
    pinned: bool
    #: The draft that a rule passed on, as the model wrote it; "": no rule did, or nothing was written.
    accepted: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What there is to write."""

    turns: tuple[ReviewedTurn, ...]
    #: Closed reviews that nothing can be made of, by why.
    left_out: Mapping[str, int]
    #: Missing articles, as `GET /v1/reviews/gaps` has them.
    gaps: tuple[Mapping[str, Any], ...]


async def collect(
    client: GatewayClient, window: Window, *, evaluations: bool, at_once: int, out: TextIO
) -> Collected:
    """Every closed review of the window that any of the keys may see, oldest first.

    Questions of evaluations are left out unless they are asked for: who trains on a gate's questions has no
    gate any more.
    """
    rows: dict[str, tuple[str, Mapping[str, Any]]] = {}
    gaps: dict[str, Mapping[str, Any]] = {}
    # The staff's key sees what customers asked too: that stays theirs.
    for asker in sorted(client.askers):
        async for row in list_reviews(client, window, asker=asker, state="closed"):
            rows.setdefault(row["id"], (asker, row))
        for gap in (await client.get("/v1/reviews/gaps?limit=5000", asker=asker))["gaps"]:
            # What the staff's key sees holds all that the customer's does.
            gaps[gap["name"]] = gap
    found: dict[str, ReviewedTurn] = {}
    left_out: Counter[str] = Counter()
    progress = Progress(out=out, total=len(rows))

    def job(turn_id: str, asker: str, review: Mapping[str, Any]) -> Job:
        async def read() -> bool:
            body = await client.get(f"/v1/turns/{turn_id}", asker=asker)
            turn = live_turn(body, asker=asker, review=review)
            why = _unusable(turn, pinned=body["pinned"], evaluations=evaluations)
            if why:
                left_out[why] += 1
                return False
            if turn.seen is None or turn.review is None:
                return False
            history = () if body["pinned"] else await _said_before(client, turn)
            if history is None:
                left_out["a document was erased from what was said before"] += 1
                return False
            found[turn_id] = ReviewedTurn(
                turn=turn,
                seen=turn.seen,
                review=turn.review,
                history=history,
                pinned=body["pinned"],
                accepted=accepted_draft(body),
            )
            return False

        return read

    try:
        jobs = [job(turn_id, asker, review) for turn_id, (asker, review) in rows.items()]
        await drain(jobs, workers=at_once, progress=progress)
    finally:
        progress.close()
    return Collected(
        turns=tuple(found[turn_id] for turn_id in sorted(found)),
        left_out=dict(sorted(left_out.items())),
        gaps=tuple(gaps.values()),
    )


def accepted_draft(body: Mapping[str, Any]) -> str:
    """What the model wrote of a turn that a rule passed on: its last draft with which nothing was wrong."""
    used = body.get("used") or {}
    if body["status"] != "escalated" or not used.get("handover"):
        return ""
    drafts = used.get("drafts") or ()
    return next((draft["text"] or "" for draft in reversed(drafts) if not draft.get("failure")), "")


def _unusable(turn: LiveTurn, *, pinned: bool, evaluations: bool) -> str:
    if turn.erased:
        return "a document was erased"
    if turn.seen is None:
        return "no answer came"
    return "asked by an evaluation" if pinned and not evaluations else ""


async def _said_before(client: GatewayClient, turn: LiveTurn) -> tuple[Said, ...] | None:
    """Earlier turns of the conversation: a turn keeps none of them itself. None if one lost a document:
    what it said is gone."""
    everything = Window(since=_BEGINNING, until=datetime.fromisoformat(turn.created_at))
    earlier = [
        row["id"]
        async for row in list_turns(
            client, everything, asker=turn.asker, conversation_id=turn.conversation_id
        )
    ]
    said: list[Said] = []
    for turn_id in sorted(earlier):
        body = await client.get(f"/v1/turns/{turn_id}", asker=turn.asker)
        if is_erased(body):
            return None
        if body["question"].strip():
            said.append(Said(role="user", text=body["question"]))
        if answer := ((body.get("answer") or {}).get("answer") or "").strip():
            said.append(Said(role="assistant", text=answer))
    return tuple(said)
