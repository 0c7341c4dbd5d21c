"""Confidence that nearly suffices: a question back, through HTTP, with the articles that it may be about."""

from __future__ import annotations

import pytest

from gateway.settings import GatewaySettings
from retrieval.calibrating import save_calibration
from retrieval.confidence import Calibration, FittedCalibration
from retrieval.store import KnowledgeStore
from serving.wording import load_wording
from tests.integration.gateway.conftest import Gateway

#: Guests and Sync Plus: two articles of the three.
BETWEEN = "Sync Plus guests"


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    return settings.model_copy(update={"clarify": "on"})


async def judge_all(gateway: Gateway, *, confidence_logit: float, abstain_below: float) -> str:
    """Make every search of the tenant equally sure; the name of that calibration."""
    store = KnowledgeStore(gateway.chunks)
    fitted = FittedCalibration(
        calibration=Calibration(intercept=confidence_logit, weights={}), abstain_below=abstain_below
    )
    version = (await store.pointer()).stable
    await save_calibration(store, fitted, tenant="acme", version=version, evidence={})
    return fitted.name


async def test_close_articles_are_offered_and_no_model_is_asked(gateway: Gateway) -> None:
    calibration = await judge_all(gateway, confidence_logit=0.0, abstain_below=0.8)
    _, body, _ = await gateway.post("/v1/answers", {"question": BETWEEN})
    assert body["status"] == "clarify"
    lines = body["answer"].splitlines()
    assert lines[0] == load_wording().clarify
    choices = body["fields"]["choices"]
    assert lines[1:] == [f"- {choice['title']}" for choice in choices]
    assert {choice["document_id"] for choice in choices} >= {"guests", "sync-plus-price"}
    assert 2 <= len(choices) <= 3
    assert body["citations"] == []
    assert gateway.vllm.requests == []
    turn = await gateway.turn(body["id"])
    assert turn["ticket"] is None
    assert turn["used"]["retrieval"]["calibration"] == calibration
    assert turn["used"]["retrieval"]["abstain_below"] == 0.8
    assert turn["used"]["retrieval"]["features"]["top_dense"] > 0


async def test_whoever_is_still_not_understood_gets_a_person(gateway: Gateway) -> None:
    await judge_all(gateway, confidence_logit=0.0, abstain_below=0.8)
    asked = f"{load_wording().clarify}\n- guests\n- sync-plus-price"
    history = [{"role": "user", "content": BETWEEN}, {"role": "assistant", "content": asked}]
    _, body, _ = await gateway.post("/v1/answers", {"question": BETWEEN, "history": history})
    assert body["status"] == "abstained"
    assert (await gateway.turn(body["id"]))["ticket"] == "abstained"


async def test_far_below_the_threshold_nothing_is_offered(gateway: Gateway) -> None:
    await judge_all(gateway, confidence_logit=-1.0, abstain_below=0.8)
    _, body, _ = await gateway.post("/v1/answers", {"question": BETWEEN})
    assert body["status"] == "abstained"


async def test_a_stream_carries_the_question_back(gateway: Gateway) -> None:
    await judge_all(gateway, confidence_logit=0.0, abstain_below=0.8)
    async with gateway.session.post(
        gateway.url + "/v1/answers", json={"question": BETWEEN, "stream": True}, headers=gateway.headers()
    ) as response:
        text = await response.text()
    assert '"status":"clarify"' in text.replace(" ", "")
    assert load_wording().clarify in text


class TestSwitchedOff:
    """The default: abstaining, as ever."""

    @pytest.fixture
    def settings(self, settings: GatewaySettings) -> GatewaySettings:
        return settings.model_copy(update={"clarify": "off"})

    async def test_nothing_is_asked_back(self, gateway: Gateway) -> None:
        await judge_all(gateway, confidence_logit=0.0, abstain_below=0.8)
        _, body, _ = await gateway.post("/v1/answers", {"question": BETWEEN})
        assert body["status"] == "abstained"
