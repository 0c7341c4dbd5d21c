"""What is down degrades by itself, retrieval, generation and records each in its way, and nothing is lost."""

from __future__ import annotations

import asyncio
import json

import psycopg
import pytest
from psycopg import sql

from gateway.recorder import TurnRecorder
from gateway.settings import GatewaySettings
from gateway.spool import Spool
from gateway.turns import TurnStore
from retrieval.store import KnowledgeStore
from retrieval.versions import KnowledgeVersion
from serving.wording import load_wording
from tests.conftest import TestServer
from tests.integration.gateway.conftest import PRICE_QUESTION, REFUND_QUESTION, Gateway, reply

REFUND = "A full refund is possible within 30 days of a yearly renewal."
PRICE = "Sync Plus costs $9 a month."


class Outage:
    """Takes a database away and gives it back, as a server that goes down does for its clients."""

    def __init__(self, server: TestServer, database_url: str) -> None:
        self._server = server
        self._database = database_url.rsplit("/", 1)[1].split("?")[0]

    def begin(self) -> None:
        """No new connections, and the open ones are ended."""
        self._allow(connections=False)
        with psycopg.connect(self._server.admin_url, autocommit=True) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
                [self._database],
            )

    def end(self) -> None:
        """Back again."""
        self._allow(connections=True)

    def _allow(self, *, connections: bool) -> None:
        self._server.execute(
            sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}").format(
                sql.Identifier(self._database), sql.SQL("true" if connections else "false")
            )
        )


@pytest.fixture
def outage(postgres: TestServer, database_url: str) -> Outage:
    return Outage(postgres, database_url)


async def test_the_database_goes_away_in_mid_request(gateway: Gateway, outage: Outage) -> None:
    """Retrieval is done, the model writes, PostgreSQL goes: the answer comes, its turn is spooled."""
    gateway.vllm.program(gateway.stable, answer=reply(REFUND), first_token_s=2.0)
    asking = asyncio.create_task(gateway.post("/v1/answers", {"question": REFUND_QUESTION}))
    await asyncio.wait_for(gateway.vllm.busy(), 10)
    await asyncio.to_thread(outage.begin)
    status, body, _ = await asking

    assert status == 200, body
    assert body["status"] == "answered"
    assert body["citations"][0]["quote"].startswith("A full refund is possible")
    assert body["degraded"] == ["citations"]

    # While it is away: nothing to cite, so nothing but the fixed wording, and it says why.
    status, during, _ = await gateway.post("/v1/answers", {"question": REFUND_QUESTION})
    assert (status, during["status"], during["degraded"]) == (200, "abstained", ["retrieval"])
    assert during["answer"] == load_wording().not_in_help_centre
    status, problem, headers = await gateway.post("/v1/search", {"question": REFUND_QUESTION})
    assert (status, problem["type"]) == (503, "urn:twinrail:problem:knowledge-unavailable")
    assert "retry-after" in headers
    async with gateway.session.get(f"{gateway.url}/readyz") as response:
        assert response.status == 503
        assert (await response.json())["parts"]["knowledge"]["ok"] is False

    def spooled() -> set[str]:
        lines = [line for path in gateway.spool.glob("*.jsonl") for line in path.read_bytes().splitlines()]
        return {json.loads(line)["id"] for line in lines}

    await gateway.until(lambda: spooled() == {body["id"], during["id"]})
    assert (await gateway.get(f"/v1/turns/{body['id']}"))[0] in (200, 503)

    await asyncio.to_thread(outage.end)
    # What waits is counted down before the file is gone.
    await gateway.until(lambda: gateway.state.recorder.waiting == 0 and not spooled(), limit_s=20)
    for answer in (body, during):
        assert (await gateway.turn(answer["id"]))["answer"] == answer


async def test_unknown_keys_are_503_not_401_while_the_database_is_away(
    gateway: Gateway, outage: Outage
) -> None:
    await asyncio.to_thread(outage.begin)
    status, problem, _ = await gateway.post("/v1/answers", {"question": "hi"}, key=gateway.keys.staff)
    assert (status, problem["type"]) == (503, "urn:twinrail:problem:records-unavailable")
    await asyncio.to_thread(outage.end)


async def test_a_spool_of_an_earlier_process_is_replayed(gateway: Gateway) -> None:
    gateway.vllm.program(gateway.stable, answer=reply(REFUND))
    _, body, _ = await gateway.post("/v1/answers", {"question": REFUND_QUESTION})
    await gateway.state.recorder.flushed()
    row = dict(await gateway.turn(body["id"]))
    stored = await TurnStore(gateway.database).read("acme", body["id"])
    assert stored is not None
    again = {**stored, "id": "019a8f3e-7c00-7000-8000-000000000001"}
    again = {name: str(value) if name in {"key_id"} else value for name, value in again.items()}
    for moment in ("created_at", "finished_at"):
        again[moment] = stored[moment].isoformat()
    spool = Spool(gateway.spool.with_name("earlier"))
    spool.append([again])
    with (gateway.spool.with_name("earlier") / "turns.jsonl").open("ab") as file:
        file.write(b'{"id": "019a8f3e')  # the crash cut this one off
    async with TurnRecorder(TurnStore(gateway.database), spool) as recorder:
        await gateway.until(lambda: spool.is_empty)
        await recorder.flushed()
    assert (await gateway.turn(again["id"], key=gateway.keys.staff))["answer"] == row["answer"]


async def test_the_engine_is_gone_from_the_start(gateway: Gateway) -> None:
    for model in (gateway.stable, gateway.fallback):
        gateway.vllm.program(model, status=503, retry_after="1")
    status, body, _ = await gateway.post("/v1/answers", {"question": REFUND_QUESTION})
    assert status == 200
    assert (body["status"], body["degraded"]) == ("fallback", ["generation"])
    assert body["answer"] == load_wording().failed
    assert body["citations"][0]["document_id"] == "refunds"  # what was found is still worth showing
    assert (await gateway.turn(body["id"]))["ticket"] == "engine"


async def test_the_fallback_model_takes_over(gateway: Gateway) -> None:
    gateway.vllm.program(gateway.stable, status=500)
    gateway.vllm.program(gateway.fallback, answer=reply(PRICE))
    _, body, _ = await gateway.post("/v1/answers", {"question": PRICE_QUESTION})
    assert (body["status"], body["answer"]) == ("fallback", PRICE)
    assert body["degraded"] == ["generation"]
    assert body["versions"]["model"] == gateway.fallback


@pytest.mark.parametrize("fault", ["reset_after", "garbage_after", "error_after"])
async def test_a_stream_that_breaks_never_looks_whole(gateway: Gateway, fault: str) -> None:
    gateway.vllm.program(gateway.stable, answer=reply(f"{PRICE} {REFUND}"), chunk_chars=20, **{fault: 3})
    gateway.vllm.program(gateway.fallback, answer=reply(PRICE))
    async with gateway.session.post(
        f"{gateway.url}/v1/answers",
        json={"question": PRICE_QUESTION, "stream": True},
        headers=gateway.headers(),
    ) as response:
        text = await response.text()
    assert text.count("event: answer.completed") == 1
    assert '"status":"fallback"' in text


async def test_a_stream_that_breaks_after_text_ends_with_fixed_wording(gateway: Gateway) -> None:
    whole = reply(f"{PRICE} {PRICE} {PRICE}")
    gateway.vllm.program(gateway.stable, answer=whole, chunk_chars=4, reset_after=len(whole) // 8)
    async with gateway.session.post(
        f"{gateway.url}/v1/chat/completions",
        json={
            "model": "twinrail",
            "stream": True,
            "messages": [{"role": "user", "content": PRICE_QUESTION}],
        },
        headers=gateway.headers(),
    ) as response:
        text = await response.text()
    assert load_wording().failed in text.replace("\\u2019", "\u2019")
    assert '"status":"fallback"' in text
    assert text.rstrip().endswith("[DONE]")


class TestShortDeadline:
    """Short, because it is waited out."""

    @pytest.fixture
    def settings(self, settings: GatewaySettings) -> GatewaySettings:
        return settings.model_copy(update={"deadline_s": 3.0})

    async def test_a_hanging_engine_meets_the_deadline(self, gateway: Gateway) -> None:
        for model in (gateway.stable, gateway.fallback):
            gateway.vllm.program(model, hang=True)
        async with asyncio.timeout(30):
            status, body, _ = await gateway.post("/v1/answers", {"question": REFUND_QUESTION})
        assert (status, body["status"]) == (200, "fallback")
        await asyncio.wait_for(gateway.vllm.idle(), 10)
        assert gateway.vllm.aborted == 2


async def test_a_database_that_only_reads_keeps_turns_in_the_spool(
    gateway: Gateway, postgres: TestServer, database_url: str
) -> None:
    """As after a failover to a replica: psycopg calls that an internal error, not an operational one."""
    gateway.vllm.program(gateway.stable, answer=reply(REFUND))
    name = sql.Identifier(database_url.rsplit("/", 1)[1].split("?")[0])
    read_only = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}")
    postgres.execute(read_only.format(name, sql.SQL("on")))
    await gateway.records.drain()
    _, first, _ = await gateway.post("/v1/answers", {"question": REFUND_QUESTION})
    await gateway.until(lambda: bool(list(gateway.spool.glob("*.jsonl"))))

    postgres.execute(read_only.format(name, sql.SQL("off")))
    await gateway.records.drain()
    _, second, _ = await gateway.post("/v1/answers", {"question": REFUND_QUESTION})
    await gateway.until(lambda: gateway.state.recorder.waiting == 0 and not list(gateway.spool.iterdir()))
    for body in (first, second):
        assert (await gateway.turn(body["id"]))["answer"] == body


async def test_a_pinned_version_that_is_gone_is_no_other_version(gateway: Gateway) -> None:
    gone = KnowledgeVersion.make(name="gone", embedder="words", dims=256)
    await KnowledgeStore(gateway.chunks).register(gone)

    async def pinned(version: str) -> tuple[int, str]:
        body = {"question": REFUND_QUESTION, "pin": {"knowledge": version}}
        status, problem, _ = await gateway.post("/v1/answers", body, key=gateway.keys.evaluation)
        return status, problem.get("field", problem.get("status"))

    assert await pinned("k-nope-00000000") == (422, "pin.knowledge")  # the list is read, and remembered
    async with gateway.chunks.connection() as conn:
        await conn.execute("DELETE FROM retrieval.index_version WHERE id = %s", [gone.id])
    assert await pinned(gone.id) == (422, "pin.knowledge")
