"""Every outcome that telemetry tells apart, once, through the front door."""

from __future__ import annotations

import asyncio

from tests.integration.telemetry.running_gateway import (
    BY_RULE,
    CIRCUIT_OPEN_S,
    INVENTED,
    MISCITED,
    OFF_TOPIC,
    PERSON,
    REFUND,
    SLOW,
    RunningGateway,
)


async def every_outcome(gateway: RunningGateway) -> None:
    """Answers of every status, each layer gone, a stream, a disconnect, a pin, refusals."""
    answered = await gateway.ask(REFUND)
    assert answered["status"] == "answered", answered["fallback"]
    await gateway.feedback(answered["id"], rating="up")
    assert (await gateway.ask(MISCITED))["status"] == "answered"
    assert (await gateway.ask(OFF_TOPIC))["status"] == "abstained"
    assert (await gateway.ask(PERSON))["status"] == "escalated"
    assert (await gateway.ask(BY_RULE))["status"] == "escalated"
    assert (await gateway.ask(INVENTED))["status"] == "fallback"
    await without_retrieval(gateway)
    await without_engine(gateway)
    await until_a_circuit_opens(gateway)
    await restart_an_engine(gateway)
    assert (await gateway.stream(REFUND))[-1] == "answer.completed"
    await leave_in_mid_stream(gateway)
    await search_without_hits(gateway)
    pinned = await gateway.ask(REFUND, key=gateway.eval_key, pin={"model": gateway.fallback})
    assert pinned["arms"]["model"] == "pinned"
    refused = await gateway.ask(REFUND, pin={"model": gateway.fallback})
    assert refused["http_status"] == 403
    await gateway.get("/v1/turns?limit=5")
    await gateway.review(pinned["id"], ending="no_fault")
    await gateway.get("/v1/nowhere")


async def without_retrieval(gateway: RunningGateway) -> None:
    """A question while the embedder is away."""
    gateway.embeddings.failing = True
    try:
        answer = await gateway.ask(REFUND)
    finally:
        gateway.embeddings.failing = False
    assert answer["degraded"] == ["retrieval"]


async def without_engine(gateway: RunningGateway) -> None:
    """A question while no model can be reached."""
    before = dict(gateway.vllm.models)
    for name in before:
        gateway.vllm.program(name, status=503)
    try:
        answer = await gateway.ask(REFUND)
    finally:
        gateway.vllm.models.update(before)
    assert answer["degraded"] == ["generation"]


async def until_a_circuit_opens(gateway: RunningGateway) -> None:
    """The stable version fails until it is not asked any more, then works again; the base stands in."""
    before = gateway.vllm.models[gateway.stable]
    gateway.vllm.program(gateway.stable, status=500)
    because = ""
    try:
        async with asyncio.timeout(30):
            while because != "circuit":
                because = (await gateway.ask(REFUND))["fallback"]["because"]
    finally:
        gateway.vllm.models[gateway.stable] = before
    async with asyncio.timeout(30):  # it may have been tried, and opened again for longer, meanwhile
        while (await gateway.ask(REFUND))["status"] != "answered":  # noqa: ASYNC110 (as below)
            await asyncio.sleep(CIRCUIT_OPEN_S)


async def restart_an_engine(gateway: RunningGateway) -> None:
    """It fails the first probe of its new life, so the base answers; the second gives the traffic back."""
    probes = gateway.vllm.probes
    gateway.vllm.program(gateway.stable, status=503)
    gateway.vllm.restart()
    while gateway.vllm.probes == probes:  # noqa: ASYNC110 (the state is another process's)
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    gateway.vllm.program(gateway.stable, status=200)
    # An answer alone says nothing yet: the gateway may not have read that the engine was started again.
    replicas = f"/v1/rails/model/replicas?version={gateway.stable}"
    while not (await gateway.get(replicas))["versions"][0]["routable"]:  # noqa: ASYNC110 (as below)
        await asyncio.sleep(0.2)
    while (await gateway.ask(REFUND))["status"] != "answered":  # noqa: ASYNC110 (it comes back by itself)
        await asyncio.sleep(0.2)


async def leave_in_mid_stream(gateway: RunningGateway) -> None:
    """A client that leaves after the first sentence of a slow answer."""
    gateway.vllm.program(gateway.stable, between_tokens_s=0.05)
    try:
        await gateway.stream(SLOW, leave_after=1)
        await gateway.vllm.idle()
    finally:
        gateway.vllm.program(gateway.stable, between_tokens_s=0.0)


async def search_without_hits(gateway: RunningGateway) -> None:
    """A search whose filter matches nothing."""
    async with gateway.session.post(
        f"{gateway.url}/v1/search",
        json={"question": REFUND, "filters": {"language": "xx"}},
        headers={"authorization": f"Bearer {gateway.customer_key}"},
    ) as response:
        found = await response.json()
    assert response.status == 200, found
    assert found["hits"] == []
