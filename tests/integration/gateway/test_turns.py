"""Turns and feedback: who may see them, and that saying the same twice is saying it once."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import orjson
import psycopg
import pytest

from gateway.access import KeyStore
from tests.integration.gateway.conftest import REFUND_QUESTION, Gateway, reply

REFUND = "A full refund is possible within 30 days of a yearly renewal."


async def asked(gateway: Gateway) -> dict[str, Any]:
    gateway.vllm.program(gateway.stable, answer=reply(REFUND))
    _, body, _ = await gateway.post("/v1/answers", {"question": REFUND_QUESTION})
    return body


async def test_another_tenants_turn_is_404(gateway: Gateway) -> None:
    body = await asked(gateway)
    for flushed in (False, True):
        if flushed:
            await gateway.state.recorder.flushed()
        status, problem = await gateway.get(f"/v1/turns/{body['id']}", key=gateway.keys.stranger)
        assert (status, problem["field"]) == (404, "id")
        status, _, _ = await gateway.post(
            "/v1/feedback", {"turn_id": body["id"], "rating": "down"}, key=gateway.keys.stranger
        )
        assert status == 404
    _, listed = await gateway.get("/v1/turns", key=gateway.keys.stranger)
    assert listed["turns"] == []


async def test_ask_alone_sees_only_its_own_turns(gateway: Gateway) -> None:
    body = await asked(gateway)
    assert (await gateway.get(f"/v1/turns/{body['id']}", key=gateway.keys.release))[0] == 404
    assert (await gateway.get(f"/v1/turns/{body['id']}", key=gateway.keys.staff))[0] == 200
    _, listed = await gateway.get("/v1/turns?limit=5", key=gateway.keys.staff)
    assert [turn["id"] for turn in listed["turns"]] == [body["id"]]


async def test_who_reads_a_turn_needs_the_principals_of_who_asked(gateway: Gateway) -> None:
    """The turn of a staff key holds staff passages: no key that may not see those sees it."""
    store = KeyStore(gateway.database)
    public = await store.create(
        name="public-review", tenant="acme", principals=["public"], scopes=["review", "eval"]
    )
    admin = await store.create(name="boss", tenant="acme", principals=["public"], scopes=["admin"])
    _, body, _ = await gateway.post(
        "/v1/answers", {"question": "What may agents credit without approval?"}, key=gateway.keys.staff
    )
    for flushed in (False, True):
        if flushed:
            await gateway.state.recorder.flushed()
        for secret, sees in ((public.secret, False), (admin.secret, True), (gateway.keys.staff, True)):
            status, _ = await gateway.get(f"/v1/turns/{body['id']}", key=secret)
            assert status == (200 if sees else 404)
            _, listed = await gateway.get("/v1/turns", key=secret)
            assert [turn["id"] for turn in listed["turns"]] == ([body["id"]] if sees else [])
        status, _, _ = await gateway.post(
            "/v1/feedback", {"turn_id": body["id"], "rating": "up"}, key=public.secret
        )
        assert status == 404


async def test_the_list_is_slim_and_the_same_before_and_after_the_turn_is_written(gateway: Gateway) -> None:
    gateway.vllm.program(gateway.stable, answer=reply(REFUND))
    long = {"question": " ".join([REFUND_QUESTION] * 6)}
    _, body, _ = await gateway.post("/v1/answers", long)
    _, first = await gateway.get("/v1/turns", key=gateway.keys.staff)
    await gateway.state.recorder.flushed()
    _, second = await gateway.get("/v1/turns", key=gateway.keys.staff)
    (row,) = second["turns"]
    assert {name: row[name] for name in body.keys() & row.keys()} == {
        name: body[name] for name in body.keys() & row.keys()
    }
    assert (row["hits"], row["drafts"]) == (
        3,
        [{"step": "assigned", "attempt": "first", "model": gateway.stable, "failure": None}],
    )
    assert row["question"] == long["question"][:200]
    assert not row.keys() & {"answer", "used", "feedback"}
    assert first["turns"] == [row]


async def test_feedback_is_idempotent_and_the_last_word_counts(gateway: Gateway) -> None:
    body = await asked(gateway)
    said = {"turn_id": body["id"], "rating": "down", "comment": "Old.", "label": "stale_knowledge"}
    status, first, _ = await gateway.post("/v1/feedback", said)
    assert status == 200
    _, again, _ = await gateway.post("/v1/feedback", said)
    assert again == first
    _, changed, _ = await gateway.post("/v1/feedback", {"turn_id": body["id"], "rating": "up"})
    assert (changed["rating"], changed["comment"]) == ("up", None)
    await gateway.post(
        "/v1/feedback", {"turn_id": body["id"], "corrected_answer": "30 days."}, key=gateway.keys.staff
    )
    await gateway.state.recorder.flushed()
    turn = await gateway.turn(body["id"])
    assert [entry["rating"] for entry in turn["feedback"]] == ["up", None]


async def test_a_revoked_key_stops_working(gateway: Gateway) -> None:
    store = KeyStore(gateway.database)
    made = await store.create(name="short", tenant="acme", principals=["public"], scopes=["ask"])
    assert (await gateway.get("/v1/models", key=made.secret))[0] == 200
    await store.revoke("acme", made.key.id)

    async def refused() -> bool:
        return (await gateway.get("/v1/models", key=made.secret))[0] == 401

    await gateway.until(refused)


async def test_row_level_security_holds_without_and_with_a_wrong_tenant(gateway: Gateway) -> None:
    await asked(gateway)
    await gateway.state.recorder.flushed()
    async with gateway.records.connection() as conn:
        for table in ("turn", "feedback", "review", "api_key"):
            for tenant in (None, "globex", ""):
                async with conn.transaction(force_rollback=True):
                    if tenant is not None:
                        await conn.execute("SELECT set_config('gateway.tenant', %s, true)", [tenant])
                    query = f"SELECT count(*) FROM gateway.{table} WHERE tenant = 'acme'"
                    row = await (await conn.execute(query)).fetchone()  # type: ignore[arg-type]
                    assert row == (0,)
        try:
            async with conn.transaction():
                await conn.execute("SELECT set_config('gateway.tenant', 'globex', true)")
                await conn.execute(
                    "INSERT INTO gateway.review (turn_id, tenant, reasons, ticket) "
                    "VALUES (gen_random_uuid(), 'acme', '{sample}', 'sample')"
                )
        except psycopg.errors.InsufficientPrivilege:
            pass
        else:
            raise AssertionError("a row of another tenant was written")


async def test_a_turn_is_written_once_and_by_its_own_tenant_only(gateway: Gateway) -> None:
    turn_id = UUID((await asked(gateway))["id"])
    turns = gateway.state.turns

    async def written() -> bool:
        return await turns.read("acme", turn_id) is not None

    await gateway.until(written)
    row = await turns.read("acme", turn_id)
    assert row is not None
    needed = {"reasons": ["failed_verification"], "ticket": "unsupported"}
    await turns.write([{**row, "question": "another", **needed}])
    again = await turns.read("acme", turn_id)
    assert again is not None
    assert (again["question"], again["ticket"]) == (REFUND_QUESTION, "unsupported")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with gateway.records.connection() as conn:
            await conn.execute(
                "SELECT gateway.write_turns('globex', %s::jsonb)",
                [orjson.dumps([{**row, "id": uuid4()}]).decode()],
            )


async def test_the_list_goes_on_before_a_turn_written_or_not(gateway: Gateway) -> None:
    ids = [(await asked(gateway))["id"] for _ in range(3)]
    for flushed in (False, True):
        if flushed:
            await gateway.state.recorder.flushed()
        _, first = await gateway.get("/v1/turns?limit=2", key=gateway.keys.evaluation)
        assert [turn["id"] for turn in first["turns"]] == ids[:0:-1]
        status, rest = await gateway.get(f"/v1/turns?limit=2&before={ids[1]}", key=gateway.keys.evaluation)
        assert (status, [turn["id"] for turn in rest["turns"]]) == (200, ids[:1])
        _, none = await gateway.get(f"/v1/turns?before={ids[0]}", key=gateway.keys.evaluation)
        assert none["turns"] == []
    assert (await gateway.get("/v1/turns?before=x", key=gateway.keys.evaluation))[0] == 422


async def test_pages_hold_each_turn_of_one_millisecond_once(gateway: Gateway) -> None:
    """Ids sort by the millisecond, and within one by chance."""
    for _ in range(3):
        await gateway.post("/v1/answers", {"question": REFUND_QUESTION})
    await gateway.state.recorder.flushed()
    _, listed = await gateway.get("/v1/turns", key=gateway.keys.evaluation)
    ids = [row["id"] for row in listed["turns"]]
    async with gateway.records.connection() as conn, conn.transaction():
        await conn.execute("SELECT set_config('gateway.tenant', 'acme', true)")
        for age, turn_id in enumerate(ids):  # the other way round than the ids
            await conn.execute(
                "UPDATE gateway.turn SET created_at = '2026-03-01 09:00:00.001'::timestamptz"
                " + %s * interval '1 microsecond' WHERE id = %s",
                [age, turn_id],
            )
    for limit in (1, 2):
        seen: list[str] = []
        for _ in range(0, len(ids), limit):
            before = f"&before={seen[-1]}" if seen else ""
            _, page = await gateway.get(f"/v1/turns?limit={limit}{before}", key=gateway.keys.evaluation)
            seen += [row["id"] for row in page["turns"]]
        assert seen == ids[::-1]
