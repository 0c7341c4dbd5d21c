"""Release control: scopes, moves, and undo of one rail under load."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.integration.gateway.conftest import REFUND_QUESTION, Gateway, reply

REFUND = "A full refund is possible within 30 days of a yearly renewal."


async def test_reading_and_moving_need_their_scopes(gateway: Gateway) -> None:
    assert (await gateway.get("/v1/rails"))[0] == 403
    for action, body in (
        ("undo", {}),
        ("canary", {"version": gateway.canary, "weight_bp": 100}),
        ("promote", {"version": gateway.canary}),
    ):
        status, problem, _ = await gateway.post(f"/v1/rails/model:{action}", body, key=gateway.keys.staff)
        assert status == 403
        assert "release" in problem["fix"]
    _, body = await gateway.get("/v1/rails", key=gateway.keys.staff)
    assert {rail["rail"]: rail["revision"] for rail in body["rails"]}["model"] == 2
    assert (await gateway.get("/v1/turns"))[0] == 403


async def test_canary_promote_and_undo(gateway: Gateway) -> None:
    key = gateway.keys.release
    status, pointer, _ = await gateway.post(
        "/v1/rails/model:canary", {"version": gateway.canary, "weight_bp": 10_000}, key=key
    )
    assert (status, pointer["canary"]) == (200, gateway.canary)
    gateway.vllm.program(gateway.canary, answer=reply(REFUND))
    _, body, _ = await gateway.post("/v1/answers", {"question": REFUND_QUESTION})
    assert body["arms"] == {"knowledge": "stable", "model": "canary"}
    assert body["versions"]["model"] == gateway.canary

    _, pointer, _ = await gateway.post("/v1/rails/model:promote", {"version": gateway.canary}, key=key)
    assert (pointer["stable"], pointer["previous"]) == (gateway.canary, gateway.stable)
    _, undone, _ = await gateway.post("/v1/rails/model:undo", {}, key=key)
    assert undone["pointer"]["stable"] == gateway.stable
    status, versions = await gateway.get("/v1/rails/model/versions", key=key)
    assert {version["id"] for version in versions["versions"]} == {
        gateway.stable,
        gateway.fallback,
        gateway.canary,
    }
    status, versions = await gateway.get("/v1/rails/knowledge/versions", key=key)
    assert (status, len(versions["versions"])) == (200, 1)


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("model:canary", {"version": "m-nope", "weight_bp": 5}, 404, "version"),
        ("model:canary", {"version": None, "weight_bp": 5}, 422, "weight_bp"),
        ("model:canary", {"version": "m-nope", "weight_bp": 10_001}, 422, "weight_bp"),
        ("knowledge:promote", {"version": "k-nope"}, 404, "version"),
        ("model:undo", {"what": "publish"}, 422, "what"),
        ("colour:undo", {}, 422, "rail"),
    ],
)
async def test_bad_moves(gateway: Gateway, path: str, body: dict[str, Any], status: int, field: str) -> None:
    got, problem, _ = await gateway.post(f"/v1/rails/{path}", body, key=gateway.keys.release)
    assert (got, problem["field"]) == (status, field), problem


async def test_undo_of_one_rail_under_load_changes_nothing_on_the_other(gateway: Gateway) -> None:
    """Requests go on while the model rail is undone and the knowledge rail is undone and redone."""
    key = gateway.keys.release
    for model in (gateway.stable, gateway.canary):
        gateway.vllm.program(model, answer=reply(REFUND), between_tokens_s=0.002)
    await gateway.post("/v1/rails/model:promote", {"version": gateway.canary}, key=key)
    stop = asyncio.Event()
    seen: list[tuple[int, dict[str, Any]]] = []

    async def ask() -> None:
        while not stop.is_set():
            status, body, _ = await gateway.post("/v1/answers", {"question": REFUND_QUESTION})
            seen.append((status, body))

    asking = [asyncio.create_task(ask()) for _ in range(4)]
    await gateway.until(lambda: len(seen) >= 8)
    status, undone, _ = await gateway.post("/v1/rails/model:undo", {}, key=key)
    assert (status, undone["pointer"]["stable"]) == (200, gateway.stable)
    marks = len(seen)
    await gateway.until(lambda: any(body["versions"]["model"] == gateway.stable for _, body in seen[marks:]))
    model_only = list(seen)
    knowledge = {body["versions"]["knowledge"] for _, body in model_only}
    assert len(knowledge) == 1

    status, undone, _ = await gateway.post("/v1/rails/knowledge:undo", {}, key=key)
    assert (status, undone["undone"]["what"]) == (200, "publish")
    marks = len(seen)
    await gateway.until(lambda: any(body["status"] == "abstained" for _, body in seen[marks:]))
    assert (await gateway.post("/v1/rails/knowledge:undo", {}, key=key))[0] == 200
    marks = len(seen)
    await gateway.until(lambda: any(body["status"] == "answered" for _, body in seen[marks + 4 :]))
    stop.set()
    await asyncio.gather(*asking)

    assert {status for status, _ in seen} == {200}
    assert {body["status"] for _, body in model_only} == {"answered"}
    since_undo = [body["versions"]["model"] for _, body in seen[marks:]]
    assert set(since_undo) == {gateway.stable}
