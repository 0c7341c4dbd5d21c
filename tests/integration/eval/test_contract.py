"""What evaluation sends and reads fits the gateway's own schemas, so that the fake cannot drift from it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from uuid import UUID

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from eval.arms import Arm, Pin, resolve_arms
from eval.cases import Case, GivenPassage
from eval.client import GatewayClient
from eval.labelling.checks import check
from eval.labelling.labels import Finding, Label, LabelRecord, Outcome
from eval.labelling.moments import Moment, as_of_arm
from eval.labelling.sending import label_body
from gateway.access import ApiKey, Scope
from gateway.schemas.answers import AnswerBody, AnswerRequest
from gateway.schemas.documents import HistoryView
from gateway.schemas.labels import LabelBody, LabelView
from gateway.schemas.rails import RailList
from gateway.schemas.reports import ReportBody, ReportRow, VerdictBody, VerdictView
from gateway.schemas.search import SearchBody, SearchResponse
from gateway.schemas.turns import TurnView
from gateway.turn import Surface, TurnDraft
from tests.fakes.gateway_server import BASE, CUSTOMER_KEY, KNOWLEDGE, CannedAnswer, FakeGateway

CASE = Case(
    id="q1",
    topic="plans",
    split="dev",
    text="how much is plus?",
    history=(("user", "hi"), ("assistant", "hello")),
)
ARM = Arm(name="rag", pin=Pin(knowledge=f"{KNOWLEDGE}@3", model=BASE))
PROMPT_ONLY = Arm(name="prompt_only", pin=Pin(model=BASE, context="none"))


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway(answers={BASE: lambda question: CannedAnswer(answer="Sync Plus is $9 a month.")})


async def test_requests_and_replies_fit_the_gateways_schemas(gateway: FakeGateway) -> None:
    async with TestServer(gateway.app()) as server, aiohttp.ClientSession() as session:
        client = GatewayClient(session, url=str(server.make_url("")), keys={"customer": CUSTOMER_KEY})
        pointers = await client.pointers()
        resolve_arms([ARM], pointers)
        for arm in (ARM, PROMPT_ONLY):
            seen = await client.answer(CASE, arm)
            assert not seen.failed
        ranking = await client.search(CASE, f"{KNOWLEDGE}@3", depth=30)
        assert ranking.documents == ("plus",)
        headers = {"Authorization": f"Bearer {CUSTOMER_KEY}"}
        async with session.get(server.make_url("/v1/rails"), headers=headers) as reply:
            RailList.model_validate(await reply.json())
        body = {"question": "x", "version": f"{KNOWLEDGE}@3", "k": 30}
        async with session.post(server.make_url("/v1/search"), headers=headers, json=body) as reply:
            SearchResponse.model_validate(await reply.json())
    for _, path, sent in gateway.requests:
        if path == "/v1/answers":
            AnswerRequest.model_validate(sent)
        elif path == "/v1/search":
            SearchBody.model_validate(sent)
    for turn in gateway.turns.values():
        AnswerBody.model_validate(TurnView.model_validate(turn).answer)


async def test_gold_documents_and_labels_fit_the_gateways_schemas(gateway: FakeGateway) -> None:
    oracle = Arm(name="oracle", pin=Pin(knowledge=f"{KNOWLEDGE}@3", model=BASE, context="gold"))
    headers = {"Authorization": f"Bearer {CUSTOMER_KEY}"}
    async with TestServer(gateway.app()) as server, aiohttp.ClientSession() as session:
        client = GatewayClient(session, url=str(server.make_url("")), keys={"customer": CUSTOMER_KEY})
        given = await client.answer(replace(CASE, gold=("plus",)), oracle)
        assert [item.document_id for item in given.packed] == ["plus"], "on the wire it has no document"
        without = await client.answer(CASE, oracle)
        assert not without.failed
        rag = Arm(name="rag", pin=Pin(knowledge=f"{KNOWLEDGE}@3", model=BASE))
        await client.answer(CASE, as_of_arm(rag, Moment(snapshot=2, day="2026-03-01")))
        missing = await client.document("nowhere")
        assert (missing.versions, missing.readers) == ((), ())
        async with session.get(server.make_url("/v1/documents/plus?history=true"), headers=headers) as reply:
            HistoryView.model_validate(await reply.json())
        judged = LabelRecord(
            run="r",
            turn_id=given.turn_id,
            case_id="q1",
            arm="oracle",
            cluster="plans",
            task_type="billing",
            outcome=Outcome.FAILED,
            primary=Finding(label=Label.WRONG_TONE, sub="", rule="8", evidence=("tone_kept",)),
            checks=(check("tone_kept", False, "exclamation mark"),),
            criteria="c1-00000000",
        )
        await client.put_labels(given.turn_id, label_body(judged))
        (stored,) = await client.labels(given.turn_id)
        LabelView.model_validate(stored)
    questions = [sent for _, path, sent in gateway.requests if path == "/v1/answers"]
    for sent in questions:
        AnswerRequest.model_validate(sent)
    assert ["context" in sent["pin"] for sent in questions] == [True, False, False], (
        "no gold: retrieval as usual"
    )
    pin = AnswerRequest.model_validate(questions[-1]).pin
    assert pin is not None
    assert (pin.knowledge, pin.effective_on) == (f"{KNOWLEDGE}@2", date(2026, 3, 1))
    (label,) = (sent for _, path, sent in gateway.requests if path.endswith("/labels") and sent)
    LabelBody.model_validate(label)


async def test_a_question_that_comes_with_its_passages_is_shown_these(gateway: FakeGateway) -> None:
    shown = GivenPassage(title="Prices", text="Sync Plus is $9 a month.", effective_from="2026-03-01")
    free = replace(ARM, pin=replace(ARM.pin, constrained=False))
    async with TestServer(gateway.app()) as server, aiohttp.ClientSession() as session:
        client = GatewayClient(session, url=str(server.make_url("")), keys={"customer": CUSTOMER_KEY})
        seen = await client.answer(replace(CASE, passages=(shown,)), ARM)
        await client.answer(replace(CASE, passages=()), free)
    assert [item.document_id for item in seen.packed] == ["context:1"], "as citations of it are named"
    sent = [body for _, path, body in gateway.requests if path == "/v1/answers"]
    pins = [AnswerRequest.model_validate(body).pin for body in sent]
    assert pins[0] is not None
    assert pins[1] is not None
    assert isinstance(pins[0].context, tuple)
    assert (pins[0].knowledge, pins[0].context[0].effective_from) == (None, date(2026, 3, 1))
    assert (pins[1].context, pins[1].constrained) == ("none", False)


async def test_reports_and_verdicts_fit_the_gateways_schemas(gateway: FakeGateway) -> None:
    headers = {"Authorization": f"Bearer {CUSTOMER_KEY}"}
    async with TestServer(gateway.app()) as server, aiohttp.ClientSession() as session:
        client = GatewayClient(session, url=str(server.make_url("")), keys={"customer": CUSTOMER_KEY})
        digest = await client.put_report(
            "gate-promotion-m-new-1-run", kind="gate", content={"verdict": "pass"}
        )
        named = {"gate": "promotion", "verdict": "pass", "report": "gate-promotion-m-new-1-run"}
        await client.put_verdict("model", "m-new-1", **named, sha256=digest)
        report, verdict = (sent for _, path, sent in gateway.requests if path.startswith("/v1/r"))
        for path, body, sent, reply in (
            ("reports/again", ReportBody, report, ReportRow),
            ("rails/model/versions/m-new-1/verdict", VerdictBody, verdict, VerdictView),
        ):
            body.model_validate(sent)
            async with session.put(server.make_url(f"/v1/{path}"), headers=headers, json=sent) as answer:
                reply.model_validate(await answer.json())


def test_a_turn_records_what_evaluation_reads() -> None:
    key = ApiKey(
        id=UUID(int=1),
        name="eval",
        tenant="demo",
        principals=("public",),
        scopes=frozenset({Scope.ASK, Scope.EVAL}),
        created_at=datetime(2026, 3, 1, tzinfo=UTC),
    )
    turn = TurnDraft(id=UUID(int=2), key=key, surface=Surface.ANSWERS, trace_id="0" * 32)
    assert {"hits", "passages", "drafts"} <= set(turn.row()["used"])
