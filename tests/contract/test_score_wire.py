"""What the remote reranker says and hears has the form of vLLM's own protocol classes."""

from __future__ import annotations

import aiohttp
import pytest

from retrieval.reranking import HttpReranker
from tests.fakes.score_server import FakeScores


@pytest.mark.e2e  # importing vLLM takes longer than all unit tests
async def test_request_and_answer_are_vllms() -> None:
    protocol = pytest.importorskip("vllm.entrypoints.pooling.scoring.protocol")
    service = FakeScores()
    async with service.serving() as base_url, aiohttp.ClientSession() as session:
        await HttpReranker(session, base_url=base_url, model="m").scores("red sky", ["blue sea", "red hen"])
    request = protocol.ScoreTextRequest.model_validate(service.asked[0])
    # vLLM takes fields that it does not know; all of ours are ones that it does.
    assert not request.model_extra
    assert (request.data_1, request.data_2) == ("red sky", ["blue sea", "red hen"])
    assert request.use_activation is False
    answer = protocol.ScoreResponse.model_validate(service.answered[0])
    assert not answer.model_extra
    assert {row.index: row.score for row in answer.data} == {0: 0.0, 1: 1.0}
