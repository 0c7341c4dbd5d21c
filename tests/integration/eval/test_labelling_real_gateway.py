"""Labels of real turns: real PostgreSQL and retrieval, a fake vLLM, a fault for each layer."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import aiohttp

from eval.arms import choose_arms
from eval.cases import Case, CaseSet
from eval.client import GatewayClient
from eval.labelling.asking import add_documents, add_reruns
from eval.labelling.corpus import CorpusFile
from eval.labelling.counterfactuals import RerunFile, Reruns
from eval.labelling.labelling_report import count_labels, json_labels
from eval.labelling.labels import LabelRecord
from eval.labelling.records import changes, label_run
from eval.labelling.rules import decide
from eval.labelling.sending import label_body, send
from eval.record import RunData, RunFolder
from eval.scoring import build_scoring
from gateway.access import KeyStore
from gateway.schemas.labels import LabelBody
from gateway.settings import GatewaySettings
from serving.versions import SCHEMAS
from tests.fakes.help_centre import STAFF_ONLY
from tests.integration.eval.asking import asked_all
from tests.integration.gateway.conftest import (
    PRICE_QUESTION,
    REFUND_QUESTION,
    Gateway,
    reply,
    started,
)

FOUND_NOTHING = (
    "I can't find that in our help centre, so I won't guess. "
    "I've passed your question to a colleague who will reply by email."
)
PRICE = Case(
    id="price",
    topic="plans",
    split="dev",
    text=PRICE_QUESTION,
    kind="answerable",
    gold=("sync-plus-price",),
    facts=(("$9",),),
    stale_values=("$8",),
    status="answered",
    intent="billing",
)
REFUND = replace(
    PRICE, id="refund", topic="refunds", text=REFUND_QUESTION, gold=("refunds",), facts=(("30 days",),)
)
CASES = (
    PRICE,
    REFUND,
    replace(
        PRICE,
        id="gone",
        text="How many stickers come with Sync Plus?",
        gold=("stickers",),
        facts=(("12 stickers",),),
    ),
    replace(PRICE, id="unsaid", text="How much does Sync Plus cost a day?", facts=(("30 cents",),)),
    replace(
        PRICE,
        id="hidden",
        text="What may agents credit?",
        gold=("goodwill",),
        facts=(("$25",),),
        asker="customer",
    ),
)
ABSTAINS = reply(FOUND_NOTHING, citations=(), escalate=True, escalation_reason="not_in_help_centre")


def tuned(body: dict[str, object]) -> str:
    """Makes up a price, leaks a note about refunds, and finds nothing else."""
    asked = str(body["messages"])
    if PRICE_QUESTION in asked:
        return reply("Sync Plus costs $7 a month.")
    if REFUND_QUESTION in asked:
        return reply(f"A full refund is possible within 30 days. {STAFF_ONLY}")
    return ABSTAINS


async def run(gateway: Gateway, folder: RunFolder, client: GatewayClient) -> RunData:
    arms = choose_arms(["oracle", "rag_tuned"], [])
    return await asked_all(client, gateway.url, folder, CaseSet.of("five questions", CASES), arms)


async def test_labels_of_real_turns(database_url: str, tmp_path: Path) -> None:
    settings = GatewaySettings(port=0, spool_dir=tmp_path / "spool", deadline_s=10.0)
    scoring = build_scoring(schema=SCHEMAS / "support_answer.json")
    async with started(database_url, tmp_path, settings) as gateway, aiohttp.ClientSession() as session:
        gateway.vllm.program(gateway.stable, answer=tuned)
        gateway.vllm.program(gateway.fallback, answer=reply("Sync Plus costs $9 a month or $90 a year."))
        staff = await KeyStore(gateway.database).create(
            name="staff-eval", tenant="acme", principals=["public", "staff"], scopes=["ask", "eval"]
        )
        keys = {"customer": gateway.keys.evaluation, "staff": staff.secret}
        client = GatewayClient(session, url=gateway.url, keys=keys, attempts=3)
        folder = RunFolder(tmp_path / "run")
        data = await run(gateway, folder, client)

        def label() -> dict[tuple[str, str], LabelRecord]:
            reruns = Reruns.of(data, RerunFile(folder.path).read())
            corpus = CorpusFile(folder.path).read()
            records = label_run(data, scoring, corpus, reruns, at="2026-11-23T00:00:00+00:00")
            return {(record.arm, record.case_id): record for record in records}

        await add_documents(folder, data, scoring, client, at_once=2)
        found = label()
        labels = {
            case_id: f"{record.primary.label}.{record.primary.sub}" if record.primary else ""
            for (arm, case_id), record in found.items()
            if arm == "rag_tuned"
        }
        assert labels == {
            "price": "hallucination.wrong_fact",
            "refund": "policy_violation.internal",
            "gone": "missing_knowledge.article",
            "unsaid": "missing_knowledge.fact",
            "hidden": "wrong_retrieval.access",
        }
        assert found["oracle", "price"].outcome == "passed"
        assert found["oracle", "gone"].outcome == "run_error", "there is no such article to give"
        given = found["oracle", "price"]
        assert data.observations["price", "oracle"].packed[0].document_id == "sync-plus-price"
        assert given.turn_id

        for record in found.values():
            again = decide(record.checks)
            assert (again.outcome, again.primary, again.contributing) == (
                record.outcome,
                record.primary,
                record.contributing,
            ), "the stored checks decide the same"
            assert LabelRecord.from_json(record.as_json()) == record
            LabelBody.model_validate(label_body(record))

        records = list(found.values())
        counted = json_labels(count_labels(records, changes((), records)))
        await send(client, data, scoring, records, counted, markdown="", at_once=2)
        invented = found["rag_tuned", "price"]
        (stored,) = await client.labels(invented.turn_id)
        assert (stored["label"], stored["rule"], stored["source"]) == ("hallucination", "6d", "auto")
        assert [each["name"] for each in stored["checks"]] == [each.name for each in invented.checks]
        for path, name in (
            (f"turns/{invented.turn_id}/scores", "scores"),
            ("reports/labels-real", "content"),
        ):
            status, body = await gateway.get(f"/v1/{path}", key=staff.secret)
            assert (status, bool(body[name])) == (200, True), body

        await add_reruns(folder, data, scoring, client, at_once=2, out=io.StringIO())
        own = label()["rag_tuned", "price"].check("right_with_gold")
        assert own is not None
        assert own.value is False, "its own model invents the price from the gold article too"
        asked = len(gateway.vllm.requests)
        await add_reruns(folder, data, scoring, client, at_once=2, out=io.StringIO())
        await add_documents(folder, data, scoring, client, at_once=2)
        assert label() == label()
        assert len(gateway.vllm.requests) == asked, "nothing is asked twice"
