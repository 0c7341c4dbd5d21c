"""Evaluation of the gateway itself: real PostgreSQL and retrieval, a fake vLLM, everything over sockets."""

from __future__ import annotations

import io
from pathlib import Path

import aiohttp

from eval.arms import DEFAULT_ARMS, resolve_arms
from eval.cases import Case, CaseSet
from eval.client import GatewayClient
from eval.metrics import METRICS
from eval.record import RunFolder
from eval.run import measure, plan
from eval.scorers import Score
from eval.scoring import build_scoring
from eval.summary import summarise
from gateway.settings import GatewaySettings
from serving.versions import SCHEMAS
from tests.integration.gateway.conftest import PRICE_QUESTION, REFUND_QUESTION, reply, started

CASES = CaseSet.of(
    "two questions",
    [
        Case(
            id="price",
            topic="plans",
            split="dev",
            text=PRICE_QUESTION,
            gold=("sync-plus-price",),
            facts=(("$9",),),
            status="answered",
            intent="billing",
        ),
        Case(
            id="refund",
            topic="refunds",
            split="dev",
            text=REFUND_QUESTION,
            gold=("refunds",),
            facts=(("30 days",),),
            status="answered",
            intent="billing",
        ),
    ],
)
RIGHT = reply("Sync Plus costs $9 a month or $90 a year.")
INVENTED = reply("Sync Plus costs $7 a month or $70 a year. Refunds take 30 days.")


async def test_three_arms_on_the_real_gateway(database_url: str, tmp_path: Path) -> None:
    settings = GatewaySettings(port=0, spool_dir=tmp_path / "spool", deadline_s=10.0)
    async with started(database_url, tmp_path, settings) as gateway:
        gateway.vllm.program(gateway.stable, answer=RIGHT)
        gateway.vllm.program(gateway.fallback, answer=INVENTED)
        async with aiohttp.ClientSession() as session:
            client = GatewayClient(
                session, url=gateway.url, keys={"customer": gateway.keys.evaluation}, attempts=3
            )
            pointers = await client.pointers()
            record = plan(
                run_id="real",
                gateway_url=gateway.url,
                cases=CASES,
                selection={},
                requested=DEFAULT_ARMS,
                arms=resolve_arms(DEFAULT_ARMS, pointers),
                stable_knowledge=pointers["knowledge"]["stable"],
            )
            folder = RunFolder(tmp_path / "run")
            folder.create(record, CASES)
            data = await measure(folder, client, concurrency=2, out=io.StringIO())

        price = {arm: data.observations["price", arm] for arm in ("prompt_only", "rag_base", "rag_tuned")}
        assert all(not seen.failed for seen in price.values()), price
        assert price["rag_tuned"].knowledge_version == record.knowledge[0]
        assert price["rag_tuned"].model_version == gateway.stable
        assert price["rag_base"].model_version == gateway.fallback
        assert price["prompt_only"].knowledge_version == ""
        assert price["rag_tuned"].packed[0].document_id == "sync-plus-price"
        assert price["rag_tuned"].prompt_tokens

        scoring = build_scoring(schema=SCHEMAS / "support_answer.json")
        summary = summarise(data, scoring, min_questions=2, resamples=200, seed=1)
        tuned = summary.outcomes["price", "rag_tuned"]
        elsewhere = {"corrected", "abstained_when_due", "escalation_recall", "escalation_precision"}
        expected_to_apply = {metric.name for metric in METRICS} - elsewhere
        assert {name for name, outcome in tuned.items() if isinstance(outcome, Score)} == expected_to_apply
        assert tuned["hit"] == Score(1.0, "sync-plus-price")
        assert tuned["answer_right"] == Score(1.0)
        assert tuned["citations_valid"] == Score(1.0)
        assert tuned["hallucination_draft"] == Score(0.0)

        base = summary.outcomes["price", "rag_base"]
        assert base["format_valid"] == Score(1.0), "read to its end although a sentence failed"
        assert isinstance(base["hallucination_draft"], Score)
        assert base["hallucination_draft"].value == 1
        assert base["hallucination_served"] == Score(0.0, "fixed wording")

        guessed = summary.outcomes["price", "prompt_only"]
        assert isinstance(guessed["hallucination_served"], Score)
        assert guessed["hallucination_served"].value == 1, "held against the search, served without check"
        assert [result.ndcg_at_10 for result in summary.rankings] == [1.0]
