"""A question set from the turns and documents of the gateway itself, on real PostgreSQL and retrieval."""

from __future__ import annotations

from pathlib import Path

from eval.cases import load_cases
from eval.client import GatewayClient
from eval.sets.checking import check_documents
from eval.sets.drafting import SourceDocument, propose
from eval.sets.importing import add_questions, questions_of_turns, save
from eval.sets.questions import GoldFact
from serving.redaction import Redactor
from tests.integration.gateway.conftest import (
    PRICE_QUESTION,
    REFUND_QUESTION,
    Gateway,
    gateway,
    reply,
    settings,
)

__all__ = ["gateway", "settings"]


async def test_what_customers_asked_becomes_cases_that_a_run_can_ask(
    gateway: Gateway, tmp_path: Path
) -> None:
    gateway.vllm.program(gateway.stable, answer=reply("Sync Plus costs $9 a month or $90 a year."))
    named = f"My name is Ann Lee. {PRICE_QUESTION}"
    for question in (named, REFUND_QUESTION):
        status, body, _ = await gateway.post("/v1/answers", {"question": question, "conversation_id": "c1"})
        assert status == 200, body
    await gateway.post(
        "/v1/answers",
        {"question": "asked by an evaluation", "pin": {"context": "none"}},
        key=gateway.keys.evaluation,
    )
    client = GatewayClient(
        gateway.session, url=gateway.url, keys={"customer": gateway.keys.evaluation}, attempts=3
    )
    turns = [("customer", turn) async for turn in client.recorded(50, asker="customer")]
    questions, found = questions_of_turns(turns)
    first, second = questions
    assert (first.text, second.text) == (named, REFUND_QUESTION)
    assert first.asked_at is not None
    assert [said.role for said in second.history] == ["user", "assistant"]
    assert "sync-plus-price" in found[first.id]

    known = [
        first.model_copy(
            update={
                "status": "answerable",
                "gold": ("sync-plus-price",),
                "facts": (GoldFact(values=("$9",)),),
            }
        ),
        second,
    ]
    assert await check_documents(client, known, concurrency=2) == ()
    save(tmp_path / "set", add_questions([], known, redactor=Redactor(), found=found))
    price, refund = sorted(load_cases(tmp_path / "set"), key=lambda case: bool(case.history))
    assert price.text == f"My name is [name]. {PRICE_QUESTION}"
    assert (price.status, price.gold, price.facts) == ("answered", ("sync-plus-price",), (("$9",),))
    assert refund.history[0] == ("user", f"My name is [name]. {PRICE_QUESTION}".replace("Ann Lee", "[name]"))


async def test_its_documents_become_questions(gateway: Gateway) -> None:
    client = GatewayClient(
        gateway.session, url=gateway.url, keys={"customer": gateway.keys.evaluation}, attempts=3
    )
    ids = await client.document_ids()
    assert "sync-plus-price" in ids
    live = (await client.document("sync-plus-price")).live
    assert live is not None
    document = SourceDocument(id="sync-plus-price", title=live.title, text=live.text)
    for proposal in propose(document, each=5):
        assert live.text[proposal.start : proposal.end] == proposal.quote
    assert propose(document, each=5)
