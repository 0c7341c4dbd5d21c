"""Every bad request gets a problem that names the field and the fix, with a trace id."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.gateway.conftest import REFUND_QUESTION, Gateway

ASK = "/v1/answers"


async def send(
    gateway: Gateway, method: str, path: str, *, data: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any], Any]:
    """A raw request."""
    async with gateway.session.request(
        method, gateway.url + path, data=data, headers={**gateway.headers(), **(headers or {})}
    ) as response:
        assert response.content_type == "application/problem+json", await response.text()
        return response.status, await response.json(content_type=None), response.headers


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        (ASK, {"question": "hi", "colour": "red"}, 422, "colour"),
        (ASK, {"question": ""}, 422, "question"),
        (ASK, {"question": "   "}, 422, "question"),
        (ASK, {"question": "x" * 5000}, 422, "question"),
        (ASK, {"question": 7}, 422, "question"),
        (ASK, {"question": "a\x00b"}, 422, "question"),
        (ASK, {}, 422, "question"),
        (ASK, [], 422, "body"),
        (ASK, {"question": "hi", "tenant": "globex"}, 422, "tenant"),
        (ASK, {"question": "hi", "principals": ["staff"]}, 422, "principals"),
        (ASK, {"question": "hi", "filters": {"colour": "red"}}, 422, "filters"),
        (ASK, {"question": "hi", "filters": {"product": {"$in": "sync"}}}, 422, "filters"),
        (ASK, {"question": "hi", "conversation_id": "a b"}, 422, "conversation_id"),
        ("/v1/search", {"question": "hi", "k": 0}, 422, "k"),
        ("/v1/search", {"question": "hi", "filters": {"colour": "red"}}, 422, "filters"),
        (
            "/v1/chat/completions",
            {"model": "nope", "messages": [{"role": "user", "content": "hi"}]},
            404,
            "model",
        ),
        ("/v1/chat/completions", {"model": "twinrail", "messages": []}, 422, "messages"),
        ("/v1/feedback", {"turn_id": "nope", "rating": "up"}, 422, "turn_id"),
        ("/v1/feedback", {"turn_id": "019a8f3e-7c00-7000-8000-000000000000"}, 422, "body"),
        ("/v1/feedback", {"turn_id": "019a8f3e-7c00-7000-8000-000000000000", "rating": "up"}, 404, "id"),
        ("/v1/feedback", {"turn_id": "019a8f3e-7c00-7000-8000-000000000000", "stars": 5}, 422, "stars"),
    ],
)
async def test_a_bad_field_is_named(gateway: Gateway, path: str, body: Any, status: int, field: str) -> None:
    got, problem, _ = await gateway.post(path, body)
    assert (got, problem["field"]) == (status, field), problem
    assert problem["fix"]
    assert problem["status"] == status
    assert len(problem["trace_id"]) == 32
    assert problem["type"].startswith("urn:twinrail:problem:")


async def test_malformed_json_says_where(gateway: Gateway) -> None:
    headers = {"content-type": "application/json"}
    for path in (ASK, "/v1/chat/completions", "/v1/search", "/v1/feedback"):
        status, problem, _ = await send(gateway, "POST", path, data=b'{"question": "hi",}', headers=headers)
        assert status == 400
        assert "line 1, column" in problem["detail"]
    deep = b'{"question": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert (await send(gateway, "POST", ASK, data=deep, headers=headers))[0] == 400


async def test_content_type_is_checked(gateway: Gateway) -> None:
    for path in (ASK, "/v1/feedback"):
        status, problem, _ = await send(
            gateway, "POST", path, data=b"question=hi", headers={"content-type": "text/plain"}
        )
        assert (status, problem["field"]) == (415, "header content-type")


async def test_large_bodies_are_refused_unread(gateway: Gateway) -> None:
    headers = {"content-type": "application/json"}
    body = b'{"question": "' + b"x" * 1_000_000 + b'"}'
    for path in (ASK, "/v1/feedback"):
        status, problem, _ = await send(gateway, "POST", path, data=body, headers=headers)
        assert (status, problem["field"]) == (413, "body")
        assert problem["fix"]


async def test_chunked_bodies_have_the_same_limit(gateway: Gateway) -> None:
    async def endless() -> Any:
        for _ in range(40):
            yield b"x" * 10_000

    async with gateway.session.post(
        gateway.url + ASK, data=endless(), headers={**gateway.headers(), "content-type": "application/json"}
    ) as response:
        assert response.status == 413


async def test_methods_and_paths(gateway: Gateway) -> None:
    status, problem, headers = await send(gateway, "GET", ASK)
    assert (status, headers["allow"]) == (405, "POST")
    assert problem["fix"]
    assert (await send(gateway, "DELETE", "/v1/feedback"))[0] == 405
    status, problem, _ = await send(gateway, "GET", "/v1/nothing")
    assert (status, problem["field"]) == (404, "path")


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer tw_' OR 1=1 --"},
        {"authorization": "Basic dXNlcjpwYXNz"},
        {"authorization": "Bearer tw_" + "a" * 60_000},
        {"x-api-key": "tw_other"},
    ],
)
async def test_bad_keys_are_401(gateway: Gateway, headers: dict[str, str]) -> None:
    for method, path in (("POST", ASK), ("GET", "/v1/turns"), ("GET", "/v1/models")):
        status, problem, got = await send(gateway, method, path, headers=headers)
        assert (status, problem["field"]) == (401, "header authorization")
        assert "www-authenticate" in got


async def test_a_refused_question_leaves_a_turn(gateway: Gateway) -> None:
    status, problem, headers = await gateway.post(ASK, {"question": REFUND_QUESTION, "colour": "red"})
    assert status == 422
    turn = await gateway.turn(headers["x-twinrail-turn-id"])
    assert turn["status"] == "rejected"
    assert turn["used"]["problem"]["field"] == "colour"
    assert turn["trace_id"] == problem["trace_id"]
    assert turn["question"] == REFUND_QUESTION
