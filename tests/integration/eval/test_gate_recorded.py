"""A gate's verdict on the gateway itself: stored with its report, and asked by a promotion."""

from __future__ import annotations

from typing import Any

from eval.client import GatewayClient
from eval.gating.gates import decide
from eval.gating.recording import report_on
from eval.gating.rules import GateRules
from eval.gating.verdicts import Subject
from eval.record import RunRecord
from tests.fakes.gate_sides import cases, evidence, marks
from tests.integration.gateway.conftest import Gateway, gateway, settings

__all__ = ["gateway", "settings"]

N = 100
RULES = GateRules.model_validate({"primaries": ["answer_right"], "guards": {}, "limits": {}})
RECORD = RunRecord(
    id="run",
    gateway_url="",
    question_set="set",
    question_set_sha256="0" * 64,
    selection={},
    requested_arms=(),
    arms=(),
    knowledge=(),
)


async def judge(gateway: Gateway, version: str, *, right: int) -> str:
    """Gate a version that has so many of a hundred questions right, 60 being right now; the report's name."""
    subject = Subject(rail="model", version=version, against="m-old-00000001")
    found = evidence(
        {"answer_right": marks(60, N)}, {"answer_right": marks(right, N)}, cases(N), subject=subject
    )
    decision = decide(found, RULES, min_questions=30, resamples=500, seed=1)
    report = report_on(decision, RULES, record=RECORD, stable=found.stable, candidate=found.candidate)
    keys = {"customer": gateway.keys.evaluation}
    client = GatewayClient(gateway.session, url=gateway.url, keys=keys, attempts=3)
    await report.record(client, decision)
    assert await client.put_report(report.name, kind="gate", content=report.content) == report.sha256
    return report.name


async def promote(gateway: Gateway, version: str, **body: Any) -> tuple[int, Any]:
    status, answer, _ = await gateway.post(
        "/v1/rails/model:promote", {"version": version, **body}, key=gateway.keys.release
    )
    return status, answer


async def test_a_refused_version_is_not_promoted_until_a_gate_passes_it(gateway: Gateway) -> None:
    version = gateway.canary
    name = await judge(gateway, version, right=40)
    status, answer = await promote(gateway, version)
    assert status == 409, answer
    assert name in str(answer)
    await judge(gateway, version, right=80)
    status, answer = await promote(gateway, version)
    assert status == 200, answer
