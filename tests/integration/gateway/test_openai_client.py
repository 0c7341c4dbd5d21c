"""The official `openai` client, unchanged, streaming and not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import openai
import pytest

from tests.integration.gateway.conftest import PRICE_QUESTION, Gateway, reply

PRICE = "Sync Plus costs $9 a month or $90 a year. The free trial of Sync Plus lasts 14 days."


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    gateway.vllm.program(gateway.stable, answer=reply(PRICE))
    async with openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.keys.customer, max_retries=0
    ) as client:
        yield client


async def test_a_completion(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    done = await client.chat.completions.create(
        model="twinrail",
        temperature=0.3,
        user="chat-7",
        messages=[
            {"role": "system", "content": "You are a pirate."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": PRICE_QUESTION},
        ],
    )
    [choice] = done.choices
    assert choice.message.content == PRICE
    assert choice.finish_reason == "stop"
    assert done.model == gateway.stable
    assert done.usage is not None
    assert done.usage.completion_tokens > 0
    first, second = choice.message.annotations or []
    assert PRICE[first.url_citation.start_index : first.url_citation.end_index].endswith("$90 a year.")
    assert second.url_citation.end_index == len(PRICE)
    extra = done.model_extra or {}
    assert extra["twinrail"]["status"] == "answered"
    assert extra["twinrail"]["conversation_id"] == "chat-7"
    sent = [message["content"] for message in gateway.vllm.requests[0]["messages"]]
    assert not any("pirate" in content for content in sent)
    assert "Hello" in sent
    turn = await gateway.turn(extra["twinrail"]["id"])
    assert turn["surface"] == "chat"


async def test_a_stream(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="twinrail",
        messages=[{"role": "user", "content": PRICE_QUESTION}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == PRICE
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert (chunks[-2].model_extra or {})["twinrail"]["status"] == "answered"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None


async def test_models(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    assert [model.id async for model in client.models.list()] == ["twinrail"]
    for_eval = client.with_options(api_key=gateway.keys.evaluation)
    names = [model.id async for model in for_eval.models.list()]
    assert gateway.stable in names
    done = await for_eval.chat.completions.create(
        model=gateway.stable, messages=[{"role": "user", "content": PRICE_QUESTION}]
    )
    assert done.model == gateway.stable
    assert (done.model_extra or {})["twinrail"]["arms"]["model"] == "pinned"


async def test_errors_are_those_of_the_client(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    messages: list[openai.types.chat.ChatCompletionMessageParam] = [
        {"role": "user", "content": PRICE_QUESTION}
    ]
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-9'") as not_found:
        await client.chat.completions.create(model="gpt-9", messages=messages)
    assert not_found.value.param == "model"
    with pytest.raises(openai.PermissionDeniedError):
        await client.chat.completions.create(model=gateway.stable, messages=messages)
    with pytest.raises(openai.BadRequestError, match="n is not supported"):
        await client.chat.completions.create(model="twinrail", messages=messages, n=2)
    with pytest.raises(openai.BadRequestError, match="best_of is not a parameter"):
        await client.chat.completions.create(model="twinrail", messages=messages, extra_body={"best_of": 3})
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="sk-nope").chat.completions.create(
            model="twinrail", messages=messages
        )
