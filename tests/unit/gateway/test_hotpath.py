"""The hot path with an answering that does as it is told: how exchanges end; each leaves one turn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from gateway.access import ApiKey, KeyRing, Scope, digest, mint_secret
from gateway.events import Completed, Deadline, Delta, complete
from gateway.hotpath import HotPath, HotPathLimits
from gateway.limits import Admission, RateLimit
from gateway.schemas.answers import Status
from gateway.turn import Question, TurnDraft
from gateway.wire import Event
from serving.errors import EngineStreamError

SECRET = mint_secret()
Script = Callable[[Question, TurnDraft], AsyncGenerator[Delta | Completed]]


class Keys:
    """One customer's key."""

    async def find(self, key_digest: str) -> ApiKey | None:
        if key_digest != digest(SECRET):
            return None
        return ApiKey(
            id=uuid4(),
            name="customer",
            tenant="acme",
            principals=("public",),
            scopes=frozenset({Scope.ASK}),
            created_at=datetime.now(UTC),
        )


class Answers:
    """Answers by script."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def run(
        self, question: Question, turn: TurnDraft, _deadline: Deadline
    ) -> AsyncGenerator[Delta | Completed]:
        return self._script(question, turn)


class Recorder:
    """Keeps rows."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def record(self, row: dict[str, Any]) -> None:
        self.rows.append(row)


class Exchanged:
    """A client that sends one request and keeps what comes back."""

    def __init__(self, script: Script) -> None:
        self.recorder = Recorder()
        self.sent: list[Event] = []
        self.left = asyncio.Event()
        self.got = asyncio.Event()
        self._body: bytes | None = None
        self._hotpath = HotPath(
            keys=KeyRing(Keys()),
            answering=Answers(script),  # type: ignore[arg-type]
            searching=None,  # type: ignore[arg-type]
            recorder=self.recorder,  # type: ignore[arg-type]
            admission=Admission(running=2, queued=2, queue_timeout_s=1),
            rate_limit=RateLimit(per_minute=60, burst=10),
            limits=HotPathLimits(),
        )

    async def post(self, path: str, body: dict[str, Any], *, key: str = SECRET) -> None:
        self._body = json.dumps(body).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"authorization", f"Bearer {key}".encode()),
        ]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "scheme": "http"}
        await self._hotpath(scope, self._receive, self._send)

    async def _receive(self) -> Event:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, event: Event) -> None:
        self.sent.append(event)
        if event["type"] == "http.response.body":
            self.got.set()

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def text(self) -> str:
        return b"".join(event.get("body", b"") for event in self.sent[1:]).decode()


async def whole(_question: Question, turn: TurnDraft) -> AsyncGenerator[Delta | Completed]:
    yield Delta("It is $9.")
    yield complete(turn, Status.ANSWERED, "It is $9.", began=0.0)


async def broken(_question: Question, _turn: TurnDraft) -> AsyncGenerator[Delta | Completed]:
    yield Delta("It is ")
    raise EngineStreamError("the stream broke")


async def defect(_question: Question, _turn: TurnDraft) -> AsyncGenerator[Delta | Completed]:
    raise ZeroDivisionError("secret inside")
    yield Delta("never")


async def endless(_question: Question, _turn: TurnDraft) -> AsyncGenerator[Delta | Completed]:
    yield Delta("It is ")
    await asyncio.Event().wait()


ASK = {"question": "hi", "stream": True}
CHAT = {"model": "twinrail", "stream": True, "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(("path", "body"), [("/v1/answers", ASK), ("/v1/chat/completions", CHAT)])
async def test_a_stream_ends_in_exactly_one_way(path: str, body: dict[str, Any]) -> None:
    good, bad = Exchanged(whole), Exchanged(broken)
    await good.post(path, body)
    await bad.post(path, body)
    assert (good.status, bad.status) == (200, 200)
    assert good.sent[-1]["more_body"] is bad.sent[-1]["more_body"] is False
    assert "model-unavailable" not in good.text
    assert bad.text.count("model-unavailable") == 1
    if path == "/v1/answers":
        assert good.text.count("event: answer.completed") == 1
        assert bad.text.count("event: error") == 1
        assert "answer.completed" not in bad.text
    else:
        assert good.text.endswith("data: [DONE]\n\n")
        assert "[DONE]" not in bad.text
        assert '"error":{"message"' in bad.text
    assert [row["status"] for row in good.recorder.rows] == ["answered"]
    assert [row["status"] for row in bad.recorder.rows] == ["failed"]
    assert bad.recorder.rows[0]["used"]["problem"]["status"] == 503


async def test_a_defect_is_a_500_that_says_nothing_of_the_inside() -> None:
    exchanged = Exchanged(defect)
    await exchanged.post("/v1/answers", {"question": "hi"})
    assert exchanged.status == 500
    assert "secret" not in exchanged.text
    [row] = exchanged.recorder.rows
    assert (row["status"], row["trace_id"]) == ("failed", json.loads(exchanged.text)["trace_id"])


async def test_a_client_that_leaves_is_one_cancelled_turn_and_no_more_bytes() -> None:
    exchanged = Exchanged(endless)
    posting = asyncio.create_task(exchanged.post("/v1/answers", ASK))
    await exchanged.got.wait()
    exchanged.left.set()
    await posting
    sent = len(exchanged.sent)
    assert [row["status"] for row in exchanged.recorder.rows] == ["client_cancelled"]
    await asyncio.sleep(0)
    assert len(exchanged.sent) == sent


async def test_a_shutdown_tells_the_stream_and_records_the_turn() -> None:
    exchanged = Exchanged(endless)
    posting = asyncio.create_task(exchanged.post("/v1/answers", ASK))
    await exchanged.got.wait()
    posting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await posting
    assert "event: error" in exchanged.text
    assert [row["status"] for row in exchanged.recorder.rows] == ["failed"]


async def test_without_a_key_there_is_no_turn() -> None:
    exchanged = Exchanged(whole)
    await exchanged.post("/v1/answers", ASK, key=mint_secret())
    assert exchanged.status == 401
    assert exchanged.recorder.rows == []


async def test_a_rejected_question_is_one_rejected_turn() -> None:
    exchanged = Exchanged(whole)
    await exchanged.post("/v1/answers", {"question": "hi", "pin": {"model": "m-x-1"}})
    assert exchanged.status == 403
    assert [row["status"] for row in exchanged.recorder.rows] == ["rejected"]
