"""What we rely on of vLLM's wire, checked against the fake and, under `-m e2e`, against real vLLM."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import aiohttp
import jsonschema
import pytest

from serving.adapters import AdapterLoader, look_at
from serving.client import ChatClient, ChatDelta, ChatRequest
from serving.engines import ADAPTER_SLOTS
from serving.errors import (
    AdapterError,
    AdapterExistsError,
    AdapterNotFoundError,
    EngineRejectedError,
    ModelNotServedError,
)
from serving.probing import FLOOR_NATS, LIKELIEST, PROBES, TOKENS, distance, judge_adapter, read_probes
from serving.prompting import Message
from serving.versions import Decoding, canonical_json
from tests.contract.conftest import NAMES, Wire

MESSAGES = (
    Message("system", "You help."),
    Message("user", "How do I change my password? Explain it."),
)
#: Not in the order of the alphabet.
SCHEMA = {
    "type": "object",
    "properties": {
        "queue": {"type": "string", "enum": ["sync", "backup"]},
        "priority": {"type": "string", "enum": ["P1", "P2"]},
        "note": {"type": "string", "maxLength": 12},
        "again": {"type": "boolean"},
    },
    "required": ["queue", "priority", "note", "again"],
    "additionalProperties": False,
}
#: A shared machine may be slow; no test is about time.
PATIENT = {"timeout_s": 500.0, "first_token_timeout_s": 400.0, "idle_timeout_s": 200.0}


async def ask(wire: Wire, **changes: Any) -> list[ChatDelta]:
    request = {"served_name": wire.name, "messages": MESSAGES, "decoding": Decoding(max_tokens=12), **PATIENT}
    client = ChatClient(session=wire.session, engines=wire.pool)
    return [delta async for delta in client.stream(ChatRequest(**(request | changes)))]


async def text(wire: Wire, **changes: Any) -> str:
    return "".join(delta.text for delta in await ask(wire, **changes))


def body(wire: Wire, **changes: Any) -> dict[str, Any]:
    messages = [{"role": message.role, "content": message.content} for message in MESSAGES]
    return {"model": wire.name, "messages": messages, "temperature": 0, "max_tokens": 12} | changes


async def test_models_are_listed_by_the_names_they_are_served_under(wire: Wire) -> None:
    async with wire.session.get(f"{wire.url}/models") as response:
        assert response.status == 200
        listing = await response.json()
    assert listing["object"] == "list"
    assert {model["object"] for model in listing["data"]} == {"model"}
    assert wire.name in [model["id"] for model in listing["data"]]
    assert await wire.pool.ready(wire.name)


async def test_health_answers(wire: Wire) -> None:
    async with wire.session.get(f"{wire.root}/health") as response:
        assert response.status == 200


async def test_a_stream_is_role_then_text_then_finish_reason_then_usage_then_done(wire: Wire) -> None:
    sent = body(wire, stream=True, stream_options={"include_usage": True})
    async with wire.session.post(f"{wire.url}/chat/completions", json=sent) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        text = await response.text()
    events = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] <= 12
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]]
    assert reasons[-1] in {"stop", "length"}
    assert set(reasons[:-1]) == {None}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert {chunk["model"] for chunk in chunks} == {wire.name}


async def test_an_answer_in_one_piece_has_the_same_parts(wire: Wire) -> None:
    async with wire.session.post(f"{wire.url}/chat/completions", json=body(wire)) as response:
        answer = await response.json()
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"]
    assert answer["choices"][0]["finish_reason"] in {"stop", "length"}
    assert answer["usage"]["prompt_tokens"] > 0


async def test_the_last_delta_says_that_the_limit_of_tokens_ended_it(wire: Wire) -> None:
    deltas = await ask(wire, decoding=Decoding(max_tokens=3))
    assert deltas[-1].finish_reason == "length"
    assert deltas[-1].usage is not None
    assert deltas[-1].usage.output_tokens == 3
    assert "".join(delta.text for delta in deltas)


async def test_the_schema_is_held_in_its_own_order_without_white_space(wire: Wire) -> None:
    deltas = await ask(wire, schema=SCHEMA, decoding=Decoding(max_tokens=80))
    assert deltas[-1].finish_reason == "stop"
    text = "".join(delta.text for delta in deltas)
    answer = json.loads(text)
    jsonschema.validate(answer, SCHEMA)
    assert list(answer) == list(SCHEMA["properties"])
    assert text == canonical_json(answer)


async def test_trace_headers_and_a_cache_salt_are_accepted(wire: Wire) -> None:
    headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    assert (await ask(wire, headers=headers, cache_salt="a" * 43))[-1].finish_reason


@pytest.mark.parametrize("stream", [True, False])
async def test_closing_the_socket_frees_the_engine(wire: Wire, stream: bool) -> None:
    name = NAMES[1] if await wire.pool.ready(NAMES[1]) else wire.name
    sent = body(wire, model=name, stream=stream, max_tokens=900, ignore_eos=True)
    async with aiohttp.ClientSession() as session:
        task = asyncio.create_task(session.post(f"{wire.url}/chat/completions", json=sent))
        await wire.settles_at(1)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result().close()
    await wire.settles_at(0)


async def test_leaving_our_stream_in_the_middle_frees_the_engine(wire: Wire) -> None:
    name = NAMES[1] if await wire.pool.ready(NAMES[1]) else wire.name
    client = ChatClient(session=wire.session, engines=wire.pool)
    request = ChatRequest(served_name=name, messages=MESSAGES, decoding=Decoding(max_tokens=900), **PATIENT)
    stream = client.stream(request)
    assert (await anext(stream)).text
    await stream.aclose()
    await wire.settles_at(0)


async def test_an_unknown_model_is_404_with_the_engines_words(wire: Wire) -> None:
    async with wire.session.post(f"{wire.url}/chat/completions", json=body(wire, model="m-none")) as response:
        assert response.status == 404
        error = (await response.json())["error"]
    assert error["code"] == 404
    assert "m-none" in error["message"]
    with pytest.raises(ModelNotServedError):
        await ask(wire, served_name="m-none")


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": {"type": "wat"}},
        {"messages": (Message("user", "hello " * 3000),)},
    ],
    ids=["bad schema", "prompt too long"],
)
async def test_a_request_that_cannot_be_met_is_refused_before_any_token(
    wire: Wire, changes: dict[str, Any]
) -> None:
    with pytest.raises(EngineRejectedError) as caught:
        await ask(wire, **changes)
    assert caught.value.status == 400
    await wire.settles_at(0)


async def test_an_adapter_is_loaded_listed_used_and_unloaded_under_a_name_of_its_own(wire: Wire) -> None:
    if wire.adapter is None:
        pytest.skip("the given engine's adapters are not ours")
    loader = AdapterLoader(wire.url, wire.session)
    name = "m-adapter-00000001"
    with pytest.raises(AdapterNotFoundError):
        await loader.load(name, wire.adapter / "nowhere")
    with pytest.raises(AdapterExistsError):
        await loader.load(wire.name, wire.adapter)
    await loader.load(name, wire.adapter)
    try:
        with pytest.raises(AdapterExistsError):
            await loader.load(name, wire.adapter)
        assert await wire.pool.ready(name)
        adapted, plain = [await text(wire, served_name=one) for one in (name, wire.name)]
        assert adapted
        assert adapted != plain
    finally:
        await loader.unload(name)
    assert not await wire.pool.ready(name)
    with pytest.raises(AdapterNotFoundError):
        await loader.unload(name)


async def test_the_base_writes_the_same_beside_adapters_in_every_slot(wire: Wire) -> None:
    """Without `serving.vllm_plugin` vLLM on CPU mixes the last slot's adapter into what the base writes."""
    if wire.adapter is None:
        pytest.skip("the given engine's adapters are not ours")
    loader = AdapterLoader(wire.url, wire.session)
    names = [f"m-adapter-{number:08}" for number in range(10, 10 + ADAPTER_SLOTS)]
    loaded: list[str] = []
    alone = await read_probes(wire.session, wire.url, wire.name)
    try:
        for name in names:
            await loader.load(name, wire.adapter)
            loaded.append(name)
        beside, *_ = await asyncio.gather(
            read_probes(wire.session, wire.url, wire.name),
            *(read_probes(wire.session, wire.url, name) for name in names[:2]),
        )
    finally:
        for name in loaded:
            await loader.unload(name)
    # Batches of another size add in another order.
    assert distance(alone.places, beside.places) <= FLOOR_NATS


async def test_an_engine_says_since_when_it_runs_and_of_which_release_it_is(wire: Wire) -> None:
    look = await look_at(wire.session, wire.url)
    assert float(look.started) > 1e9
    assert (await look_at(wire.session, wire.url)).started == look.started
    assert re.fullmatch(r"vllm \d\S+", look.build)
    assert [model.parent for model in look.models if model.name == wire.name] == [None]


async def test_an_adapter_that_cannot_be_read_is_refused_and_not_listed(wire: Wire) -> None:
    if wire.broken is None:
        pytest.skip("the given engine's adapters are not ours")
    with pytest.raises(AdapterError) as caught:
        await AdapterLoader(wire.url, wire.session).load("m-adapter-00000002", wire.broken)
    assert type(caught.value) is AdapterError
    assert "add_lora" in str(caught.value)
    assert not await wire.pool.ready("m-adapter-00000002")
    assert await wire.pool.ready(wire.name)


async def test_a_route_that_is_not_there_is_told_from_an_adapter_that_is_not_there(wire: Wire) -> None:
    """So an engine that loads no adapters answers; the address is one that no engine knows."""
    with pytest.raises(AdapterError, match="does not load adapters at run time"):
        await AdapterLoader(f"{wire.root}/elsewhere/v1", wire.session).unload("m-adapter-00000002")


async def test_likely_tokens_show_whose_weights_answer(wire: Wire) -> None:
    base = await read_probes(wire.session, wire.url, wire.name)
    assert len(base.places) == len(PROBES)
    for places in base.places:
        assert 1 <= len(places) <= TOKENS
        for written, likely in places:
            assert written in likely
            # Two tokens may read alike.
            assert LIKELIEST / 2 < len(likely) <= LIKELIEST
            assert max(likely.values()) <= 0
    again = await read_probes(wire.session, wire.url, wire.name)
    assert distance(base.places, again.places) <= FLOOR_NATS
    if wire.adapter is None:
        return  # the given engine's adapters are not ours
    loader, name = AdapterLoader(wire.url, wire.session), "m-adapter-00000003"
    await loader.load(name, wire.adapter)
    try:
        listed = {model.name: model for model in (await look_at(wire.session, wire.url)).models}
        assert (listed[name].parent, listed[name].root) == (wire.name, str(wire.adapter))
        reading = await read_probes(wire.session, wire.url, name)
    finally:
        await loader.unload(name)
    result = judge_adapter(reading, base=base, base_again=again, adapter_digest="a" * 64)
    assert result.passed, result.reason
