"""Reviewed turns of the real gateway come out as files, and a regression test is asked again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from eval.cases import load_cases
from eval.cli import main
from eval.settings import EvalSettings
from tests.integration.gateway.conftest import (
    PRICE_QUESTION,
    REFUND_QUESTION,
    Gateway,
    gateway,
    reply,
    settings,
    without_a_document,
)

__all__ = ["gateway", "settings"]

WRONG = reply("Sync Plus costs $90 a month.")
RIGHT = reply("Sync Plus costs $9 a month or $90 a year.")


async def reviewed(gateway: Gateway, question: str, reading: dict[str, Any], **body: Any) -> str:
    """A turn that somebody disliked, and what a reader said of it."""
    key = gateway.keys.evaluation if "pin" in body else None
    status, answer, _ = await gateway.post("/v1/answers", {"question": question, **body}, key=key)
    assert status == 200, answer
    await gateway.stored(answer["id"])
    asked = {"turn_id": answer["id"], "reason": "canary_disagreement"}
    status, told, _ = await gateway.post("/v1/reviews", asked, key=gateway.keys.staff)
    assert status == 200, told
    status, told, _ = await gateway.post(f"/v1/reviews/{answer['id']}", reading, key=gateway.keys.staff)
    assert (status, told.get("state")) == (200, "closed"), told
    return str(answer["id"])


async def test_each_ending_has_its_file_and_a_regression_test_is_asked_again(
    gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.vllm.program(gateway.stable, answer=WRONG)
    before = {"question": REFUND_QUESTION, "conversation_id": "talk"}
    _, first, _ = await gateway.post("/v1/answers", before)
    turn = await reviewed(
        gateway,
        PRICE_QUESTION,
        {
            "ending": "regression_test",
            "label": "weak_reasoning",
            "sub": "wrong_passage",
            "corrected_answer": "Sync Plus costs $9 a month.",
        },
        conversation_id="talk",
    )
    example = {"ending": "training_example", "label": "wrong_tone", "corrected_answer": "It is $9 a month."}
    await reviewed(gateway, f"{PRICE_QUESTION} Reply to ann@example.org", example)
    await reviewed(
        gateway,
        "Will you pay me back today?",
        {"ending": "policy_case", "label": "policy_violation", "sub": "must_escalate"},
    )
    await reviewed(
        gateway, "zebra quantum bagpipes", {"ending": "knowledge_gap", "label": "missing_knowledge"}
    )
    await reviewed(gateway, REFUND_QUESTION, {"ending": "no_fault"})
    await reviewed(gateway, REFUND_QUESTION, example, pin={"model": gateway.stable})

    config = EvalSettings(
        gateway_url=gateway.url,
        api_key=SecretStr(gateway.keys.evaluation),
        attempts=2,
        min_questions=1,
        resamples=200,
    )

    async def run(*words: str) -> int:
        return await asyncio.to_thread(lambda: main(list(words), settings=config))

    out = tmp_path / "reviewed"
    assert await run("export", str(out), "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["endings"] == {
        "knowledge_gap": 1,
        "no_fault": 1,
        "policy_case": 1,
        "regression_test": 1,
        "training_example": 1,
    }
    assert summary["left_out"] == {"asked by an evaluation": 1}
    assert summary["redacted"] == {"email": 1}
    assert json.loads((out / "export.json").read_text()) == summary
    assert set(summary["files"]) == {
        *("gaps.md", "training.jsonl", "policy/questions.jsonl", "regression/questions.jsonl")
    }
    (row,) = map(json.loads, (out / "training.jsonl").read_text().splitlines())
    assert row["question"] == f"{PRICE_QUESTION} Reply to [email]"
    assert row["answer"]["answer"] == "It is $9 a month."
    assert row["passages"][0]["document_id"] == "sync-plus-price"
    assert "zebra quantum bagpipes" in (out / "gaps.md").read_text()
    (policy,) = load_cases(out / "policy")
    assert (policy.status, policy.kind) == ("escalated", "policy")
    (case,) = load_cases(out / "regression")
    assert (case.text, case.gold, case.status) == (PRICE_QUESTION, ("sync-plus-price",), "answered")
    assert case.history[0] == ("user", REFUND_QUESTION)

    files = {path: path.read_bytes() for path in out.rglob("*.*")}
    assert await run("export", str(out)) == 0
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == files, "the same reviews, the same bytes"
    printed = capsys.readouterr().out
    assert "6 closed reviews" in printed
    assert "a person must read it" in printed

    def asked() -> tuple[str, ...]:
        return ("run", "--questions", str(out / "regression"), "--arm", "now=model:stable", "--json")

    assert await run(*asked(), "--run", str(tmp_path / "wrong")) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["arms"]["now"]["metrics"]["answer_right"]["k"] == 0, "still wrong"
    gateway.vllm.program(gateway.stable, answer=RIGHT)
    assert await run(*asked(), "--run", str(tmp_path / "mended")) == 0
    report = json.loads(capsys.readouterr().out)
    metric = report["arms"]["now"]["metrics"]["answer_right"]
    assert (metric["k"], metric["n"]) == (1, 1)
    (seen,) = map(json.loads, (tmp_path / "mended" / "results.jsonl").read_text().splitlines())
    assert seen["case_id"] == f"turn-{turn.replace('-', '')[-12:]}"

    await without_a_document(gateway, first["id"])
    assert await run("export", str(out), "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["left_out"] == {
        "a document was erased from what was said before": 1,
        "asked by an evaluation": 1,
    }
    assert await run("export", str(out), "--evaluations", "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["training_examples"] == {"positive": 2}
    assert await run("export", str(out), "--until", "2026-01-01") == 0
    assert not (out / "training.jsonl").exists(), "what no review stands behind any more goes"
