"""The chat client against the fake wire: every fault becomes a typed error, every departure frees the
engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from serving.client import ChatClient, ChatDelta, ChatRequest
from serving.engines import EnginePool
from serving.errors import (
    EngineRejectedError,
    EngineStreamError,
    EngineTimeoutError,
    EngineUnavailableError,
    ModelNotServedError,
)
from serving.prompting import Message
from tests.fakes.vllm_server import DEFAULT_ANSWER, FakeVllm

MESSAGES = (Message("system", "Answer."), Message("user", "How long is the refund period?"))


@dataclass(frozen=True, slots=True)
class Bench:
    fake: FakeVllm
    client: ChatClient
    pool: EnginePool
    url: str
    session: aiohttp.ClientSession

    async def ask(self, **changes: Any) -> list[ChatDelta]:
        request = ChatRequest(**{"served_name": "m-fake", "messages": MESSAGES} | changes)
        return [delta async for delta in self.client.stream(request)]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    fake = FakeVllm()
    async with fake.serving() as url, aiohttp.ClientSession() as session:
        pool = EnginePool([url], session)
        yield Bench(fake, ChatClient(session=session, engines=pool), pool, url, session)


async def test_the_last_delta_says_why_it_ended_and_what_it_cost(
    bench: Bench,
) -> None:
    bench.fake.program("m-fake", cached_tokens=3)
    deltas = await bench.ask()
    assert "".join(delta.text for delta in deltas) == DEFAULT_ANSWER
    assert all(delta.finish_reason is None for delta in deltas[:-1])
    last = deltas[-1]
    assert last.finish_reason == "stop"
    assert last.usage is not None
    assert last.usage.input_tokens == 7
    assert last.usage.cached_tokens == 3


async def test_the_schema_goes_out_as_a_strict_response_format_in_the_schemas_own_order(bench: Bench) -> None:
    schema = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "string"}}}
    await bench.ask(schema=schema, cache_salt="tenant-salt")
    (body,) = bench.fake.requests
    assert list(body["response_format"]["json_schema"]["schema"]["properties"]) == ["b", "a"]
    assert body["cache_salt"] == "tenant-salt"
    await bench.ask()
    assert "response_format" not in bench.fake.requests[-1]
    assert "cache_salt" not in bench.fake.requests[-1]


@pytest.mark.parametrize("wire", [{"one_byte": True}, {"keep_alive": True}, {"chunk_chars": 1}])
async def test_bytes_in_any_pieces_give_the_same_text(bench: Bench, wire: dict[str, Any]) -> None:
    bench.fake.program("m-fake", answer="Prix : 9 \u20ac \u2014 caf\u00e9 \U0001f600", **wire)
    assert "".join(delta.text for delta in await bench.ask()) == "Prix : 9 \u20ac \u2014 caf\u00e9 \U0001f600"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"status": 400, "message": "bad schema"}, EngineRejectedError),
        ({"status": 404}, ModelNotServedError),
        ({"status": 429, "retry_after": "7"}, EngineUnavailableError),
        ({"status": 503, "retry_after": "7"}, EngineUnavailableError),
        ({"status": 500}, EngineUnavailableError),
        ({"reset_after": 3}, EngineStreamError),
        ({"garbage_after": 3}, EngineStreamError),
        ({"error_after": 3}, EngineStreamError),
        ({"no_done": True}, EngineStreamError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "-".join(value),
)
async def test_each_fault_is_one_typed_error(
    bench: Bench, fault: dict[str, Any], error: type[Exception]
) -> None:
    bench.fake.program("m-fake", **fault)
    with pytest.raises(error) as caught:
        await bench.ask()
    if "retry_after" in fault:
        assert isinstance(caught.value, EngineUnavailableError)
        assert caught.value.retry_after_s == 7.0
    if "message" in fault:
        assert "bad schema" in str(caught.value)
    await bench.fake.idle()


@pytest.mark.parametrize(
    ("fault", "limits", "stage"),
    [
        ({"hang": True}, {"first_token_timeout_s": 0.05}, "first_token"),
        ({"stall_after": 0}, {"first_token_timeout_s": 0.05}, "first_token"),
        ({"stall_after": 3}, {"idle_timeout_s": 0.05}, "idle"),
        ({"between_tokens_s": 0.02}, {"timeout_s": 0.1}, "total"),
    ],
)
async def test_a_missed_deadline_names_its_stage_and_frees_the_engine(
    bench: Bench, fault: dict[str, Any], limits: dict[str, float], stage: str
) -> None:
    bench.fake.program("m-fake", **fault)
    with pytest.raises(EngineTimeoutError) as caught:
        await bench.ask(**limits)
    assert caught.value.stage == stage
    await asyncio.wait_for(bench.fake.idle(), 5)


async def test_tokens_that_came_together_are_one_delta(bench: Bench) -> None:
    bench.fake.program("m-fake", chunk_chars=2)
    stream = bench.client.stream(ChatRequest(served_name="m-fake", messages=MESSAGES))
    taken = [await anext(stream)]
    await bench.fake.idle()  # meanwhile all of it has come
    taken += [delta async for delta in stream]
    assert "".join(delta.text for delta in taken) == DEFAULT_ANSWER
    assert len(taken) < len(DEFAULT_ANSWER) // 4


async def test_text_before_a_fault_is_given_before_the_fault(bench: Bench) -> None:
    bench.fake.program("m-fake", error_after=3)
    taken: list[str] = []
    with pytest.raises(EngineStreamError):
        await _gather(bench.client.stream(ChatRequest(served_name="m-fake", messages=MESSAGES)), taken)
    assert "".join(taken) == DEFAULT_ANSWER[: 3 * 4]


async def _gather(stream: AsyncIterator[ChatDelta], texts: list[str]) -> None:
    async for delta in stream:
        texts += [delta.text]


async def test_a_slow_reader_is_not_a_silent_engine(bench: Bench) -> None:
    bench.fake.program("m-fake", between_tokens_s=0.001)
    request = ChatRequest(served_name="m-fake", messages=MESSAGES, idle_timeout_s=0.5)
    stream = bench.client.stream(request)
    text = (await anext(stream)).text
    await asyncio.sleep(0.6)
    text += "".join([delta.text async for delta in stream])
    assert text == DEFAULT_ANSWER


async def test_leaving_the_stream_early_aborts_the_generation(bench: Bench) -> None:
    bench.fake.program("m-fake", stall_after=2)
    stream = bench.client.stream(ChatRequest(served_name="m-fake", messages=MESSAGES))
    assert (await anext(stream)).text
    await stream.aclose()
    await asyncio.wait_for(bench.fake.idle(), 5)
    assert bench.fake.aborted == 1


async def test_cancelling_before_the_first_token_aborts_the_generation(bench: Bench) -> None:
    bench.fake.program("m-fake", hang=True)
    task = asyncio.create_task(bench.ask())
    await bench.fake.busy()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(bench.fake.idle(), 5)


async def test_a_name_that_no_engine_serves_is_refused_without_a_generation(bench: Bench) -> None:
    with pytest.raises(ModelNotServedError, match=r"m-other.*served: m-fake"):
        await bench.ask(served_name="m-other")
    assert not bench.fake.requests


async def test_an_engine_that_cannot_be_reached_is_left_for_the_next_one(bench: Bench) -> None:
    gone = FakeVllm()
    async with gone.serving() as url:
        pool = EnginePool([url, bench.url], bench.session)
        assert await pool.ready("m-fake")
        held = pool.lease(bench.url)
        held.__enter__()
    client = ChatClient(session=bench.session, engines=pool)
    request = ChatRequest(served_name="m-fake", messages=MESSAGES)
    assert [delta.finish_reason async for delta in client.stream(request)][-1] == "stop"
    held.__exit__(None, None, None)


async def test_no_engine_at_all_is_unavailable_and_retryable(bench: Bench) -> None:
    gone = FakeVllm()
    async with gone.serving() as url:
        pass
    client = ChatClient(session=bench.session, engines=EnginePool([url], bench.session))
    with pytest.raises(EngineUnavailableError) as caught:
        await anext(client.stream(ChatRequest(served_name="m-fake", messages=MESSAGES)))
    assert caught.value.retryable


async def test_the_pool_asks_for_models_once_however_many_requests_run(bench: Bench) -> None:
    await asyncio.gather(*(bench.ask() for _ in range(20)))
    assert bench.fake.listed <= 2


async def test_the_least_busy_engine_is_chosen(bench: Bench) -> None:
    async with FakeVllm().serving() as other:
        pool = EnginePool([bench.url, other], bench.session)
        with pool.lease(await pool.choose("m-fake")):
            assert await pool.choose("m-fake") == other
