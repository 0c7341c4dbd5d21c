"""What the gateway sends to a collector: the tree of a question, its names, its ends, and no text."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from tests.deploy.contract import documented
from tests.fakes.otlp_receiver import OtlpReceiver, ReceivedSpan
from tests.integration.telemetry.conftest import Observed
from tests.integration.telemetry.load import every_outcome, without_engine, without_retrieval
from tests.integration.telemetry.running_gateway import (
    INVENTED,
    OFF_TOPIC,
    REFUND,
    SECRETS,
    SLOW,
    RunningGateway,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVER = "POST /v1/answers"
WORKFLOW = "invoke_workflow twinrail_answer"
PARENT_SPAN = "00f067aa0ba902b7"


def finished(trace_id: str) -> Callable[[OtlpReceiver], bool]:
    """Whether the server span of a trace has arrived; children end, and are sent, before it."""

    def check(receiver: OtlpReceiver) -> bool:
        return any(span.kind == "SERVER" for span in receiver.trace(trace_id))

    return check


async def trace_of(observed: Observed, trace_id: str) -> list[ReceivedSpan]:
    """The spans of a question, once they are all there."""
    await observed.receiver.until(finished(trace_id))
    return observed.receiver.trace(trace_id)


def one(spans: Sequence[ReceivedSpan], name: str) -> ReceivedSpan:
    """The only span whose name starts so."""
    found = [span for span in spans if span.name.startswith(name)]
    assert len(found) == 1, f"{name}: {[span.name for span in spans]}"
    return found[0]


def parent_names(spans: Sequence[ReceivedSpan]) -> dict[str, str]:
    """Span name -> name of its parent."""
    names = {span.span_id: span.name for span in spans}
    return {span.name: names.get(span.parent_id, "") for span in spans}


async def test_a_question_is_one_tree_with_two_layers(observed: Observed) -> None:
    gateway = observed.gateway
    answer = await gateway.ask(REFUND)
    spans = await trace_of(observed, answer["trace_id"])

    retrieval, chat = "retrieval knowledge", f"chat {gateway.stable}"
    embedding = one(spans, "embeddings ").name
    assert parent_names(spans) == {
        SERVER: "",
        WORKFLOW: SERVER,
        "twinrail.assign": WORKFLOW,
        retrieval: WORKFLOW,
        embedding: retrieval,
        "SELECT retrieval.search": retrieval,
        "twinrail.assemble": WORKFLOW,
        chat: WORKFLOW,
        "twinrail.verify": WORKFLOW,
    }
    kinds = {span.name: span.kind for span in spans}
    assert kinds[SERVER] == "SERVER"
    assert {kinds[name] for name in (retrieval, embedding, "SELECT retrieval.search", chat)} == {"CLIENT"}
    assert {
        kinds[name] for name in (WORKFLOW, "twinrail.assign", "twinrail.assemble", "twinrail.verify")
    } == {"INTERNAL"}
    assert not any(span.failed for span in spans)
    assert {span.resource["service.name"] for span in spans} == {"twinrail-gateway"}
    for span in spans:
        parent = next((other for other in spans if other.span_id == span.parent_id), None)
        if parent is not None:
            assert parent.start_s <= span.start_s
            assert span.end_s <= parent.end_s, f"{span.name} ends after {parent.name}"


async def test_the_tree_carries_the_stamp_the_arms_and_the_outcome_of_each_layer(observed: Observed) -> None:
    gateway = observed.gateway
    answer = await gateway.ask(REFUND)
    spans = await trace_of(observed, answer["trace_id"])

    workflow = one(spans, WORKFLOW).attributes
    assert workflow["gen_ai.operation.name"] == "invoke_workflow"
    assert workflow["twinrail.knowledge.version"] == answer["versions"]["knowledge"]
    assert workflow["twinrail.model.version"] == gateway.stable
    assert workflow["twinrail.answer.status"] == "answered"
    assert workflow["twinrail.answer.citations"] == len(answer["citations"])
    server = one(spans, SERVER).attributes
    assert server["http.response.status_code"] == 200
    assert server["twinrail.rollout.knowledge.arm"] == "stable"
    assert server["twinrail.rollout.model.arm"] == "stable"
    assert server["twinrail.turn.id"] == answer["id"]
    retrieval = one(spans, "retrieval ").attributes
    assert retrieval["gen_ai.operation.name"] == "retrieval"
    assert retrieval["twinrail.knowledge.version"] == gateway.knowledge
    assert retrieval["twinrail.retrieval.returned"] > 0
    assert retrieval["twinrail.retrieval.empty"] is False
    query = one(spans, "SELECT ").attributes
    assert query["db.system.name"] == "postgresql"
    chat = one(spans, "chat ").attributes
    assert chat["gen_ai.request.model"] == gateway.stable
    assert chat["gen_ai.response.finish_reasons"] == ["stop"]
    assert chat["gen_ai.usage.output_tokens"] == answer["usage"]["completion_tokens"]
    assert chat["gen_ai.usage.cache_read.input_tokens"] == answer["usage"]["cached_tokens"] == 4
    assigned = one(spans, "twinrail.assign").events
    assert {
        (e.attributes["feature_flag.key"], e.attributes["feature_flag.result.variant"]) for e in assigned
    } == {
        ("twinrail.knowledge", "stable"),
        ("twinrail.model", "stable"),
    }


async def test_the_callers_trace_is_continued_and_handed_to_the_engine_without_baggage(
    observed: Observed,
) -> None:
    gateway = observed.gateway
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with gateway.session.post(
        f"{gateway.url}/v1/answers",
        json={"question": REFUND},
        headers={
            "authorization": f"Bearer {gateway.customer_key}",
            "traceparent": f"00-{trace_id}-{PARENT_SPAN}-01",
            "baggage": "tenant=other",
        },
    ) as response:
        answer = await response.json()
    assert answer["trace_id"] == trace_id
    spans = await trace_of(observed, trace_id)
    assert one(spans, SERVER).parent_id == PARENT_SPAN
    sent = {name.lower(): value for name, value in gateway.vllm.headers[-1].items()}
    assert sent["traceparent"].split("-")[1:3] == [trace_id, one(spans, "chat ").span_id]
    assert "baggage" not in sent


async def test_an_abstention_has_no_generation(observed: Observed) -> None:
    answer = await observed.gateway.ask(OFF_TOPIC)
    assert answer["status"] == "abstained"
    spans = await trace_of(observed, answer["trace_id"])
    assert not any(span.name.startswith("chat ") for span in spans)
    assert one(spans, WORKFLOW).attributes["twinrail.answer.refused"] is True


async def test_a_repair_and_a_fallback_are_seen_as_further_generations(observed: Observed) -> None:
    gateway = observed.gateway
    answer = await gateway.ask(INVENTED)
    assert answer["status"] == "fallback"
    spans = await trace_of(observed, answer["trace_id"])
    chats = [span.name for span in spans if span.name.startswith("chat ")]
    assert chats == [f"chat {gateway.stable}", f"chat {gateway.stable}", f"chat {gateway.fallback}"]
    verified = [span for span in spans if span.name == "twinrail.verify"]
    assert [span.attributes.get("error.type") for span in verified] == ["unsupported", "unsupported", None]


async def test_a_failure_is_on_the_layer_where_it_happened(observed: Observed) -> None:
    gateway = observed.gateway
    before = len(observed.receiver.spans)
    await without_retrieval(gateway)
    await without_engine(gateway)
    await observed.receiver.until(lambda r: len([s for s in r.spans[before:] if s.name == SERVER]) == 2)
    first, second = (
        observed.receiver.trace(s.trace_id) for s in observed.receiver.spans[before:] if s.name == SERVER
    )
    failed = one(first, "retrieval ")
    assert failed.failed
    assert failed.attributes["error.type"] == "EmbedderUnavailableError"
    assert not any(span.name.startswith("chat ") for span in first)
    assert not one(second, "retrieval ").failed
    chats = [span for span in second if span.name.startswith("chat ")]
    assert chats
    assert all(chat.failed for chat in chats)
    assert {chat.attributes["error.type"] for chat in chats} == {"EngineUnavailableError"}
    for spans in (first, second):
        assert not one(spans, SERVER).failed, "the customer got an answer"


async def test_a_streams_spans_end_with_its_last_token(observed: Observed) -> None:
    gateway = observed.gateway
    async with slowly(gateway):
        before = len(observed.receiver.spans)
        events = await gateway.stream(SLOW)
    assert events[-1] == "answer.completed"
    spans = await new_trace(observed, before)
    server, chat = one(spans, SERVER), one(spans, "chat ")
    first_chunk_at = chat.start_s + chat.attributes["gen_ai.response.time_to_first_chunk"]
    assert chat.end_s - first_chunk_at > 0.3, "the span closed before the stream was over"
    assert server.end_s >= chat.end_s
    assert chat.attributes["gen_ai.response.finish_reasons"] == ["stop"]


async def test_a_disconnect_ends_the_spans_there_and_frees_the_engine(observed: Observed) -> None:
    gateway = observed.gateway
    aborted = gateway.vllm.aborted
    async with slowly(gateway):
        before = len(observed.receiver.spans)
        events = await gateway.stream(SLOW, leave_after=1)
        left_at = time.time()
        async with asyncio.timeout(10):
            await gateway.vllm.idle()
    assert events == ["answer.delta"]
    assert gateway.vllm.aborted == aborted + 1
    spans = await new_trace(observed, before)
    server, chat = one(spans, SERVER), one(spans, "chat ")
    assert server.attributes["error.type"] == "client_cancelled"
    assert chat.attributes["error.type"] == "cancelled"
    assert not any(span.failed for span in spans), "nobody failed: the client left"
    assert "gen_ai.response.finish_reasons" not in chat.attributes
    for span in (server, chat):
        # The whole stream takes three seconds more.
        assert span.end_s < left_at + 2


async def test_no_question_answer_or_document_text_is_sent(observed: Observed) -> None:
    await every_outcome(observed.gateway)
    answer = await observed.gateway.ask(REFUND)
    await trace_of(observed, answer["trace_id"])
    texts = [text for span in observed.receiver.spans for text in span.texts]
    for metric in observed.receiver.metrics:
        texts += [str(value) for attributes in metric.attributes for value in attributes.values()]
    for event in observed.receiver.logs:
        texts += [event.event, str(event.body), *map(str, event.attributes.values())]
    for secret in (*SECRETS, observed.gateway.customer_key):
        assert not any(secret in text for text in texts), secret


async def test_what_is_said_of_a_turn_stands_under_its_answer(observed: Observed) -> None:
    gateway = observed.gateway
    before = len(observed.receiver.logs)
    answer = await gateway.ask(REFUND)
    turn = f"/v1/turns/{answer['id']}"
    label = {"label": "wrong_tone", "criteria": "c1-aaaaaaaa", "source": "auto", "note": SECRETS[0]}
    scores = [
        {"name": "format_valid", "value": 1.0, "detail": SECRETS[0], "version": "words-1"},
        {"name": "hallucination_draft", "value": None},
    ]
    await trace_of(observed, answer["trace_id"])
    for _ in range(2):  # the same again says nothing new
        await gateway.feedback(answer["id"], rating="down", comment=SECRETS[0])
        await gateway.put(f"{turn}/labels", label)
        await gateway.put(f"{turn}/scores", {"scores": scores})
    await gateway.review(answer["id"], ending="training_example", label="hallucination", note=SECRETS[0])
    pinned = await gateway.ask(REFUND, key=gateway.eval_key, pin={"model": gateway.fallback})
    await gateway.put(f"/v1/turns/{pinned['id']}/scores", {"scores": [{"name": "only_pinned", "value": 1.0}]})
    await observed.receiver.until(lambda r: len(r.logs) >= before + 6)

    said = observed.receiver.logs[before:]
    assert {event.event for event in said} == {"gen_ai.evaluation.result"}
    own = [event for event in said if event.attributes["twinrail.turn.id"] == answer["id"]]
    told = {
        (
            event.attributes["gen_ai.evaluation.name"],
            event.attributes.get("gen_ai.evaluation.score.value"),
            event.attributes.get("gen_ai.evaluation.score.label"),
            event.attributes["twinrail.evaluation.source"],
            event.attributes.get("twinrail.evaluation.version"),
        )
        for event in own
    }
    assert told == {
        ("user_feedback", 0.0, "down", "human", None),
        ("outcome", 0.0, "wrong_tone", "auto", "c1-aaaaaaaa"),
        ("format_valid", 1.0, None, "auto", "words-1"),
        ("hallucination_draft", None, None, "auto", None),
        ("outcome", 0.0, "hallucination", "human", None),
    }
    assert len(own) == len(told), "nothing is told twice"
    workflow = one(await trace_of(observed, answer["trace_id"]), "invoke_workflow ")
    assert {(event.trace_id, event.span_id) for event in own} == {(answer["trace_id"], workflow.span_id)}
    assert all(event.attributes["twinrail.model.version"] == gateway.stable for event in own)
    (evaluated,) = [event for event in said if event.attributes["twinrail.turn.id"] == pinned["id"]]
    assert evaluated.attributes["twinrail.turn.pinned"] is True
    metrics = await gateway.exposition()
    assert 'gen_ai_evaluation_name="user_feedback"' in metrics
    assert "only_pinned" not in metrics, "evaluations count in no metric"


async def test_every_name_that_is_sent_is_in_the_contract(observed: Observed) -> None:
    known = documented()
    await every_outcome(observed.gateway)
    answer = await observed.gateway.ask(REFUND)
    spans = await trace_of(observed, answer["trace_id"])
    assert spans
    for span in observed.receiver.spans:
        unknown = set(span.attributes) - known.names
        assert not unknown, f"{span.name}: {sorted(unknown)}"
        for event in span.events:
            assert {event.name, *event.attributes} <= known.names
    for said in observed.receiver.logs:
        assert {said.event, *said.attributes} <= known.names
    seen = len(observed.receiver.metrics)
    await observed.receiver.until(lambda r: len({m.name for m in r.metrics[seen:]} & set(known.metrics)) > 20)
    for metric in observed.receiver.metrics[seen:]:
        if metric.name.startswith("otel.sdk."):
            continue  # the SDK's own health
        contract = known.metrics.get(metric.name)
        assert contract is not None, metric.name
        assert metric.unit == contract.unit, metric.name
        assert metric.bounds == pytest.approx(contract.bounds), metric.name
        for attributes in metric.attributes:
            assert set(attributes) <= contract.attributes, metric.name


@asynccontextmanager
async def slowly(gateway: RunningGateway) -> AsyncIterator[None]:
    """Meanwhile, the stable model streams slowly."""
    gateway.vllm.program(gateway.stable, between_tokens_s=0.02)
    try:
        yield
    finally:
        gateway.vllm.program(gateway.stable, between_tokens_s=0.0)


async def new_trace(observed: Observed, before: int) -> list[ReceivedSpan]:
    """The trace of the only question since `before`."""
    await observed.receiver.until(lambda r: any(span.name == SERVER for span in r.spans[before:]))
    server = next(span for span in observed.receiver.spans[before:] if span.name == SERVER)
    return observed.receiver.trace(server.trace_id)


async def test_the_log_says_what_is_done_in_one_line_each(observed: Observed) -> None:
    lines = observed.gateway.log.read_text(encoding="utf-8").splitlines()
    (listening,) = [line for line in lines if " listening " in line]
    assert " action=listening host=127.0.0.1 port=" in listening
