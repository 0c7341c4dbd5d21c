"""Search, the API's own description, the console's files and health."""

from __future__ import annotations

import re

from tests.integration.gateway.conftest import PRICE_QUESTION, REFUND_QUESTION, Gateway


async def test_search_shows_scores_and_how_it_found(gateway: Gateway) -> None:
    status, body, headers = await gateway.post("/v1/search", {"question": PRICE_QUESTION, "k": 2})
    assert status == 200
    assert [hit["rank"] for hit in body["hits"]] == [1, 2]
    first = body["hits"][0]
    assert first["document_id"] == "sync-plus-price"
    assert {"score", "dense_score", "lexical_score"} <= set(first)
    assert body["arm"] == "stable"
    assert body["mode"]
    assert body["candidates"] >= 2
    assert body["trace_id"] == headers["x-twinrail-trace-id"]

    pinned = {"question": PRICE_QUESTION, "version": body["version"] + "@1"}
    assert (await gateway.post("/v1/search", pinned))[0] == 403
    status, again, _ = await gateway.post("/v1/search", pinned, key=gateway.keys.evaluation)
    assert (status, again["snapshot"], again["arm"]) == (200, 1, "pinned")
    status, problem, _ = await gateway.post(
        "/v1/search", pinned | {"version": "k-nope-1"}, key=gateway.keys.evaluation
    )
    assert (status, problem["field"]) == (422, "version")


async def test_a_customer_cannot_look_ahead(gateway: Gateway) -> None:
    """What takes effect next year is in the store today."""
    ahead = {"question": REFUND_QUESTION, "effective_on": "2027-03-01"}
    status, problem, _ = await gateway.post("/v1/search", ahead)
    assert (status, problem["field"]) == (403, "effective_on")
    for key in (gateway.keys.staff, gateway.keys.evaluation):
        status, body, _ = await gateway.post("/v1/search", ahead, key=key)
        assert status == 200, body
    pinned = {"question": REFUND_QUESTION, "pin": {"effective_on": "2027-03-01"}}
    for key in (gateway.keys.customer, gateway.keys.staff):
        status, problem, _ = await gateway.post("/v1/answers", pinned, key=key)
        assert (status, problem["field"]) == (403, "pin")


async def test_openapi_describes_every_path_with_examples(gateway: Gateway) -> None:
    status, document = await gateway.get("/openapi.json")
    assert status == 200
    assert document["openapi"].startswith("3.1")
    assert {
        "/v1/answers",
        "/v1/chat/completions",
        "/v1/search",
        "/v1/turns",
        "/v1/turns/{turn_id}",
        "/v1/feedback",
        "/v1/models",
        "/v1/rails",
        "/v1/rails/{rail}:undo",
        "/livez",
        "/readyz",
        "/metrics",
    } <= set(document["paths"])
    schemas = document["components"]["schemas"]
    for name in ("AnswerRequest", "AnswerBody", "SearchBody", "ChatBody", "FeedbackBody"):
        assert schemas[name]["examples"], name
    used = set(re.findall(r"#/components/schemas/([\w-]+)", str(document)))
    assert used <= set(schemas), used - set(schemas)
    ids = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))
    assert document["paths"]["/v1/answers"]["post"]["responses"]["422"]["content"] == {
        "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
    }


async def test_the_console_is_served_without_a_key_and_nothing_else_is(gateway: Gateway) -> None:
    async with gateway.session.get(f"{gateway.url}/console") as response:
        assert response.status == 200
        page = await response.text()
    for name in re.findall(r'(?:src|href)="/console/([^"]+)"', page):
        async with gateway.session.get(f"{gateway.url}/console/{name}") as response:
            assert response.status == 200, name
    for bad in ("/console/../app.py", "/console/%2e%2e%2fapp.py", "/console/nothing.js", "/docs", "/redoc"):
        async with gateway.session.get(gateway.url + bad) as response:
            assert response.status == 404


async def test_health(gateway: Gateway) -> None:
    async with gateway.session.get(f"{gateway.url}/livez") as response:
        assert await response.text() == "ok"
    async with gateway.session.get(f"{gateway.url}/readyz") as response:
        report = await response.json()
        assert response.status == 200, report
    assert {name: part["ok"] for name, part in report["parts"].items()} == {
        "records": True,
        "knowledge": True,
        "model": True,
        "fallback": True,
    }
    del gateway.vllm.models[gateway.stable]
    async with gateway.session.get(f"{gateway.url}/readyz") as response:
        report = await response.json()
        assert response.status == 503
    assert gateway.stable in report["parts"]["model"]["detail"]
