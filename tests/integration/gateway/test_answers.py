"""`POST /v1/answers`: one question, both rails, one cited answer, one stored turn."""

from __future__ import annotations

import json
from pathlib import Path

from gateway.settings import GatewaySettings
from retrieval.errors import EmbedderUnavailableError
from serving.wording import load_wording
from tests.fakes.embedding import InterruptedEmbedder
from tests.integration.gateway.conftest import (
    PRICE_QUESTION,
    REFUND_QUESTION,
    THEFT,
    Gateway,
    reply,
    started,
)

REFUND = "A full refund is possible within 30 days of a yearly renewal."


async def test_an_answer_is_cited_stamped_and_stored(gateway: Gateway) -> None:
    gateway.vllm.program(gateway.stable, answer=reply(REFUND))
    status, body, headers = await gateway.post(
        "/v1/answers", {"question": REFUND_QUESTION, "conversation_id": "c-1"}
    )

    assert status == 200, body
    assert body["status"] == "answered"
    assert body["answer"] == REFUND
    [citation] = body["citations"]
    assert citation["document_id"] == "refunds"
    assert citation["quote"].startswith("A full refund is possible within 30 days")
    assert citation["end"] - citation["start"] == len(citation["quote"])
    assert body["versions"]["model"] == gateway.stable
    assert body["versions"]["knowledge"].startswith("k-")
    assert body["versions"]["knowledge"].endswith("@1")
    assert body["arms"] == {"knowledge": "stable", "model": "stable"}
    assert body["fields"] == {
        "intent": "billing",
        "escalate": False,
        "escalation_reason": "none",
        "follow_up": "",
    }
    assert body["degraded"] == []
    assert body["confidence"]["grounded"] == 1.0
    assert len(body["trace_id"]) == 32
    assert headers["x-twinrail-conversation"] == "c-1"
    assert float(headers["x-twinrail-overhead-ms"]) >= 0
    assert "retrieval;dur=" in headers["server-timing"]

    turn = await gateway.turn(body["id"])  # at once: read-your-writes
    await gateway.state.recorder.flushed()
    assert await gateway.turn(body["id"]) == turn
    assert turn["answer"] == body
    assert turn["used"]["hits"][0]["document_id"] == "refunds"
    assert turn["used"]["prompt"][0]["role"] == "system"
    assert turn["used"]["drafts"][0]["failure"] is None
    assert turn["pinned"] is False


async def test_low_confidence_abstains_without_a_generation(gateway: Gateway) -> None:
    status, body, _ = await gateway.post("/v1/answers", {"question": "xylophone zebra quartz?"})
    assert status == 200
    assert body["status"] == "abstained"
    assert body["answer"] == load_wording().not_in_help_centre
    assert body["citations"] == []
    assert gateway.vllm.requests == []
    assert (await gateway.turn(body["id"]))["ticket"] == "abstained"


async def test_what_a_person_has_to_see_is_passed_on_with_the_answer(gateway: Gateway) -> None:
    gateway.vllm.program(gateway.stable, answer=reply(REFUND))
    _, body, _ = await gateway.post("/v1/answers", {"question": f"{REFUND_QUESTION} {THEFT}"})
    assert body["status"] == "escalated"
    assert body["answer"] == f"{REFUND} {load_wording().passing_on}"
    assert body["fields"]["escalation_reason"] == "security_incident"
    assert body["citations"][0]["document_id"] == "refunds"
    turn = await gateway.turn(body["id"])
    assert turn["ticket"] == "escalated"
    assert turn["used"]["handover"] == {"reason": "security_incident", "like": THEFT, "closeness": 1.0}


async def test_a_person_is_called_where_nothing_was_found_too(gateway: Gateway) -> None:
    _, body, _ = await gateway.post("/v1/answers", {"question": f"Xylophone zebra quartz! {THEFT}"})
    assert (body["status"], body["answer"]) == ("escalated", load_wording().passing_on)
    assert body["fields"] == {"escalate": True, "escalation_reason": "security_incident"}
    assert gateway.vllm.requests == []


async def test_where_the_rule_cannot_be_asked_the_answer_says_so(
    database_url: str, tmp_path: Path, settings: GatewaySettings, help_centre: str
) -> None:
    async def away() -> None:
        raise EmbedderUnavailableError

    # One of its own: the searches are to go on.
    embedder = InterruptedEmbedder()
    async with started(database_url, tmp_path, settings, handover_embedder=embedder) as gateway:
        embedder.meanwhile.append(away)
        gateway.vllm.program(gateway.stable, answer=reply(REFUND))
        _, body, _ = await gateway.post("/v1/answers", {"question": REFUND_QUESTION})
    assert (body["status"], body["degraded"]) == ("answered", ["handover"])


async def test_an_invented_price_is_repaired_once(gateway: Gateway) -> None:
    drafts = iter([reply("Sync Plus costs $7 a month."), reply("Sync Plus costs $9 a month.")])
    gateway.vllm.program(gateway.stable, answer=lambda _body: next(drafts))
    _, body, _ = await gateway.post("/v1/answers", {"question": PRICE_QUESTION})
    assert body["status"] == "answered"
    assert body["answer"] == "Sync Plus costs $9 a month."
    assert body["versions"]["model"] == gateway.stable
    turn = await gateway.turn(body["id"])
    assert [draft["failure"] for draft in turn["used"]["drafts"]] == ["unsupported", None]
    assert "$7" in gateway.vllm.requests[1]["messages"][-1]["content"]


async def test_what_cannot_be_repaired_goes_to_the_fallback_model(gateway: Gateway) -> None:
    gateway.vllm.program(gateway.stable, answer=reply("Sync Plus costs $7 a month."))
    gateway.vllm.program(gateway.fallback, answer=reply("Sync Plus costs $9 a month."))
    _, body, _ = await gateway.post("/v1/answers", {"question": PRICE_QUESTION})
    assert body["status"] == "fallback"
    assert body["answer"] == "Sync Plus costs $9 a month."
    assert body["versions"]["model"] == gateway.fallback
    assert body["versions"]["prompt"] == "strong_prompt"
    used = (await gateway.turn(body["id"]))["used"]
    sent = [request["messages"] for request in gateway.vllm.requests]
    assert [(draft["step"], draft["attempt"]) for draft in used["drafts"]] == [
        ("assigned", "first"),
        ("assigned", "repair"),
        ("base", "first"),
    ]
    assert [draft["prompt"] or used["prompt"] for draft in used["drafts"]] == sent
    assert used["prompt"] == sent[-1]
    assert used["drafts"][-1]["prompt"] is None


async def test_what_no_model_gets_right_becomes_fixed_wording_and_a_ticket(gateway: Gateway) -> None:
    for model in (gateway.stable, gateway.fallback):
        gateway.vllm.program(model, answer=reply("Sync Plus costs $7 a month."))
    _, body, _ = await gateway.post("/v1/answers", {"question": PRICE_QUESTION})
    assert body["status"] == "fallback"
    assert body["answer"] == load_wording().failed
    assert body["citations"] == []
    assert (await gateway.turn(body["id"]))["ticket"] == "unsupported"


async def test_numbers_that_are_no_hits_are_dropped_and_flagged(gateway: Gateway) -> None:
    gateway.vllm.program(gateway.stable, answer=reply(REFUND, citations=(1, 7)))
    _, body, _ = await gateway.post("/v1/answers", {"question": REFUND_QUESTION})
    assert [citation["n"] for citation in body["citations"]] == [1]
    flags = (await gateway.turn(body["id"]))["used"]["flags"]
    assert "citation 7: there is no such hit in the prompt" in flags


async def test_escalation_and_question_back_have_their_own_status(gateway: Gateway) -> None:
    gateway.vllm.program(
        gateway.stable,
        answer=reply(load_wording().passing_on, citations=(), escalate=True, escalation_reason="legal"),
    )
    _, body, _ = await gateway.post("/v1/answers", {"question": REFUND_QUESTION})
    assert body["status"] == "escalated"
    assert (await gateway.turn(body["id"]))["ticket"] == "escalated"

    gateway.vllm.program(
        gateway.stable, answer=reply("", citations=(), follow_up="Which product do you mean?")
    )
    _, body, _ = await gateway.post("/v1/answers", {"question": REFUND_QUESTION})
    assert (body["status"], body["answer"]) == ("clarify", "Which product do you mean?")

    gateway.vllm.program(
        gateway.stable,
        answer=reply(
            load_wording().not_in_help_centre,
            citations=(),
            escalate=True,
            escalation_reason="not_in_help_centre",
        ),
    )
    _, body, _ = await gateway.post("/v1/answers", {"question": REFUND_QUESTION})
    assert body["status"] == "abstained"

    # An answer that stands in the documents is one, whatever reason the model gives beside it.
    for escalate, status in ((True, "escalated"), (False, "answered")):
        gateway.vllm.program(
            gateway.stable,
            answer=reply(REFUND, escalate=escalate, escalation_reason="not_in_help_centre"),
        )
        _, body, _ = await gateway.post("/v1/answers", {"question": REFUND_QUESTION})
        assert (body["status"], len(body["citations"])) == (status, 1)


async def test_a_customer_sees_nothing_of_staff_articles(gateway: Gateway) -> None:
    question = {"question": "How much may agents credit without approval of a team lead?"}
    answer = "Agents may credit up to $25 without approval of a team lead."
    for model in (gateway.stable, gateway.fallback):
        gateway.vllm.program(model, answer=reply(answer))
    _, staff, _ = await gateway.post("/v1/answers", question, key=gateway.keys.staff)
    assert staff["citations"][0]["document_id"] == "goodwill"

    _, customer, _ = await gateway.post("/v1/answers", question)
    assert "$25" not in json.dumps(customer)
    turn = await gateway.turn(customer["id"])
    assert all(hit["document_id"] != "goodwill" for hit in turn["used"]["hits"])


async def test_pins_need_eval_and_are_never_counted(gateway: Gateway) -> None:
    gateway.vllm.program(gateway.canary, answer=reply(REFUND))
    body = {"question": REFUND_QUESTION, "pin": {"model": gateway.canary}}
    status, problem, _ = await gateway.post("/v1/answers", body)
    assert (status, problem["field"]) == (403, "pin")

    status, answer, _ = await gateway.post("/v1/answers", body, key=gateway.keys.evaluation)
    assert status == 200
    assert answer["versions"]["model"] == gateway.canary
    assert answer["arms"] == {"knowledge": "stable", "model": "pinned"}
    assert (await gateway.turn(answer["id"], key=gateway.keys.evaluation))["pinned"] is True


async def test_pinned_context_replaces_retrieval(gateway: Gateway) -> None:
    key = gateway.keys.evaluation
    gateway.vllm.program(gateway.stable, answer=reply("Sync Plus costs $11 a month."))
    given = [{"title": "Prices", "text": "Sync Plus costs $11 a month."}]
    _, oracle, _ = await gateway.post(
        "/v1/answers", {"question": PRICE_QUESTION, "pin": {"context": given}}, key=key
    )
    assert oracle["status"] == "answered"
    assert oracle["citations"][0]["document_id"] == "context:1"
    assert oracle["versions"]["knowledge"] is None

    _, bare, _ = await gateway.post(
        "/v1/answers", {"question": PRICE_QUESTION, "pin": {"context": "none"}}, key=key
    )
    assert bare["answer"] == "Sync Plus costs $11 a month."
    assert bare["citations"] == []
    assert bare["arms"]["knowledge"] == "none"
    assert bare["confidence"]["grounded"] == 0.0  # measured, not enforced


async def test_a_pinned_prompt_is_tried_on_the_weights_of_a_version(gateway: Gateway) -> None:
    key = gateway.keys.evaluation
    gateway.vllm.program(gateway.stable, answer=reply(REFUND))
    prompt = {
        "name": "terse",
        "system": "Be terse.",
        "shots": [{"context": "[1] A\nB costs 2.", "question": "B?", "answer": reply("B costs 2.")}],
    }
    body = {"question": REFUND_QUESTION, "pin": {"model": gateway.stable, "prompt": prompt}}
    status, answer, _ = await gateway.post("/v1/answers", body, key=key)

    assert (status, answer["status"]) == (200, "answered")
    assert answer["versions"] | {"knowledge": ""} == {
        "knowledge": "",
        "model": gateway.stable,
        "prompt": "terse",
    }
    system, _ = gateway.vllm.requests[-1]["messages"]
    assert system["content"].startswith("Be terse.\n\nExample 1\n<passages>\n[1] A\nB costs 2.")
    used = (await gateway.turn(answer["id"], key=key))["used"]
    assert used["pin"]["prompt"]["name"] == "terse"
    assert used["prompt"][0] == system
    assert used["drafts"][0]["model"] == gateway.stable

    _, listed = await gateway.get("/v1/rails/model/versions", key=key)
    own = {row["id"]: row["details"]["prompt_sha256"] for row in listed["versions"]}
    assert len(own[gateway.stable]) == 64
    assert own[gateway.stable] != used["pin"]["prompt"]["sha256"], "what was tried is not what is registered"


async def test_a_prompt_that_shows_sentences_cites_the_document_of_the_sentence(gateway: Gateway) -> None:
    key = gateway.keys.evaluation
    gateway.vllm.program(gateway.stable, answer=reply(REFUND))
    prompt = {"name": "lines", "system": "Quote.", "shows": "sentences"}
    body = {"question": REFUND_QUESTION, "pin": {"model": gateway.stable, "prompt": prompt}}
    _, answer, _ = await gateway.post("/v1/answers", body, key=key)
    assert (answer["status"], answer["degraded"]) == ("answered", [])
    (cited,) = answer["citations"]
    assert (cited["document_id"], cited["n"]) == ("refunds", 1)

    shown = gateway.vllm.requests[-1]["messages"][-1]["content"].splitlines()
    assert "[1] A full refund is possible within 30 days of a first payment or a yearly renewal." in shown
    used = (await gateway.turn(answer["id"], key=key))["used"]
    assert [row["n"] for row in used["passages"]] == list(range(1, len(used["passages"]) + 1))
    assert len({row["document_id"] for row in used["passages"]}) > 1
    assert used["passages"][0]["text"] == shown[2].removeprefix("[1] ")


async def test_a_pin_lets_the_model_write_freely(gateway: Gateway) -> None:
    """What a model has learnt of the form shows only where nothing holds it to the schema."""
    key = gateway.keys.evaluation
    gateway.vllm.program(gateway.stable, answer=reply(REFUND))
    body = {"question": REFUND_QUESTION, "pin": {"model": gateway.stable, "constrained": False}}
    for pinned, held in ((body["pin"], False), ({"model": gateway.stable}, True)):
        status, answer, _ = await gateway.post("/v1/answers", {**body, "pin": pinned}, key=key)
        assert (status, answer["status"]) == (200, "answered")
        assert ("response_format" in gateway.vllm.requests[-1]) is held
        used = (await gateway.turn(answer["id"], key=key))["used"]
        assert used["pin"]["constrained"] is (None if held else False)


async def test_a_pinned_passage_says_from_when_it_holds(gateway: Gateway) -> None:
    gateway.vllm.program(gateway.stable, answer=reply("Sync Plus costs $11 a month."))
    given = [{"title": "Prices", "text": "Sync Plus costs $11 a month.", "effective_from": "2026-02-01"}]
    body = {"question": PRICE_QUESTION, "pin": {"context": given}}
    _, answer, _ = await gateway.post("/v1/answers", body, key=gateway.keys.evaluation)
    assert answer["status"] == "answered"
    shown = gateway.vllm.requests[-1]["messages"][-1]["content"]
    assert "[1] Prices (valid from 2026-02-01)" in shown


async def test_unknown_pins_name_the_field(gateway: Gateway) -> None:
    key = gateway.keys.evaluation
    for pin, field in (
        ({"model": "m-nope-00000000"}, "pin.model"),
        ({"knowledge": "k-nope-00000000"}, "pin.knowledge"),
        ({"knowledge": "nope"}, "pin.knowledge"),
        ({"context": "some"}, "pin.context"),
        ({"prompt": {"name": "a", "system": "b"}}, "pin.prompt"),
        ({"model": gateway.stable, "prompt": {"name": "A b", "system": "b"}}, "pin.prompt.name"),
        (
            {"model": gateway.stable, "prompt": {"name": "a", "system": "b", "shows": "words"}},
            "pin.prompt.shows",
        ),
    ):
        status, problem, _ = await gateway.post(
            "/v1/answers", {"question": REFUND_QUESTION, "pin": pin}, key=key
        )
        assert (status, problem["field"]) == (422, field), problem
        assert problem["fix"]
