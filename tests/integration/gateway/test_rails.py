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
        ("model:undo", {"expected_snapshot": 1}, 422, "expected_snapshot"),
        ("model:undo", {"expected_revision": -1}, 422, "expected_revision"),
        ("colour:undo", {}, 422, "rail"),
    ],
)
async def test_bad_moves(gateway: Gateway, path: str, body: dict[str, Any], status: int, field: str) -> None:
    got, problem, _ = await gateway.post(f"/v1/rails/{path}", body, key=gateway.keys.release)
    assert (got, problem["field"]) == (status, field), problem


async def test_an_undo_that_is_sent_again_is_refused(gateway: Gateway) -> None:
    key = gateway.keys.release
    _, seen, _ = await gateway.post("/v1/rails/model:promote", {"version": gateway.canary}, key=key)
    assert seen["undo_to"] == {"stable": gateway.stable, "canary": None, "canary_weight_bp": 0}
    body = {"expected_revision": seen["revision"]}
    assert (await gateway.post("/v1/rails/model:undo", body, key=key))[0] == 200
    status, problem, _ = await gateway.post("/v1/rails/model:undo", body, key=key)
    assert (status, problem["type"]) == (409, "urn:twinrail:problem:pointer-moved")

    _, rails = await gateway.get("/v1/rails", key=key)
    knowledge, model = rails["rails"]
    assert model["stable"] == gateway.stable
    body = {
        "expected_revision": knowledge["revision"],
        "expected_snapshot": knowledge["snapshot"],
        "force": True,
    }
    status, undone, _ = await gateway.post("/v1/rails/knowledge:undo", body, key=key)
    assert (status, undone["undone"]) == (200, {"what": "publish", "before": "1", "after": "0"})
    status, problem, _ = await gateway.post("/v1/rails/knowledge:undo", body, key=key)
    assert (status, problem["type"]) == (409, "urn:twinrail:problem:pointer-moved")


async def test_undo_of_a_canary_says_what_came_back(gateway: Gateway) -> None:
    key = gateway.keys.release
    canary = {"version": gateway.canary, "weight_bp": 500}
    await gateway.post("/v1/rails/model:canary", canary, key=key)
    for before, after, share in ((gateway.canary, gateway.stable, 0), (gateway.stable, gateway.canary, 500)):
        _, undone, _ = await gateway.post("/v1/rails/model:undo", {}, key=key)
        assert undone["undone"] == {"what": "version", "before": before, "after": after}
        assert undone["pointer"]["canary_weight_bp"] == share


async def test_no_traffic_goes_where_no_engine_answers_unless_forced(gateway: Gateway) -> None:
    """Promote, canary and undo alike; what is left alone by a move is not asked for."""
    key = gateway.keys.release
    await gateway.post("/v1/rails/model:promote", {"version": gateway.canary}, key=key)
    del gateway.vllm.models[gateway.stable]
    _, before = await gateway.get("/v1/rails", key=key)
    moves: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("promote", {"version": gateway.stable}, "version"),
        ("canary", {"version": gateway.stable, "weight_bp": 500}, "version"),
        ("undo", {}, "rail"),
    )
    for action, body, field in moves:
        status, problem, _ = await gateway.post(f"/v1/rails/model:{action}", body, key=key)
        assert (status, problem["type"]) == (409, "urn:twinrail:problem:not-served"), problem
        assert problem["field"] == field
        assert f"they list {', '.join(sorted((gateway.fallback, gateway.canary)))}" in problem["detail"]
        assert "--force" in problem["fix"]
    assert (await gateway.get("/v1/rails", key=key))[1] == before
    status, _, _ = await gateway.post(
        "/v1/rails/model:canary", {"version": gateway.fallback, "weight_bp": 500}, key=key
    )
    assert status == 200
    assert (await gateway.post("/v1/rails/model:undo", {}, key=key))[0] == 200
    status, pointer, _ = await gateway.post(
        "/v1/rails/model:promote", {"version": gateway.stable, "force": True}, key=key
    )
    assert (status, pointer["stable"]) == (200, gateway.stable)
    assert (await gateway.post("/v1/rails/model:undo", {}, key=key))[0] == 200
    status, undone, _ = await gateway.post("/v1/rails/model:undo", {"force": True}, key=key)
    assert (status, undone["pointer"]["stable"]) == (200, gateway.stable)


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

    status, undone, _ = await gateway.post("/v1/rails/knowledge:undo", {"force": True}, key=key)
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


async def test_the_only_publish_is_taken_back_by_force_alone(gateway: Gateway) -> None:
    """A wrong key at night must not leave every question without an answer."""
    key, path = gateway.keys.release, "/v1/rails/knowledge:undo"
    status, problem, _ = await gateway.post(path, {"what": "publish"}, key=key)
    assert (status, problem["type"]) == (409, "urn:twinrail:problem:nothing-left")
    assert "one publish" in problem["detail"]
    status, undone, _ = await gateway.post(path, {"what": "publish", "force": True}, key=key)
    assert (status, undone["undone"]) == (200, {"what": "publish", "before": "1", "after": "0"})
    # Twice is redo.
    status, undone, _ = await gateway.post(path, {"what": "publish"}, key=key)
    assert (status, undone["undone"]["after"]) == (200, "1")
