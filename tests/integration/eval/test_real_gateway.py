"""Evaluation of the gateway itself: real PostgreSQL and retrieval, a fake vLLM, everything over sockets."""

from __future__ import annotations

import io
from pathlib import Path

import aiohttp
import pytest

from eval.arms import DEFAULT_ARMS
from eval.cases import Case, CaseSet
from eval.client import GatewayClient
from eval.comparing import Query, pin_sides, search_both
from eval.differences import compare_versions
from eval.labelling.asking import add_documents, add_reruns
from eval.labelling.corpus import CorpusFile
from eval.labelling.counterfactuals import RerunFile, Reruns
from eval.labelling.labels import LabelRecord
from eval.labelling.records import label_run
from eval.metrics import METRICS
from eval.record import RunFolder
from eval.run import Progress
from eval.scorers import Score
from eval.scoring import build_scoring
from eval.summary import summarise
from eval.versions import recorded_questions
from gateway.settings import GatewaySettings
from retrieval.building import build
from retrieval.ingest import ingest
from retrieval.store import KnowledgeStore
from serving.versions import SCHEMAS
from tests.fakes.embedding import WordEmbedder
from tests.fakes.help_centre import write_articles
from tests.fakes.parsers import shared_parsers
from tests.integration.eval.asking import asked_all
from tests.integration.gateway.conftest import (
    PRICE_QUESTION,
    REFUND_QUESTION,
    Gateway,
    gateway,
    reply,
    settings,
    started,
)

__all__ = ["gateway", "settings"]

pytestmark = pytest.mark.usefixtures("help_centre")

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
OTHER_QUESTION = "Are guests free on Sync Team?"
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
            folder = RunFolder(tmp_path / "run")
            data = await asked_all(client, gateway.url, folder, CASES, DEFAULT_ARMS)

        price = {arm: data.observations["price", arm] for arm in ("prompt_only", "rag_base", "rag_tuned")}
        assert all(not seen.failed for seen in price.values()), price
        assert price["rag_tuned"].knowledge_version == data.record.knowledge[0]
        assert price["rag_tuned"].model_version == gateway.stable
        assert price["rag_base"].model_version == gateway.fallback
        assert price["prompt_only"].knowledge_version == ""
        assert price["rag_tuned"].packed[0].document_id == "sync-plus-price"
        assert price["rag_tuned"].prompt_tokens

        scoring = build_scoring(schema=SCHEMAS / "support_answer.json")
        summary = summarise(data, scoring, min_questions=2, resamples=200, seed=1)
        tuned = summary.outcomes["price", "rag_tuned"]
        elsewhere = {
            *("corrected", "abstained_when_due", "escalation_recall", "escalation_precision"),
            *("wording_kept", "refused_when_due"),
        }
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


async def test_two_index_versions_on_the_real_gateway(gateway: Gateway) -> None:
    """Pinned to one snapshot, so that a publish between two searches changes nothing."""
    gateway.vllm.program(gateway.stable, answer=RIGHT)
    for question in (PRICE_QUESTION, REFUND_QUESTION, PRICE_QUESTION, OTHER_QUESTION):
        status, _, _ = await gateway.post("/v1/answers", {"question": question})
        assert status == 200
    await gateway.post("/v1/answers", {"question": "What may agents credit?"}, key=gateway.keys.staff)
    store, embedder = KnowledgeStore(gateway.chunks), WordEmbedder(dims=256)
    (stable,) = await store.versions()
    other = stable.derived(name="lexical", dense_weight=0.0)
    await store.register(other)
    await build(store, {embedder.id: embedder}, other.id)

    keys = {"customer": gateway.keys.evaluation}
    client = GatewayClient(gateway.session, url=gateway.url, keys=keys, attempts=3)
    sides = pin_sides("stable", other.id, (await client.pointers())["knowledge"])
    assert (sides.first, sides.second) == (f"{stable.id}@1", f"{other.id}@1")
    asked = await recorded_questions(client, 50)
    assert {query.case.text for query in asked.queries} == {PRICE_QUESTION, REFUND_QUESTION, OTHER_QUESTION}
    assert asked.left_out == "1 asked again", "and the staff's turn is not for this key"

    queries = (*(Query(case=case) for case in CASES.cases), *asked.queries)
    searched = await search_both(
        client, queries, sides, k=10, concurrency=2, progress=Progress(out=io.StringIO(), total=len(queries))
    )
    assert not any(each.failed for each in searched), searched
    found = compare_versions(searched, sides, k=10, min_questions=2, resamples=200, seed=1)
    assert found.quality is not None
    assert [figure.second for figure in found.quality.figures] == [1.0, 1.0, 1.0, 1.0]
    assert found.agreement.confidence is not None
    assert found.first.median_ms
    assert found.first.abstained is not None


async def test_a_fact_that_was_taken_out_is_asked_for_as_of_when_it_was_there(
    database_url: str, tmp_path: Path
) -> None:
    """Labelled on the real gateway: the same model is right as of the snapshot before."""
    settings = GatewaySettings(port=0, spool_dir=tmp_path / "spool", deadline_s=10.0)
    async with started(database_url, tmp_path, settings) as gateway:
        for model in (gateway.stable, gateway.fallback):
            gateway.vllm.program(model, answer=RIGHT)
        corpus = write_articles(tmp_path)
        corpus.write_text(corpus.read_text().replace("costs $9 a month or $90 a year", "is a paid plan"))
        store, embedder = KnowledgeStore(gateway.chunks), WordEmbedder(dims=256)
        await ingest(store, embedder, corpus, tenant="acme", source_name="help", parsers=shared_parsers())
        client = GatewayClient(
            gateway.session, url=gateway.url, keys={"customer": gateway.keys.evaluation}, attempts=3
        )
        tuned = [arm for arm in DEFAULT_ARMS if arm.name == "rag_tuned"]
        cases = CaseSet.of("one question", [case for case in CASES.cases if case.id == "price"])
        folder = RunFolder(tmp_path / "run")
        data = await asked_all(client, gateway.url, folder, cases, tuned)
        scoring = build_scoring(schema=SCHEMAS / "support_answer.json")
        await add_documents(folder, data, scoring, client, at_once=1)
        await add_reruns(folder, data, scoring, client, at_once=1, out=io.StringIO())

    def labelled() -> LabelRecord:
        reruns = Reruns.of(data, RerunFile(folder.path).read())
        (row,) = label_run(data, scoring, CorpusFile(folder.path).read(), reruns, at="")
        return row

    found = labelled()
    assert found.primary is not None
    assert (found.primary.label, found.primary.sub) == ("missing_knowledge", "removed")
    as_of = found.check("right_as_of")
    assert as_of is not None
    assert (as_of.value, as_of.detail) == (True, "right in rag_tuned+as_of@1")
    assert labelled() == found
