"""The chain through the front door: every surface says who answered and why, and so does the stored turn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import GatewaySettings
from serving.registry import ModelRegistry
from serving.settings import ServingSettings
from serving.versions import SCHEMAS, load_task_schema
from serving.wording import load_wording
from tests.fakes.vllm_server import FakeVllm
from tests.integration.gateway.conftest import PRICE_QUESTION, Gateway, reply, started
from tests.integration.gateway.test_leaving import LIMIT_S, freed, leave, open_request, turns_are

pytestmark = pytest.mark.usefixtures("help_centre")

PRICE = "Sync Plus costs $9 a month."
WRONG = "Sync Plus costs $7 a month."


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    """Circuits that are tried again soon."""
    return GatewaySettings(
        port=0,
        spool_dir=tmp_path / "spool",
        deadline_s=20.0,
        pointer_max_age_s=0.0,
        circuit_open_s=0.5,
        review_sample_share=0.0,
    )


@pytest.fixture
async def outside() -> AsyncIterator[tuple[FakeVllm, ServingSettings]]:
    """Somebody else's endpoint, and the settings that name it."""
    fake = FakeVllm(models={})
    fake.program("big-model", answer=reply(PRICE))
    async with fake.serving() as url:
        yield fake, ServingSettings(endpoint_url=url, endpoint_model="big-model")


@pytest.fixture
async def gateway(
    database_url: str,
    tmp_path: Path,
    settings: GatewaySettings,
    outside: tuple[FakeVllm, ServingSettings],
) -> AsyncIterator[Gateway]:
    """A gateway whose rail has a previous version, with an endpoint behind it."""
    async with started(database_url, tmp_path, settings, endpoint=outside[1]) as running:
        registry = ModelRegistry(running.records)
        await registry.promote(running.canary)
        await registry.promote(running.stable)
        yield running


def fail(gateway: Gateway, *models: str) -> None:
    """These versions answer with an error."""
    for model in models:
        gateway.vllm.program(model, status=500)


def asked(gateway: Gateway) -> list[Any]:
    """The models that were asked, in order."""
    return [request["model"] for request in gateway.vllm.requests]


async def test_each_version_stands_in_for_the_one_before(
    gateway: Gateway, outside: tuple[FakeVllm, ServingSettings]
) -> None:
    chain = [gateway.stable, gateway.canary, gateway.fallback]
    for model in chain:
        gateway.vllm.program(model, answer=reply(PRICE))
    for left, step in enumerate(["previous", "base", "endpoint"], start=1):
        fail(gateway, chain[left - 1])
        gateway.vllm.requests.clear()
        _, body, _ = await gateway.post("/v1/answers", {"question": PRICE_QUESTION})
        assert (body["status"], body["answer"]) == ("fallback", PRICE)
        assert body["citations"][0]["document_id"] == "sync-plus-price"
        assert body["fallback"]["step"] == step
        assert [tried["version"] for tried in body["fallback"]["tried"]] == chain[:left]
        assert {tried["because"] for tried in body["fallback"]["tried"]} == {"error"}
        wrote = body["versions"]["model"]
        assert wrote.startswith("m-endpoint-") if step == "endpoint" else wrote == chain[left]
        turn = await gateway.turn(body["id"])
        assert turn["answer"]["fallback"] == body["fallback"]
        assert turn["used"]["tried"] == body["fallback"]["tried"]
        assert turn["used"]["drafts"][-1]["step"] == step
        assert (turn["versions"]["model"], turn["ticket"]) == (wrote, None)
        _, listed = await gateway.get("/v1/turns?limit=1", key=gateway.keys.staff)
        assert listed["turns"][0]["tried"] == body["fallback"]["tried"]
    [sent] = outside[0].requests
    assert "cache_salt" not in sent

    outside[0].program("big-model", status=500)
    _, body, _ = await gateway.post("/v1/answers", {"question": PRICE_QUESTION})
    assert (body["fallback"]["step"], body["answer"]) == ("fixed", load_wording().failed)
    assert body["versions"]["model"] == gateway.stable
    assert (await gateway.turn(body["id"]))["ticket"] == "engine"


async def test_a_version_whose_row_was_damaged_is_stood_in_for_and_listed_with_the_reason(
    gateway: Gateway,
) -> None:
    stable, previous = gateway.stable, gateway.canary
    async with gateway.records.connection() as connection:
        await connection.execute(
            "UPDATE serving.model_version SET manifest = '[]' WHERE id = ANY(%s)", [[stable]]
        )
    gateway.vllm.program(previous, answer=reply(PRICE))
    _, body, _ = await gateway.post("/v1/answers", {"question": PRICE_QUESTION})
    assert (body["status"], body["answer"], body["fallback"]["step"]) == ("fallback", PRICE, "previous")
    assert body["versions"]["model"] == previous
    assert body["fallback"]["tried"] == [
        {"step": "assigned", "version": stable, "because": "unreadable", "failure": None}
    ]
    key = gateway.keys.release
    _, found = await gateway.get("/v1/rails/model/versions", key=key)
    states = {each["id"]: each["state"] for each in found["versions"]}
    assert states == {stable: "unreadable", previous: "releasable", gateway.fallback: "releasable"}
    [damaged] = [each for each in found["versions"] if each["id"] == stable]
    assert "stable" in damaged["details"]["roles"]
    assert "cannot be read: manifest: is [], not an object; restore its row" in damaged["details"]["reason"]
    status, problem = await gateway.get(f"/v1/rails/model/versions/{stable}", key=key)
    assert (status, problem["type"]) == (503, "urn:twinrail:problem:version-unreadable")
    _, replicas = await gateway.get(f"/v1/rails/model/replicas?version={stable}", key=key)
    [shown] = replicas["versions"]
    assert (shown["routable"], shown["lacks"][0]["state"]) == (False, "unreadable")
    status, ready = await gateway.get("/readyz")
    assert (status, ready["parts"]["model"]["ok"]) == (200, True)
    assert f"{previous} stands in" in ready["parts"]["model"]["detail"]
    assert (await gateway.post("/v1/rails/model:promote", {"version": previous}, key=key))[0] == 200
    _, body, _ = await gateway.post("/v1/answers", {"question": PRICE_QUESTION})
    assert (body["status"], body["versions"]["model"]) == ("answered", previous)


async def test_a_version_of_another_task_stands_in_for_no_damaged_one(gateway: Gateway) -> None:
    registry = ModelRegistry(gateway.records)
    support = (await registry.version(gateway.stable)).version
    schema = load_task_schema(SCHEMAS / "ticket_routing.json")
    routing = await registry.register(replace(support, name="routing", task="ticket_routing", schema=schema))
    gateway.vllm.program(routing.id, answer='{"queue": "billing"}')
    gateway.vllm.program(gateway.fallback, answer=reply(PRICE))
    await registry.promote(routing.id)
    await registry.promote(gateway.stable)
    async with gateway.records.connection() as connection:
        await connection.execute(
            "UPDATE serving.model_version SET manifest = '[]' WHERE id = %s", [gateway.stable]
        )
    _, body, _ = await gateway.post("/v1/answers", {"question": PRICE_QUESTION})
    assert (body["answer"], body["versions"]["model"]) == (PRICE, gateway.fallback)
    assert routing.id not in asked(gateway)


async def test_a_gateway_is_ready_where_another_version_stands_in_for_a_damaged_one(
    gateway: Gateway,
) -> None:
    """Answered by the previous version, with no fallback or with one that nobody serves."""
    registry = ModelRegistry(gateway.records)
    gateway.vllm.program(gateway.canary, answer=reply(PRICE))
    del gateway.vllm.models[gateway.fallback]
    async with gateway.records.connection() as connection:
        await connection.execute(
            "UPDATE serving.model_version SET manifest = '[]' WHERE id = %s", [gateway.stable]
        )
    for fallback in (gateway.fallback, None):
        await registry.set_fallback(fallback)
        _, body, _ = await gateway.post("/v1/answers", {"question": PRICE_QUESTION})
        assert (body["status"], body["versions"]["model"]) == ("fallback", gateway.canary)
        status, ready = await gateway.get("/readyz")
        assert (status, ready["parts"]["model"]["ok"]) == (200, True)
        assert f"{gateway.canary} stands in" in ready["parts"]["model"]["detail"]
    del gateway.vllm.models[gateway.canary]
    status, ready = await gateway.get("/readyz")
    assert (status, ready["parts"]["model"]["ok"]) == (503, False)
    assert f"{gateway.stable} cannot be read" in ready["parts"]["model"]["detail"]


async def test_the_endpoint_s_answer_passes_the_same_checks(
    gateway: Gateway, outside: tuple[FakeVllm, ServingSettings]
) -> None:
    fail(gateway, gateway.stable, gateway.canary, gateway.fallback)
    outside[0].program("big-model", answer=reply(WRONG))
    _, body, _ = await gateway.post("/v1/answers", {"question": PRICE_QUESTION})
    assert body["answer"] == load_wording().failed
    last = body["fallback"]["tried"][-1]
    assert (last["step"], last["because"], last["failure"]) == ("endpoint", "invalid", "unsupported")
    assert (await gateway.turn(body["id"]))["ticket"] == "unsupported"


async def test_a_crowd_keeps_to_the_endpoint_s_budget_together(
    database_url: str, tmp_path: Path, settings: GatewaySettings
) -> None:
    """Each question alone would be paid for."""
    fake = FakeVllm(models={})
    fake.program("big-model", answer=reply(PRICE), first_token_s=0.3)
    budget = 3000
    async with fake.serving() as url:
        named = ServingSettings(endpoint_url=url, endpoint_model="big-model", endpoint_tokens_an_hour=budget)
        async with started(database_url, tmp_path, settings, endpoint=named) as gateway:
            fail(gateway, gateway.stable, gateway.canary, gateway.fallback)
            answers = await asyncio.gather(
                *(gateway.post("/v1/answers", {"question": PRICE_QUESTION}) for _ in range(30))
            )
    last = [body["fallback"]["tried"][-1]["because"] for _, body, _ in answers]
    steps = [body["fallback"]["step"] for _, body, _ in answers]
    assert steps.count("endpoint") == len(fake.requests) > 0
    used = sum(len(str(message["content"]).split()) for sent in fake.requests for message in sent["messages"])
    used += len(fake.requests) * len(reply(PRICE)) // 4
    assert used <= budget
    assert steps.count("fixed") == last.count("budget") == 30 - len(fake.requests)


@pytest.mark.parametrize("path", ["/v1/answers", "/v1/chat/completions"])
async def test_streams_say_who_wrote_from_the_first_word(gateway: Gateway, path: str) -> None:
    fail(gateway, gateway.stable)
    gateway.vllm.program(gateway.canary, answer=reply(PRICE))
    ask: dict[str, Any] = {"question": PRICE_QUESTION}
    if path != "/v1/answers":
        ask = {"model": "twinrail", "messages": [{"role": "user", "content": PRICE_QUESTION}]}
    async with gateway.session.post(
        gateway.url + path, json={**ask, "stream": True}, headers=gateway.headers()
    ) as response:
        lines = (await response.text()).splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    said = events[-1] if path == "/v1/answers" else events[-1]["twinrail"]
    assert said["fallback"]["step"] == "previous"
    assert said["fallback"]["tried"] == [
        {"step": "assigned", "version": gateway.stable, "because": "error", "failure": "engine"}
    ]
    assert said["versions"]["model"] == gateway.canary
    assert said["status"] == "fallback"
    if path != "/v1/answers":
        assert {event["model"] for event in events} == {gateway.canary}


async def test_a_completion_says_it_too(gateway: Gateway) -> None:
    fail(gateway, gateway.stable)
    gateway.vllm.program(gateway.canary, answer=reply(PRICE))
    body = {"model": "twinrail", "messages": [{"role": "user", "content": PRICE_QUESTION}]}
    _, completion, _ = await gateway.post("/v1/chat/completions", body)
    assert completion["model"] == gateway.canary
    assert completion["twinrail"]["fallback"]["because"] == "error"


async def test_who_leaves_while_another_one_stands_in(gateway: Gateway) -> None:
    fail(gateway, gateway.stable)
    gateway.vllm.program(gateway.canary, hang=True)
    _, writer = await open_request(gateway, {"question": PRICE_QUESTION})
    async with asyncio.timeout(LIMIT_S):
        await gateway.vllm.busy()
        await leave(writer)
        await freed(gateway)
    assert asked(gateway) == [gateway.stable, gateway.canary]
    await turns_are(gateway, ["client_cancelled"])
    _, listed = await gateway.get("/v1/turns?limit=1", key=gateway.keys.staff)
    assert [tried["because"] for tried in listed["turns"][0]["tried"]] == ["error"]


async def test_a_crowd_meets_a_version_that_fails_and_then_works_again(gateway: Gateway) -> None:
    fail(gateway, gateway.stable)
    gateway.vllm.program(gateway.canary, answer=reply(PRICE))
    answers = await asyncio.gather(
        *(gateway.post("/v1/answers", {"question": PRICE_QUESTION}) for _ in range(30))
    )
    bodies = [body for _, body, _ in answers]
    assert {body["answer"] for body in bodies} == {PRICE}
    assert {body["versions"]["model"] for body in bodies} == {gateway.canary}
    assert {body["fallback"]["because"] for body in bodies} <= {"error", "circuit"}
    _, after, _ = await gateway.post("/v1/answers", {"question": PRICE_QUESTION})
    assert after["fallback"]["because"] in ("circuit", "error")  # error: it was just tried again

    gateway.vllm.program(gateway.stable, status=200, answer=reply(PRICE))

    async def works() -> bool:
        _, body, _ = await gateway.post("/v1/answers", {"question": PRICE_QUESTION})
        return body["status"] == "answered" and body["fallback"] is None

    await gateway.until(works, limit_s=20)
