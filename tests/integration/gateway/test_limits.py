"""Limits of a key, and streams that stay open while the model is silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.settings import GatewaySettings
from tests.integration.gateway.conftest import REFUND_QUESTION, Gateway, reply

REFUND = "A full refund is possible within 30 days of a yearly renewal."


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    return GatewaySettings(
        port=0, spool_dir=tmp_path / "spool", requests_per_minute=1, burst=3, keepalive_s=0.05
    )


async def test_a_key_over_its_rate_gets_429_and_the_others_do_not(gateway: Gateway) -> None:
    gateway.vllm.program(gateway.stable, answer=reply(REFUND))
    ask = {"question": REFUND_QUESTION}
    statuses = [(await gateway.post("/v1/answers", ask))[0] for _ in range(3)]
    assert statuses == [200, 200, 200]
    for path, body in (("/v1/answers", ask), ("/v1/search", ask)):
        status, problem, headers = await gateway.post(path, body)
        assert (status, problem["type"]) == (429, "urn:twinrail:problem:rate-limited")
        assert 1 <= int(headers["retry-after"]) <= 60
        assert problem["fix"]
    assert (await gateway.post("/v1/answers", ask, key=gateway.keys.staff))[0] == 200
    assert len(gateway.vllm.requests) == 4


async def test_a_silent_stream_sends_comments(gateway: Gateway) -> None:
    gateway.vllm.program(gateway.stable, answer=reply(REFUND), first_token_s=0.5)
    async with gateway.session.post(
        f"{gateway.url}/v1/answers",
        json={"question": REFUND_QUESTION, "stream": True},
        headers=gateway.headers(),
    ) as response:
        text = await response.text()
    assert text.startswith(": keep-alive\n\n")
    assert "event: answer.completed" in text
