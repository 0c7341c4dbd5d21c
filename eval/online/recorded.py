"""Turns and reviews of live traffic, read from the gateway's HTTP API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TextIO
from urllib.parse import urlencode

from eval.arms import Arm, Pin
from eval.cases import Case
from eval.client import GatewayClient
from eval.observations import Observation
from eval.reviewed import Reviewed
from eval.run import Job, Progress, drain
from eval.turn_wire import read_observation

#: Most rows that one request lists.
_PAGE = 200
#: How live traffic is answered: by what is live, with retrieval.
_LIVE = Arm(name="live", pin=Pin())
_SAMPLE = "sample"
_ERASED = "erased"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Which live turns are meant."""

    since: datetime
    until: datetime
    #: Of either rail.
    version: str | None = None
    #: The latest so many.
    limit: int = 10_000

    def query(self, **more: Any) -> str:
        """The query of a list of this window."""
        wanted = {"since": self.since.isoformat(), "until": self.until.isoformat(), "limit": _PAGE, **more}
        return urlencode({name: value for name, value in wanted.items() if value is not None})


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTurn:
    """A turn of live traffic with what people said of it."""

    id: str
    asker: str
    conversation_id: str
    question: str
    created_at: str
    status: str
    #: Versions without their snapshot; "" for none.
    knowledge: str
    model: str
    #: What was seen; None where no answer came.
    seen: Observation | None
    #: Whether a document of it was erased, and with it what it said.
    erased: bool
    #: Whether it is in the random sample, whether something else put it into the queue too, and what its
    #: review was closed with.
    sampled: bool
    noticed: bool
    review: Reviewed | None
    feedback: tuple[Mapping[str, Any], ...]
    #: The turn as the gateway shows it.
    row: Mapping[str, Any]

    @property
    def case(self) -> Case:
        """The question without an answer key."""
        return bare_case(self.row, asker=self.asker)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The live turns of a window."""

    turns: tuple[LiveTurn, ...]
    #: Whether the window holds more than its limit.
    cut: bool


async def read_window(client: GatewayClient, window: Window, *, at_once: int, out: TextIO) -> Recording:
    """Every live turn of the window that any of the keys may see, with its review; oldest first."""
    askers: dict[str, str] = {}
    reviews: dict[str, Mapping[str, Any]] = {}
    cut = False
    # The staff's key sees what customers asked too: that stays theirs.
    for asker in sorted(client.askers):
        seen = 0
        async for row in list_turns(client, window, asker=asker):
            if seen == window.limit:
                cut = True
                break
            seen += 1
            askers.setdefault(row["id"], asker)
        async for row in list_reviews(client, window, asker=asker):
            reviews.setdefault(row["id"], row)
    if len(askers) > window.limit:
        # Each key listed its own latest; ids sort by time.
        askers = {turn_id: askers[turn_id] for turn_id in sorted(askers)[-window.limit :]}
        cut = True
    found: dict[str, LiveTurn] = {}
    progress = Progress(out=out, total=len(askers))

    def job(turn_id: str, asker: str) -> Job:
        async def read() -> bool:
            row = await client.get(f"/v1/turns/{turn_id}", asker=asker)
            found[turn_id] = live_turn(row, asker=asker, review=reviews.get(turn_id))
            return False

        return read

    try:
        await drain(
            [job(turn_id, asker) for turn_id, asker in askers.items()], workers=at_once, progress=progress
        )
    finally:
        progress.close()
    return Recording(turns=tuple(found[turn_id] for turn_id in sorted(found)), cut=cut)


async def list_turns(
    client: GatewayClient, window: Window, *, asker: str, **more: Any
) -> AsyncIterator[Mapping[str, Any]]:
    """Live turns at a glance, newest first. Those of evaluations are not live traffic."""
    before: str | None = None
    while True:
        query = window.query(pinned="false", version=window.version, before=before, **more)
        page = (await client.get(f"/v1/turns?{query}", asker=asker))["turns"]
        for row in page:
            yield row
        if len(page) < _PAGE:
            return
        before = page[-1]["id"]


async def list_reviews(
    client: GatewayClient, window: Window, *, asker: str, **more: Any
) -> AsyncIterator[Mapping[str, Any]]:
    """Reviews of the window's turns, oldest first, in any state."""
    after: str | None = None
    while True:
        page = (
            await client.get(f"/v1/reviews?{window.query(after=after, counts='false', **more)}", asker=asker)
        )["reviews"]
        for row in page:
            yield row
        if len(page) < _PAGE:
            return
        after = page[-1]["id"]


def live_turn(row: Mapping[str, Any], *, asker: str, review: Mapping[str, Any] | None) -> LiveTurn:
    """The body of `GET /v1/turns/{id}` and a row of `GET /v1/reviews` as one turn."""
    answer = row.get("answer")
    versions = row.get("versions") or {}
    total = ((answer or {}).get("timings_ms") or {}).get("total") or 0.0
    return LiveTurn(
        id=str(row["id"]),
        asker=asker,
        conversation_id=row["conversation_id"],
        question=row["question"],
        created_at=row["created_at"],
        status=row["status"],
        knowledge=(versions.get("knowledge") or "").partition("@")[0],
        model=versions.get("model") or "",
        seen=read_observation(answer, row, case=bare_case(row, asker=asker), arm=_LIVE, wall_ms=total)
        if answer
        else None,
        erased=is_erased(row),
        sampled=review is not None and _SAMPLE in review["reasons"],
        noticed=review is not None and any(reason != _SAMPLE for reason in review["reasons"]),
        review=Reviewed.from_row(review) if review is not None else None,
        feedback=tuple(row.get("feedback") or ()),
        row=row,
    )


def is_erased(row: Mapping[str, Any]) -> bool:
    """Whether a turn lost a document, and with it what it said."""
    return any(hit["document_id"] == _ERASED for hit in (row.get("used") or {}).get("hits") or ())


def bare_case(row: Mapping[str, Any], *, asker: str) -> Case:
    """A turn's question as a case of which nothing is expected."""
    return Case(
        id=str(row["id"]),
        topic=row["conversation_id"],
        split="live",
        text=row["question"],
        asker=asker,
        facts_known=False,
    )
