"""What is sent to an endpoint of somebody else's, what it may cost, and how it is known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr, ValidationError

from serving.client import ChatRequest
from serving.endpoint import Endpoint, open_endpoint
from serving.errors import EngineRejectedError, EngineStreamError, EngineUnavailableError
from serving.prompting import Message, PromptTemplate
from serving.settings import ServingSettings
from serving.versions import SCHEMAS, ModelVersion, RegisteredVersion, load_task_schema
from tests.fakes.vllm_server import FakeVllm

BASE = RegisteredVersion(
    version=ModelVersion(
        name="base",
        base_digest="b" * 64,
        adapter_digest="a" * 64,
        prompt=PromptTemplate(name="strong", system="Answer as JSON."),
        task="support_answer",
        schema=load_task_schema(SCHEMAS / "support_answer.json"),
    ),
    served_name="m-base",
    manifest={},
    releasable=True,
    author="",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)


@dataclass(frozen=True, kw_only=True)
class Outside:
    """A fake endpoint and ours of it."""

    fake: FakeVllm
    endpoint: Endpoint

    async def ask(self) -> str:
        """What it writes to a question."""
        version = self.endpoint.version_like(BASE)
        request = ChatRequest(
            served_name=version.served_name,
            messages=[Message("user", "Hello?")],
            schema=version.version.schema,
            decoding=version.version.decoding,
            timeout_s=5,
            first_token_timeout_s=5,
        )
        return "".join([delta.text async for delta in self.endpoint.chat.stream(request)])


@pytest.fixture
async def outside() -> AsyncIterator[Outside]:
    fake = FakeVllm(models={})
    fake.program("big-model")
    async with fake.serving() as url, aiohttp.ClientSession() as session:
        settings = ServingSettings(
            endpoint_url=url, endpoint_model="big-model", endpoint_api_key=SecretStr("k")
        )
        endpoint = open_endpoint(settings, session)
        assert endpoint is not None
        yield Outside(fake=fake, endpoint=endpoint)


async def test_only_the_prompt_leaves(outside: Outside) -> None:
    assert await outside.ask()
    [body], [headers] = outside.fake.requests, outside.fake.headers
    assert body["model"] == "big-model"
    assert body.keys() == {
        "model", "messages", "max_tokens", "temperature", "top_p", "seed", "stream", "stream_options",
        "response_format",
    }  # fmt: skip
    assert headers["Authorization"] == "Bearer k"
    assert not {name.lower() for name in headers} & {"traceparent", "tracestate", "baggage"}
    assert outside.fake.listed == 0, "it need not list its models"


async def test_an_endpoint_that_refuses_or_is_away(outside: Outside) -> None:
    outside.fake.program("big-model", status=401)
    with pytest.raises(EngineRejectedError):
        await outside.ask()
    outside.fake.program("big-model", status=503)
    with pytest.raises(EngineUnavailableError):
        await outside.ask()


@pytest.mark.parametrize(
    "event",
    [
        '{"choices": 3}',
        '{"choices": [null]}',
        '{"choices": [{"delta": "Hello"}]}',
        '{"choices": [{"delta": {"content": [{"type": "text", "text": "Hello"}]}}]}',
        '{"choices": [], "usage": 3}',
        '{"choices": [], "usage": {"prompt_tokens": "many"}}',
    ],
)
async def test_an_event_of_another_form_is_an_error_of_the_endpoint(event: str) -> None:
    """Else the question would end in a fault of ours in place of the fixed wording."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=f"data: {event}\n\n", content_type="text/event-stream")

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        settings = ServingSettings(endpoint_url=str(server.make_url("/v1")), endpoint_model="m")
        endpoint = open_endpoint(settings, session)
        assert endpoint is not None
        with pytest.raises(EngineStreamError, match="of another form"):
            await Outside(fake=FakeVllm(), endpoint=endpoint).ask()


async def test_nobody_answers_at_the_address() -> None:
    async with aiohttp.ClientSession() as session:
        settings = ServingSettings(endpoint_url="http://127.0.0.1:9/v1", endpoint_model="m")
        endpoint = open_endpoint(settings, session)
        assert endpoint is not None
        with pytest.raises(EngineUnavailableError, match="cannot be reached"):
            await Outside(fake=FakeVllm(), endpoint=endpoint).ask()


async def test_its_version_says_whose_prompt_it_is_and_nobody_s_weights(outside: Outside) -> None:
    version = outside.endpoint.version_like(BASE)
    assert version.id.startswith("m-endpoint-")
    assert outside.endpoint.version_like(BASE) is version
    assert version.version.adapter_digest is None
    assert version.version.base_digest != BASE.version.base_digest
    other = replace(
        BASE, version=replace(BASE.version, prompt=PromptTemplate(name="other", system="Say no."))
    )
    assert outside.endpoint.version_like(other).id != version.id


def test_the_tokens_of_an_hour() -> None:
    now = 0.0
    endpoint = Endpoint(
        url="https://models.example/v1",
        model="m",
        chat=None,  # type: ignore[arg-type]
        tokens_an_hour=100,
        clock=lambda: now,
    )

    def fits(tokens: int) -> bool:
        with endpoint.set_aside(tokens) as kept:
            if kept is None:
                return False
            kept.used = 0
            return True

    with endpoint.set_aside(90) as first:
        assert first is not None
        # What one has set aside, no other can have.
        assert (fits(10), fits(11)) == (True, False)
        first.used = 60
    assert (fits(40), fits(41)) == (True, False)
    now = 1800.0
    with pytest.raises(ValueError, match="left"), endpoint.set_aside(40):
        raise ValueError("left")  # nobody knows what it used: all of it counts
    assert not fits(1)
    now = 3600.0
    assert (fits(60), fits(61)) == (True, False)
    now = 5400.0
    with endpoint.set_aside(100) as more:
        assert more is not None
        more.used = 130  # its own tokenizer finds more
    assert not fits(1)


async def test_settings_that_name_no_endpoint_or_half_of_one() -> None:
    async with aiohttp.ClientSession() as session:
        assert open_endpoint(ServingSettings(), session) is None
    with pytest.raises(ValidationError, match="name the model to ask for there"):
        ServingSettings(endpoint_url="https://models.example/v1")
    with pytest.raises(ValidationError, match="is not an http"):
        ServingSettings(endpoint_url="models.example", endpoint_model="m")
