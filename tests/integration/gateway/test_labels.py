"""Labels and scores of turns, reports, and the verdicts that whoever gives traffic asks."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest

from eval.client import GatewayClient
from eval.errors import AnswerFailedError, GatewayRefusedError
from gateway.reports import digest_of
from retrieval.building import build
from retrieval.store import KnowledgeStore
from tests.fakes.embedding import WordEmbedder
from tests.integration.gateway.conftest import REFUND_QUESTION, Gateway, reply

REFUND = "A full refund is possible within 30 days of a yearly renewal."
STALE: dict[str, Any] = {
    "label": "stale_knowledge",
    "sub": "index",
    "rule": "4b",
    "contributing": [{"label": "wrong_tone", "sub": "", "rule": "6"}],
    "checks": [{"name": "indexed", "value": False, "detail": "within 30 days", "version": "1"}],
    "criteria": "c1-aaaaaaaa",
    "cluster": "refunds",
    "source": "auto",
    "reviewer": "",
    "note": "",
}


async def asked(gateway: Gateway, **body: Any) -> str:
    gateway.vllm.program(gateway.stable, answer=reply(REFUND))
    _, answer, _ = await gateway.post(
        "/v1/answers", {"question": REFUND_QUESTION, **body}, key=gateway.keys.evaluation
    )
    await gateway.state.recorder.flushed()
    return str(answer["id"])


async def put(
    gateway: Gateway, path: str, body: Any, *, key: str | None = None
) -> tuple[int, dict[str, Any]]:
    headers = gateway.headers(key or gateway.keys.evaluation)
    async with gateway.session.put(gateway.url + path, json=body, headers=headers) as response:
        return response.status, await response.json(content_type=None)


def client_of(gateway: Gateway, key: str | None = None) -> GatewayClient:
    keys = {"customer": key or gateway.keys.evaluation}
    return GatewayClient(gateway.session, url=gateway.url, keys=keys, attempts=2, first_pause_s=0.01)


async def test_labels_are_kept_and_the_newest_of_each_source_counts(gateway: Gateway) -> None:
    turn = await asked(gateway)
    path = f"/v1/turns/{turn}/labels"
    status, first = await put(gateway, path, STALE)
    assert (status, first["label"], first["checks"]) == (200, "stale_knowledge", STALE["checks"])
    _, again = await put(gateway, path, STALE)
    assert again == first
    passed = {"label": None, "rule": "7", "criteria": "c1-aaaaaaaa", "source": "auto"}
    await put(gateway, path, passed)
    human = {"label": "hallucination", "source": "human", "reviewer": "ann", "note": "30 is invented"}
    assert (await put(gateway, path, human, key=gateway.keys.staff))[0] == 200
    _, found = await gateway.get(path, key=gateway.keys.staff)
    assert [(each["source"], each["label"]) for each in found["labels"]] == [
        ("auto", None),
        ("human", "hallucination"),
    ]
    async with gateway.records.connection() as conn, conn.transaction():
        await conn.execute("SELECT set_config('gateway.tenant', 'acme', true)")
        kept = await (await conn.execute("SELECT count(*) FROM gateway.turn_label")).fetchone()
    assert kept == (3,)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"label": "bad_luck"}, "label"),
        ({"label": None}, "body"),
        ({"source": "human"}, "body"),
        ({"checks": [{"name": "", "value": True}]}, "checks.0.name"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_a_label_that_makes_no_sense_is_refused(
    gateway: Gateway, change: dict[str, Any], field: str
) -> None:
    turn = await asked(gateway)
    status, problem = await put(gateway, f"/v1/turns/{turn}/labels", {**STALE, **change})
    assert (status, problem["field"]) == (422, field)


async def test_who_may_write_and_whose_turns(gateway: Gateway) -> None:
    turn = await asked(gateway)
    path = f"/v1/turns/{turn}/labels"
    status, problem = await put(gateway, path, STALE, key=gateway.keys.staff)
    assert (status, problem["field"]) == (403, "source")
    assert (await put(gateway, path, STALE, key=gateway.keys.customer))[0] == 403
    human = {**STALE, "source": "human", "reviewer": "eve"}
    assert (await put(gateway, path, human, key=gateway.keys.stranger))[0] == 404
    assert (await gateway.get(path, key=gateway.keys.stranger))[0] == 404
    scores = {"scores": [{"name": "facts", "value": 1.0}]}
    assert (await put(gateway, f"/v1/turns/{turn}/scores", scores, key=gateway.keys.staff))[0] == 403
    assert (await put(gateway, f"/v1/turns/{uuid4()}/labels", STALE))[0] == 404


async def test_scores_keep_the_last_value_and_null_is_not_zero(gateway: Gateway) -> None:
    turn = await asked(gateway)
    client = client_of(gateway)
    await client.put_scores(turn, [{"name": "facts", "value": 0.5}, {"name": "tone", "value": None}])
    await client.put_scores(turn, [{"name": "facts", "value": 1.0, "detail": "2 of 2", "version": "2"}])
    _, found = await gateway.get(f"/v1/turns/{turn}/scores", key=gateway.keys.staff)
    assert [(each["name"], each["value"], each["version"]) for each in found["scores"]] == [
        ("facts", 1.0, "2"),
        ("tone", None, ""),
    ]
    with pytest.raises(AnswerFailedError, match="facts is there twice"):
        await client.put_scores(turn, [{"name": "facts", "value": 1}, {"name": "facts", "value": 0}])


async def test_a_failure_is_offered_for_review_and_a_pass_is_not(gateway: Gateway) -> None:
    client = client_of(gateway)
    good, bad = await asked(gateway, pin={"model": gateway.stable}), await asked(gateway)
    await client.put_labels(good, {"label": None, "source": "auto", "criteria": "c1-a"})
    await client.put_labels(bad, STALE)
    _, queue = await gateway.get("/v1/reviews", key=gateway.keys.staff)
    (review,) = queue["reviews"]
    assert (review["id"], review["reasons"], review["cluster"]) == (bad, ["labelled"], "refunds")
    assert review["proposed"] == {
        "label": "stale_knowledge",
        "sub": "index",
        "rule": "4b",
        "criteria": "c1-aaaaaaaa",
    }


async def test_changed_criteria_open_a_closed_review_again(gateway: Gateway) -> None:
    client, turn = client_of(gateway), await asked(gateway)
    await client.put_labels(turn, STALE)
    path = f"/v1/reviews/{turn}"
    closing = {"ending": "knowledge_gap", "label": "stale_knowledge", "sub": "never published"}
    _, closed, _ = await gateway.post(path, closing, key=gateway.keys.staff)
    assert closed["state"] == "closed"
    people = [row for row in await client.labels(turn) if row["source"] == "human"]
    assert [(row["label"], row["sub"]) for row in people] == [("stale_knowledge", "never published")]
    # The same cause under other criteria, or another cause under the same: nothing to read again.
    await client.put_labels(turn, {**STALE, "criteria": "c2-bbbbbbbb"})
    await client.put_labels(turn, {**STALE, "sub": "choice", "criteria": "c2-bbbbbbbb"})
    assert (await gateway.get(path, key=gateway.keys.staff))[1]["state"] == "closed"
    await client.put_labels(turn, {**STALE, "label": "wrong_retrieval", "criteria": "c3-cccccccc"})
    _, again = await gateway.get(path, key=gateway.keys.staff)
    assert (again["state"], again["ending"], again["readings"]) == ("open", None, [])
    assert again["reopened_at"] is not None
    assert {row["source"] for row in await client.labels(turn)} == {"auto"}, (
        "people's word was on other criteria"
    )


async def test_what_is_said_of_an_erased_document_goes_with_it(gateway: Gateway) -> None:
    turn = await asked(gateway)
    client = client_of(gateway)
    await client.put_labels(turn, STALE)
    await client.put_scores(turn, [{"name": "facts", "value": 1.0, "detail": "within 30 days"}])
    corrected = {
        "ending": "training_example",
        "label": "hallucination",
        "corrected_answer": "Within 30 days.",
    }
    await gateway.post(f"/v1/reviews/{turn}", corrected, key=gateway.keys.staff)
    said = {"turn_id": turn, "rating": "down", "corrected_answer": "Within 30 days."}
    await gateway.post("/v1/feedback", said, key=gateway.keys.evaluation)
    assert await gateway.state.turns.erase_document("acme", "refunds") == 1
    for late in (False, True):
        if late:  # an evaluation that writes what it has kept
            await client.put_labels(turn, {**STALE, "note": "late"})
            await client.put_scores(turn, [{"name": "facts", "value": 0.0, "detail": "within 30 days"}])
        _, labels = await gateway.get(f"/v1/turns/{turn}/labels", key=gateway.keys.staff)
        _, scores = await gateway.get(f"/v1/turns/{turn}/scores", key=gateway.keys.staff)
        _, review = await gateway.get(f"/v1/reviews/{turn}", key=gateway.keys.staff)
        (feedback,) = (await gateway.turn(turn, key=gateway.keys.staff))["feedback"]
        assert feedback["rating"] == "down"
        assert "30 days" not in str(
            [labels, scores, review["readings"], review["corrected_answer"], feedback]
        )


async def test_a_report_keeps_every_content_of_its_name(gateway: Gateway) -> None:
    client = client_of(gateway)
    content = {"verdict": "better retrieval", "n": 100, "share": 0.1, "text": "Größe"}
    digest = await client.put_report("advice-1", kind="advice", content=content)
    assert digest == digest_of(content)
    later = await client.put_report("advice-1", kind="advice", content={"verdict": "tune"})
    await client.put_report("run-1", kind="run", content={})
    _, listed = await gateway.get("/v1/reports", key=gateway.keys.staff)
    assert [(each["name"], each["sha256"]) for each in listed["reports"]][1:] == [("advice-1", later)]
    _, advice = await gateway.get("/v1/reports?kind=advice", key=gateway.keys.staff)
    assert [each["name"] for each in advice["reports"]] == ["advice-1"]
    _, newest = await gateway.get("/v1/reports/advice-1", key=gateway.keys.staff)
    assert newest["content"] == {"verdict": "tune"}
    _, first = await gateway.get(f"/v1/reports/advice-1?sha256={digest}", key=gateway.keys.staff)
    assert (first["content"], first["written_by"]) == (content, "eval")
    assert (newest["page_type"], newest["page"]) == (None, None)
    # The same content again is the newest, and no second one.
    html = "<!doctype html><p>Tune.</p>"
    assert await client.put_report("advice-1", kind="advice", content=content, html=html) == digest
    _, shown = await gateway.get("/v1/reports/advice-1", key=gateway.keys.staff)
    assert (shown["page_type"], shown["page"]) == ("text/html", html)
    _, listed = await gateway.get("/v1/reports?kind=advice", key=gateway.keys.staff)
    assert [(row["page_type"], "page" in row) for row in listed["reports"]] == [("text/html", False)]
    assert (await gateway.get("/v1/reports/advice-1", key=gateway.keys.staff))[1]["sha256"] == digest


async def test_reports_belong_to_a_tenant_and_to_those_who_may_read_them(gateway: Gateway) -> None:
    await client_of(gateway).put_report("run-1", kind="run", content={"n": 1})
    assert (await gateway.get("/v1/reports/run-1", key=gateway.keys.stranger))[0] == 404
    assert (await gateway.get("/v1/reports", key=gateway.keys.stranger))[1] == {"reports": []}
    assert (await gateway.get("/v1/reports", key=gateway.keys.customer))[0] == 403
    body = {"kind": "run", "content": {}}
    assert (await put(gateway, "/v1/reports/run-1", body, key=gateway.keys.staff))[0] == 403
    assert (await put(gateway, "/v1/reports/-x", body))[0] == 422
    for page in ({"type": "text/plain", "text": "x"}, {"type": "text/html", "text": "a\x00b"}):
        status, problem = await put(gateway, "/v1/reports/x", {**body, "page": page})
        assert (status, problem["field"].startswith("page.")) == (422, True), problem
    status, problem = await put(gateway, "/v1/reports/x", {"kind": "run", "content": {"a": [{"b": "\x00"}]}})
    assert (status, problem["field"]) == (422, "content")
    big = {"kind": "run", "content": {"text": "x" * 400_000}}
    assert (await put(gateway, "/v1/reports/big", big))[0] == 200


async def verdict(gateway: Gateway, said: str, *, gate: str = "release", version: str = "") -> None:
    client = client_of(gateway)
    digest = await client.put_report("gate-1", kind="gate", content={"verdict": said})
    await client.put_verdict(
        "model", version or gateway.canary, gate=gate, verdict=said, report="gate-1", sha256=digest
    )


async def promoted(gateway: Gateway, **body: Any) -> tuple[int, dict[str, Any]]:
    status, answer, _ = await gateway.post(
        "/v1/rails/model:promote", {"version": gateway.canary, **body}, key=gateway.keys.release
    )
    return status, answer


async def test_a_refused_version_is_promoted_by_force_only_and_that_is_kept(gateway: Gateway) -> None:
    await verdict(gateway, "refused")
    status, problem = await promoted(gateway)
    assert (status, problem["type"], problem["field"]) == (
        409,
        "urn:twinrail:problem:gate-refused",
        "version",
    )
    assert "gate-1" in problem["detail"]
    _, rails = await gateway.get("/v1/rails", key=gateway.keys.release)
    assert [rail["stable"] for rail in rails["rails"] if rail["rail"] == "model"] == [gateway.stable]
    assert (await promoted(gateway, force=True))[0] == 200
    _, listed = await gateway.get("/v1/rails/model/versions", key=gateway.keys.release)
    (version,) = (each for each in listed["versions"] if each["id"] == gateway.canary)
    assert [(each["gate"], each["verdict"]) for each in version["verdicts"]] == [("release", "refused")]
    assert [(each["gates"], each["forced_by"]) for each in version["forced"]] == [(["release"], "release")]


async def moved(gateway: Gateway, action: str, **body: Any) -> tuple[int, dict[str, Any]]:
    status, answer, _ = await gateway.post(f"/v1/rails/model:{action}", body, key=gateway.keys.release)
    return status, answer


async def forced(gateway: Gateway) -> list[Any]:
    """The gates against which the canary was given traffic, newest first."""
    _, listed = await gateway.get("/v1/rails/model/versions", key=gateway.keys.release)
    (version,) = (each for each in listed["versions"] if each["id"] == gateway.canary)
    return [each["gates"] for each in version["forced"]]


async def test_a_refused_version_gets_a_share_by_force_only_and_that_is_kept(gateway: Gateway) -> None:
    """It was let in, and is refused later: no start, no ramp, and none that an undo gives back."""
    canary = {"version": gateway.canary}
    for share in (500, 1_000):
        assert (await moved(gateway, "canary", **canary, weight_bp=share))[0] == 200
    await verdict(gateway, "refused")
    for share in (500, 2_000, 10_000):
        status, problem = await moved(gateway, "canary", **canary, weight_bp=share)
        assert (status, problem["type"], problem["field"]) == (
            409,
            "urn:twinrail:problem:gate-refused",
            "version",
        )
        assert "release refused it, see the report gate-1" in problem["detail"]
        assert "--force" in problem["fix"]
    # To end it, or to name it without a share, needs no force.
    for ending in ({**canary, "weight_bp": 0}, {"version": None, "weight_bp": 0}):
        assert (await moved(gateway, "canary", **canary, weight_bp=500, force=True))[0] == 200
        assert (await moved(gateway, "canary", **ending))[0] == 200
        status, problem = await moved(gateway, "undo")
        assert (status, problem["field"]) == (409, "rail")
        assert problem["type"] == "urn:twinrail:problem:gate-refused"
    assert await forced(gateway) == [["release"]] * 2

    status, pointer = await moved(gateway, "canary", **canary, weight_bp=2_000, force=True)
    assert (status, pointer["canary_weight_bp"]) == (200, 2_000)
    assert await forced(gateway) == [["release"]] * 3
    _, shown = await gateway.get(f"/v1/rails/model/versions/{gateway.canary}", key=gateway.keys.release)
    assert (shown["events"][0]["action"], shown["events"][0]["reason"]) == (
        "promoted_by_force",
        "release refused it",
    )


async def test_the_way_back_waits_for_no_gate_and_a_redo_does(gateway: Gateway) -> None:
    await verdict(gateway, "refused", version=gateway.stable)
    assert (await promoted(gateway))[0] == 200
    await verdict(gateway, "refused")
    status, undone = await moved(gateway, "undo")
    assert (status, undone["pointer"]["stable"]) == (200, gateway.stable)
    status, problem = await moved(gateway, "undo")
    assert (status, problem["type"], problem["field"]) == (409, "urn:twinrail:problem:gate-refused", "rail")
    assert gateway.canary in problem["detail"]
    status, undone = await moved(gateway, "undo", force=True)
    assert (status, undone["pointer"]["stable"]) == (200, gateway.canary)
    assert await forced(gateway) == [["release"]]


async def test_a_refused_index_version_gets_a_share_by_force_only(gateway: Gateway) -> None:
    store = KnowledgeStore(gateway.chunks)
    other = (await store.version((await store.pointer()).stable)).derived(name="other", dense_weight=0.4)
    await store.register(other)
    embedder = WordEmbedder(dims=256)
    await build(store, {embedder.id: embedder}, other.id)
    client = client_of(gateway)
    digest = await client.put_report("gate-1", kind="gate", content={"verdict": "refused"})
    await client.put_verdict(
        "knowledge", other.id, gate="release", verdict="refused", report="gate-1", sha256=digest
    )
    share = {"version": other.id, "weight_bp": 500}
    key = gateway.keys.release
    status, problem, _ = await gateway.post("/v1/rails/knowledge:canary", share, key=key)
    assert (status, problem["type"]) == (409, "urn:twinrail:problem:gate-refused")
    status, pointer, _ = await gateway.post("/v1/rails/knowledge:canary", {**share, "force": True}, key=key)
    assert (status, pointer["canary"]) == (200, other.id)
    _, listed = await gateway.get("/v1/rails/knowledge/versions", key=key)
    assert [len(each["forced"]) for each in listed["versions"] if each["id"] == other.id] == [1]


async def test_the_newest_verdict_of_each_gate_counts(gateway: Gateway) -> None:
    await verdict(gateway, "refused")
    await verdict(gateway, "pass", gate="policy")
    assert (await promoted(gateway))[0] == 409, "another gate's pass does not lift a refusal"
    await verdict(gateway, "not_enough")
    status, _ = await promoted(gateway)
    assert status == 200
    _, listed = await gateway.get("/v1/rails/model/versions", key=gateway.keys.release)
    (version,) = (each for each in listed["versions"] if each["id"] == gateway.canary)
    assert {each["gate"]: each["verdict"] for each in version["verdicts"]} == {
        "policy": "pass",
        "release": "not_enough",
    }
    assert version["forced"] == []


async def test_a_verdict_names_a_version_and_a_report_that_are_there(gateway: Gateway) -> None:
    client = client_of(gateway)
    digest = await client.put_report("gate-1", kind="gate", content={})
    with pytest.raises(AnswerFailedError, match="no report gate-2"):
        await client.put_verdict(
            "model", gateway.canary, gate="g", verdict="pass", report="gate-2", sha256=digest
        )
    with pytest.raises(GatewayRefusedError, match="404"):
        await client.put_verdict(
            "knowledge", "k-none-00000000", gate="g", verdict="pass", report="gate-1", sha256=digest
        )
    with pytest.raises(GatewayRefusedError, match="403"):
        await client_of(gateway, gateway.keys.release).put_verdict(
            "model", gateway.canary, gate="g", verdict="pass", report="gate-1", sha256=digest
        )


async def test_a_turn_that_is_still_being_written_can_be_labelled(gateway: Gateway) -> None:
    gateway.vllm.program(gateway.stable, answer=reply(REFUND))
    _, answer, _ = await gateway.post(
        "/v1/answers", {"question": REFUND_QUESTION}, key=gateway.keys.evaluation
    )
    await client_of(gateway).put_labels(answer["id"], STALE)
    await gateway.state.recorder.flushed()
    turn = await gateway.state.turns.read("acme", UUID(answer["id"]))
    assert turn is not None
    assert turn["ticket"] == "labelled"


async def test_without_a_database_writing_says_so(gateway: Gateway) -> None:
    turn = await asked(gateway)
    await gateway.records.close()
    async with aiohttp.ClientSession() as session:
        headers = gateway.headers(gateway.keys.evaluation)
        async with session.put(
            f"{gateway.url}/v1/turns/{turn}/labels", json=STALE, headers=headers
        ) as response:
            assert response.status == 503
