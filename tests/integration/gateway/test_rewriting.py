"""The gateway's rewriter over the chat client, against the fake of vLLM's wire."""

from __future__ import annotations

import pytest

from gateway.rewriting import SYSTEM, ModelRewriter
from retrieval.errors import RewriteError
from retrieval.hits import Said
from serving.client import ChatClient
from serving.pool import EnginePool
from serving.registry import ModelRegistry
from tests.integration.gateway.conftest import Gateway

HISTORY = (
    Said(role="user", text="How much is Sync Plus a month?"),
    Said(role="assistant", text="Sync Plus is $9 a month."),
)


@pytest.fixture
def rewriter(gateway: Gateway) -> ModelRewriter:
    engine_url = gateway.state.engines  # the same engines that answers use
    assert isinstance(engine_url, EnginePool)
    return ModelRewriter(
        chat=ChatClient(session=gateway.session, engines=engine_url), models=ModelRegistry(gateway.records)
    )


async def test_the_fallback_model_writes_a_question_that_stands_alone(
    gateway: Gateway, rewriter: ModelRewriter
) -> None:
    gateway.vllm.program(gateway.fallback, answer='"How much is Sync Plus a year?"\nI hope this helps.')
    assert await rewriter.rewrite("And a year?", HISTORY, timeout_s=5.0) == "How much is Sync Plus a year?"
    [request] = gateway.vllm.requests
    assert request["model"] == gateway.fallback
    assert request["max_tokens"] == 40
    system, talk = request["messages"]
    assert system["content"] == SYSTEM
    assert talk["content"].splitlines() == [
        "user: How much is Sync Plus a month?",
        "assistant: Sync Plus is $9 a month.",
        "user: And a year?",
    ]
    assert request["cache_salt"]
    assert "response_format" not in request
    assert "structured_outputs" not in request


async def test_silence_and_faults_are_a_rewrite_error(gateway: Gateway, rewriter: ModelRewriter) -> None:
    gateway.vllm.program(gateway.fallback, answer=" \n ... ")
    with pytest.raises(RewriteError, match="wrote no question"):
        await rewriter.rewrite("And a year?", HISTORY, timeout_s=5.0)
    gateway.vllm.program(gateway.fallback, status=500)
    with pytest.raises(RewriteError, match="model-1"):
        await rewriter.rewrite("And a year?", HISTORY, timeout_s=5.0)


async def test_a_model_that_takes_too_long_is_a_rewrite_error(
    gateway: Gateway, rewriter: ModelRewriter
) -> None:
    gateway.vllm.program(gateway.fallback, hang=True)
    with pytest.raises(RewriteError):
        await rewriter.rewrite("And a year?", HISTORY, timeout_s=0.2)
