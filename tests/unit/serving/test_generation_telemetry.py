"""The `chat` span and the metrics of a generation: names, attributes, and that both end when the stream
does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from serving.client import ChatClient, ChatRequest
from serving.engines import EnginePool
from serving.errors import EngineStreamError
from serving.prompting import Message
from tests.fakes.telemetry import Recorded, recorded
from tests.fakes.vllm_server import FakeVllm

MESSAGES = (Message("user", "secret words of a customer"),)


@pytest.fixture
def telemetry() -> Iterator[Recorded]:
    recorder = recorded()
    recorder.clear()
    yield recorder
    recorder.clear()


@pytest.fixture
async def fake() -> AsyncIterator[tuple[FakeVllm, ChatClient]]:
    server = FakeVllm()
    async with server.serving() as url, aiohttp.ClientSession() as session:
        yield server, ChatClient(session=session, engines=EnginePool([url], session))


def request(version: str) -> ChatRequest:
    return ChatRequest(
        served_name="m-fake", messages=MESSAGES, version=version, arm="canary", prompt_name="support_short"
    )


def of_version(telemetry: Recorded, metric: str, version: str) -> list[tuple[Any, Any]]:
    points = telemetry.points(metric)
    return [(labels, point) for labels, point in points if labels["twinrail.model.version"] == version]


async def test_a_generation_is_one_client_span_whose_trace_the_engine_joins(
    telemetry: Recorded, fake: tuple[FakeVllm, ChatClient]
) -> None:
    server, client = fake
    server.program("m-fake", cached_tokens=2)
    with trace.get_tracer("test").start_as_current_span("turn") as turn:
        async for _ in client.stream(request("m-one")):
            pass
    (span, _turn) = telemetry.spans()
    assert span.name == "chat m-fake"
    assert span.kind is SpanKind.CLIENT
    assert span.parent is not None
    assert span.parent.span_id == turn.get_span_context().span_id
    assert span.context is not None
    assert f"{span.context.span_id:016x}" in server.headers[0]["traceparent"]
    attributes = dict(span.attributes or {})
    assert attributes["gen_ai.operation.name"] == "chat"
    assert attributes["gen_ai.request.model"] == "m-fake"
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert attributes["gen_ai.usage.input_tokens"] == 5
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 2
    assert attributes["gen_ai.prompt.name"] == "support_short"
    assert attributes["twinrail.model.version"] == "m-one"
    assert attributes["twinrail.rollout.model.arm"] == "canary"
    assert attributes["server.address"] == "127.0.0.1"
    assert span.status.status_code is StatusCode.UNSET
    assert "secret" not in str(attributes)


async def test_the_metrics_carry_the_version_and_only_bounded_labels(
    telemetry: Recorded, fake: tuple[FakeVllm, ChatClient]
) -> None:
    _, client = fake
    async for _ in client.stream(request("m-two")):
        pass
    ((labels, duration),) = of_version(telemetry, "gen_ai.client.inference.duration", "m-two")
    assert duration.count == 1
    assert duration.explicit_bounds[0] == 0.01
    assert len(duration.explicit_bounds) == 14
    assert set(labels) == {
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "twinrail.model.version",
        "twinrail.rollout.model.arm",
    }
    assert of_version(telemetry, "gen_ai.client.inference.time_to_first_chunk", "m-two")
    ((_, tokens),) = of_version(telemetry, "gen_ai.client.inference.usage.output_tokens", "m-two")
    assert tokens.value > 10


async def test_a_broken_stream_ends_the_span_with_its_error(
    telemetry: Recorded, fake: tuple[FakeVllm, ChatClient]
) -> None:
    server, client = fake
    server.program("m-fake", reset_after=3)
    with pytest.raises(EngineStreamError):
        async for _ in client.stream(request("m-three")):
            pass
    (span,) = telemetry.spans()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "EngineStreamError"
    ((labels, _),) = of_version(telemetry, "twinrail.generation.finishes", "m-three")
    assert labels["gen_ai.response.finish_reason"] == "error"


async def test_a_reader_that_leaves_ends_the_span_as_cancelled_not_failed(
    telemetry: Recorded, fake: tuple[FakeVllm, ChatClient]
) -> None:
    server, client = fake
    server.program("m-fake", stall_after=2)
    stream = client.stream(request("m-four"))
    await anext(stream)
    assert telemetry.spans() == ()
    await stream.aclose()
    (span,) = telemetry.spans()
    assert span.status.status_code is StatusCode.UNSET
    assert (span.attributes or {})["error.type"] == "cancelled"
