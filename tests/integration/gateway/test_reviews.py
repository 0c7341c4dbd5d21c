"""The review queue: what fills it, two readers who do not see each other, five endings, files."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway.access import KeyStore
from gateway.labels import Row, ask_for_review
from gateway.reviewing import Reason
from gateway.schemas.labels import LabelBody
from gateway.settings import GatewaySettings
from tests.fakes.vllm_server import Behaviour
from tests.integration.gateway.conftest import REFUND_QUESTION, Gateway, reply, started

REFUND = "A full refund is possible within 30 days of a yearly renewal."
GAP = {"ending": "knowledge_gap", "label": "missing_knowledge", "note": "No article."}
FINE = {"ending": "no_fault"}

pytestmark = pytest.mark.usefixtures("help_centre")

Start = Callable[..., Any]


@pytest.fixture
async def twice(database_url: str, tmp_path: Path, settings: GatewaySettings) -> AsyncIterator[Gateway]:
    """A gateway where a second reader reads everything."""
    every = settings.model_copy(update={"review_second_share": 1.0})
    async with started(database_url, tmp_path, every) as running:
        yield running


@pytest.fixture
async def sampling(database_url: str, tmp_path: Path, settings: GatewaySettings) -> AsyncIterator[Gateway]:
    """A gateway whose sample is every answer."""
    every = settings.model_copy(update={"review_sample_share": 1.0})
    async with started(database_url, tmp_path, every) as running:
        yield running


async def asked(gateway: Gateway, question: str = REFUND_QUESTION, **body: Any) -> str:
    gateway.vllm.program(gateway.stable, answer=reply(REFUND))
    key = gateway.keys.evaluation if body else None
    _, answer, _ = await gateway.post("/v1/answers", {"question": question, **body}, key=key)
    await gateway.state.recorder.flushed()
    return str(answer["id"])


async def disliked(gateway: Gateway, question: str = REFUND_QUESTION) -> str:
    turn = await asked(gateway, question)
    status, _, _ = await gateway.post("/v1/feedback", {"turn_id": turn, "rating": "down"})
    assert status == 200
    return turn


async def reader(gateway: Gateway, name: str = "second", *, principals: tuple[str, ...] = ("public",)) -> str:
    made = await KeyStore(gateway.database).create(
        name=name, tenant="acme", principals=principals, scopes=["review"]
    )
    return made.secret


async def read(
    gateway: Gateway, turn: str, body: dict[str, Any], *, key: str | None = None
) -> tuple[int, dict[str, Any]]:
    status, answer, _ = await gateway.post(f"/v1/reviews/{turn}", body, key=key or gateway.keys.staff)
    return status, answer


async def queue(gateway: Gateway, query: str = "", *, key: str | None = None) -> dict[str, Any]:
    status, body = await gateway.get(f"/v1/reviews{query}", key=key or gateway.keys.staff)
    assert status == 200, body
    return body


def ids(body: dict[str, Any]) -> list[str]:
    return [review["id"] for review in body["reviews"]]


async def test_what_fills_the_queue(gateway: Gateway) -> None:
    gateway.vllm.program(gateway.stable, answer=reply("Refunds cost $99 in Wales."))
    gateway.vllm.program(gateway.fallback, answer=reply("Refunds cost $99 in Wales."))
    _, invented, _ = await gateway.post("/v1/answers", {"question": REFUND_QUESTION})
    unknown = await asked(gateway, "zebra quantum bagpipes")
    liked, bad = await asked(gateway), await disliked(gateway)
    await gateway.post("/v1/feedback", {"turn_id": liked, "rating": "up"})
    await gateway.post("/v1/feedback", {"turn_id": unknown, "corrected_answer": "None."})
    canary = {"turn_id": liked, "reason": "canary_disagreement"}
    status, _, _ = await gateway.post("/v1/reviews", canary, key=gateway.keys.evaluation)
    assert status == 200
    await gateway.post("/v1/reviews", canary, key=gateway.keys.evaluation)
    gateway.vllm.models[gateway.stable] = Behaviour(status=500)
    gateway.vllm.models[gateway.fallback] = Behaviour(status=500)
    _, dead, _ = await gateway.post("/v1/answers", {"question": REFUND_QUESTION})
    await gateway.state.recorder.flushed()
    found = {review["id"]: review for review in (await queue(gateway))["reviews"]}
    assert {turn: (review["reasons"], review["ticket"]) for turn, review in found.items()} == {
        invented["id"]: (["failed_verification"], "unsupported"),
        unknown: (["low_confidence", "negative_feedback"], "abstained"),
        dead["id"]: (["no_answer"], "engine"),
        liked: (["canary_disagreement"], "canary_disagreement"),
        bad: (["negative_feedback"], "negative_feedback"),
    }
    assert list(found) == sorted(found), "oldest first"


async def test_the_queue_is_counted_once_and_where_asked_for(gateway: Gateway) -> None:
    turns = [await disliked(gateway) for _ in range(3)]
    first = await queue(gateway, "?limit=2")
    assert (ids(first), first["progress"]["total"], first["clusters"]) == (turns[:2], 3, [])
    later = f"?limit=2&after={turns[1]}"
    second = await queue(gateway, later)
    assert (ids(second), second["progress"], second["clusters"]) == (turns[2:], None, None)
    assert (await queue(gateway, f"{later}&counts=true"))["progress"]["total"] == 3
    assert (await queue(gateway, "?counts=false"))["progress"] is None


async def test_pinned_turns_wait_for_nobody(gateway: Gateway) -> None:
    turn = await asked(gateway, "zebra quantum bagpipes", pin={"model": gateway.stable})
    assert (await gateway.turn(turn, key=gateway.keys.evaluation))["ticket"] is None
    assert (await queue(gateway))["reviews"] == []


async def test_the_sample_holds_tickets_too(sampling: Gateway) -> None:
    good, unknown = await asked(sampling), await asked(sampling, "zebra quantum bagpipes")
    await asked(sampling, pin={"model": sampling.stable})
    found = {review["id"]: review["reasons"] for review in (await queue(sampling))["reviews"]}
    assert found == {good: ["sample"], unknown: ["low_confidence", "sample"]}
    assert ids(await queue(sampling, "?reason=sample")) == [good, unknown]


async def test_feedback_that_is_quicker_than_the_turn_loses_no_reason(gateway: Gateway) -> None:
    _, answer, _ = await gateway.post("/v1/answers", {"question": "zebra quantum bagpipes"})
    await gateway.post("/v1/feedback", {"turn_id": answer["id"], "rating": "down"})
    await gateway.state.recorder.flushed()
    (review,) = (await queue(gateway))["reviews"]
    assert sorted(review["reasons"]) == ["low_confidence", "negative_feedback"]


async def written(gateway: Gateway) -> Row:
    """A turn as it stands in the database."""
    turn = await asked(gateway)
    await gateway.stored(turn)
    row = await gateway.state.turns.read("acme", UUID(turn))
    assert row is not None
    return row


async def while_opening(gateway: Gateway, turn: UUID, other: Awaitable[Any]) -> None:
    """Opens a review in a transaction that ends when the other work is done, or waits for it."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"
    async with gateway.database.transaction("acme") as cursor:
        await ask_for_review(cursor, "acme", turn, Reason.NEGATIVE_FEEDBACK)
        task = asyncio.ensure_future(other)

        async def is_settled() -> bool:
            async with gateway.records.connection() as conn:
                row = await (await conn.execute(waiting)).fetchone()
            return task.done() or row != (0,)

        await gateway.until(is_settled)
    await task


async def test_a_review_opened_before_its_turn_is_written_counts_from_then_on(gateway: Gateway) -> None:
    row = await written(gateway)
    turn = uuid4()
    await gateway.state.reviews.ask("acme", turn, Reason.NEGATIVE_FEEDBACK)
    before = await queue(gateway)
    assert (ids(before), before["progress"]["total"]) == ([], 0)
    await gateway.state.turns.write([{**row, "id": turn, "reasons": None, "ticket": None}])
    after = await queue(gateway)
    assert (ids(after), after["progress"]["total"]) == ([str(turn)], 1)


async def test_a_review_opened_while_its_turn_is_written_is_not_lost(gateway: Gateway) -> None:
    row = await written(gateway)
    turn = uuid4()
    writing = gateway.state.turns.write([{**row, "id": turn, "reasons": None, "ticket": None}])
    await while_opening(gateway, turn, writing)
    after = await queue(gateway)
    assert (ids(after), after["progress"]["total"]) == ([str(turn)], 1)


async def test_a_review_opened_while_its_turn_is_labelled_has_the_label(gateway: Gateway) -> None:
    turn = (await written(gateway))["id"]
    label = LabelBody(label=None, rule="7", criteria="c1-aaaaaaaa", source="auto", cluster="refunds")
    labelling = gateway.state.labels.put_label("acme", turn, label.model_dump(mode="json"))
    await while_opening(gateway, turn, labelling)
    (review,) = (await queue(gateway))["reviews"]
    assert review["proposed"] == {"label": None, "sub": "", "rule": "7", "criteria": "c1-aaaaaaaa"}
    assert review["cluster"] == "refunds"


@pytest.mark.parametrize(
    "body",
    [
        GAP,
        {"ending": "training_example", "label": "wrong_tone", "corrected_answer": "Within 30 days."},
        {"ending": "policy_case", "label": "policy_violation", "sub": "promise"},
        {"ending": "regression_test"},
        FINE,
    ],
    ids=lambda body: body["ending"],
)
async def test_a_review_closes_with_one_ending(gateway: Gateway, body: dict[str, Any]) -> None:
    turn = await disliked(gateway)
    status, closed = await read(gateway, turn, body)
    assert (status, closed["state"], closed["closed_by"], closed["readers"]) == (200, "closed", "staff", 1)
    for name, value in body.items():
        assert closed[name] == value
    _, labels = await gateway.get(f"/v1/turns/{turn}/labels", key=gateway.keys.staff)
    (label,) = labels["labels"]
    assert (label["source"], label["label"], label["reviewer"]) == ("human", body.get("label"), "staff")
    progress = (await queue(gateway))["progress"]
    assert (progress["total"], progress["open"], progress["closed"]) == (1, 0, 1)
    assert {ending: n for ending, n in progress["endings"].items() if n} == {body["ending"]: 1}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "ending"),
        ({"ending": "nowhere"}, "ending"),
        ({"ending": "no_fault", "label": "wrong_tone"}, "body"),
        ({"ending": "policy_case", "sub": "promise"}, "body"),
        ({"ending": "knowledge_gap", "label": "guess"}, "label"),
    ],
)
async def test_a_reading_that_makes_no_sense_is_refused(
    gateway: Gateway, body: dict[str, Any], field: str
) -> None:
    turn = await disliked(gateway)
    status, problem = await read(gateway, turn, body)
    assert (status, problem["field"]) == (422, field)
    assert (await queue(gateway))["progress"]["open"] == 1


async def test_the_last_word_of_a_reader_counts_and_undo_brings_back_the_one_before(gateway: Gateway) -> None:
    turn = await disliked(gateway)
    await read(gateway, turn, GAP)
    _, second = await read(gateway, turn, FINE)
    assert (second["ending"], second["label"], len(second["readings"])) == ("no_fault", None, 1)
    status, back, _ = await gateway.post(f"/v1/reviews/{turn}:undo", {}, key=gateway.keys.staff)
    assert (status, back["ending"], back["note"]) == (200, "knowledge_gap", "No article.")
    _, fresh, _ = await gateway.post(f"/v1/reviews/{turn}:undo", {}, key=gateway.keys.staff)
    assert (fresh["state"], fresh["ending"], fresh["readings"]) == ("open", None, [])
    status, problem, _ = await gateway.post(f"/v1/reviews/{turn}:undo", {}, key=gateway.keys.staff)
    assert (status, problem["field"]) == (409, "id")


async def test_the_second_reader_does_not_see_the_first(twice: Gateway) -> None:
    turn, other = await disliked(twice), await reader(twice)
    _, mine = await read(twice, turn, GAP)
    assert (mine["state"], mine["ending"], len(mine["readings"])) == ("second", None, 1)
    _, hidden = await twice.get(f"/v1/reviews/{turn}", key=other)
    assert (hidden["state"], hidden["readings"], hidden["read_by_me"]) == ("second", [], False)
    assert "missing_knowledge" not in json.dumps(hidden)
    assert (await twice.get(f"/v1/turns/{turn}/labels", key=other))[1] == {"labels": []}
    assert "missing_knowledge" not in json.dumps(await queue(twice, key=other))
    assert ids(await queue(twice, "?state=second&unread=true", key=other)) == [turn]
    assert ids(await queue(twice, "?state=second&unread=true")) == []
    _, both = await read(twice, turn, {**GAP, "note": "Agreed."}, key=other)
    assert (both["state"], both["ending"]) == ("closed", "knowledge_gap")
    assert [each["reader"] for each in both["readings"]] == ["staff", "second"]
    assert (await queue(twice))["progress"]["agreement"] == {
        "read_twice": 1,
        "same_label": 1,
        "same_ending": 1,
        "proposed": 0,
        "accepted": 0,
    }


async def test_a_dispute_is_settled_and_stays_one_in_the_agreement(twice: Gateway) -> None:
    turn, other = await disliked(twice), await reader(twice)
    await read(twice, turn, GAP)
    assert (await read(twice, turn, {**FINE, "settles": True}))[0] == 409, "nothing to settle yet"
    _, both = await read(twice, turn, FINE, key=other)
    assert (both["state"], both["ending"], len(both["readings"])) == ("disputed", None, 2)
    status, problem = await read(twice, turn, FINE)
    assert (status, problem["field"]) == (409, "settles")
    _, settled = await read(twice, turn, {**GAP, "settles": True}, key=other)
    assert (settled["state"], settled["ending"], settled["closed_by"]) == (
        "closed",
        "knowledge_gap",
        "second",
    )
    assert len(settled["readings"]) == 3
    agreement = (await queue(twice))["progress"]["agreement"]
    assert (agreement["read_twice"], agreement["same_label"], agreement["same_ending"]) == (1, 0, 0)
    await twice.post(f"/v1/reviews/{turn}:undo", {}, key=other)
    assert (await twice.get(f"/v1/reviews/{turn}", key=other))[1]["state"] == "disputed"


async def test_what_another_reader_closed_is_corrected_by_settling_only(gateway: Gateway) -> None:
    turn, other = await disliked(gateway), await reader(gateway)
    await read(gateway, turn, GAP)
    status, problem = await read(gateway, turn, FINE, key=other)
    assert (status, problem["field"]) == (409, "settles")
    status, corrected = await read(gateway, turn, {**FINE, "settles": True}, key=other)
    assert (status, corrected["ending"], len(corrected["readings"])) == (200, "no_fault", 2)


async def test_agreement_with_the_automatic_label(gateway: Gateway) -> None:
    turns = [await asked(gateway) for _ in range(3)]
    for turn in turns:
        label = {"label": "missing_knowledge", "source": "auto", "cluster": f"c{turns.index(turn) % 2}"}
        headers = gateway.headers(gateway.keys.evaluation)
        async with gateway.session.put(
            f"{gateway.url}/v1/turns/{turn}/labels", json=label, headers=headers
        ) as done:
            assert done.status == 200
    await read(gateway, turns[0], GAP)
    await read(gateway, turns[1], {"ending": "regression_test", "label": "wrong_retrieval"})
    found = await queue(gateway)
    agreement = found["progress"]["agreement"]
    assert (agreement["proposed"], agreement["accepted"]) == (2, 1)
    assert found["clusters"] == ["c0", "c1"]
    assert ids(await queue(gateway, "?cluster=c1")) == [turns[1]]
    assert ids(await queue(gateway, "?label=missing_knowledge")) == [turns[0], turns[2]]
    assert ids(await queue(gateway, "?label=wrong_retrieval&state=closed")) == [turns[1]]
    one = await queue(gateway, f"?limit=1&after={turns[0]}&counts=true")
    assert (ids(one), one["progress"]["total"]) == ([turns[1]], 3)


async def test_a_key_reviews_only_what_it_may_see(gateway: Gateway) -> None:
    _, answer, _ = await gateway.post(
        "/v1/answers",
        {"question": "What may agents credit without approval?"},
        key=gateway.keys.staff,
    )
    await gateway.state.recorder.flushed()
    turn, public = answer["id"], await reader(gateway, "public")
    await gateway.post("/v1/feedback", {"turn_id": turn, "rating": "down"}, key=gateway.keys.staff)
    for key in (public, gateway.keys.stranger):
        found = await queue(gateway, key=key)
        assert (found["reviews"], found["progress"]["total"]) == ([], 0)
        assert (await gateway.get(f"/v1/reviews/{turn}", key=key))[0] == 404
        assert (await read(gateway, turn, FINE, key=key))[0] == 404
        _, gaps = await gateway.get("/v1/reviews/gaps", key=key)
        assert gaps == {"gaps": []}
    assert ids(await queue(gateway)) == [turn]
    for key in (gateway.keys.customer, gateway.keys.release):
        assert (await gateway.get("/v1/reviews", key=key))[0] == 403
    assert (await read(gateway, turn, FINE, key=gateway.keys.evaluation))[0] == 403


async def test_a_review_that_is_not_there(gateway: Gateway) -> None:
    turn = await asked(gateway)
    for missing in (turn, str(uuid4())):
        assert (await gateway.get(f"/v1/reviews/{missing}", key=gateway.keys.staff))[0] == 404
        assert (await read(gateway, missing, FINE))[0] == 404
    assert (await gateway.get("/v1/reviews?state=lost", key=gateway.keys.staff))[0] == 422
    assert (await gateway.get("/v1/reviews/nonsense", key=gateway.keys.staff))[0] == 422


async def test_gaps_are_listed_by_missing_article_for_its_owner(gateway: Gateway) -> None:
    questions = ["Is a refund possible for guests?", "Is a refund possible for a gift card?"]
    turns = [await disliked(gateway, question) for question in questions]
    for turn in turns:
        await read(gateway, turn, {**GAP, "corrected_answer": "Ask billing."})
    await read(gateway, await disliked(gateway), FINE)
    _, found = await gateway.get("/v1/reviews/gaps", key=gateway.keys.staff)
    listed = [each["question"] for gap in found["gaps"] for each in gap["questions"]]
    assert sorted(listed) == sorted(questions)
    counts = [len(gap["questions"]) for gap in found["gaps"]]
    assert counts == sorted(counts, reverse=True)
    draft = found["gaps"][0]["draft"]
    assert draft.startswith(f"# {found['gaps'][0]['name']}\n")
    assert "- Is a refund possible" in draft
    assert "Wanted answer: Ask billing." in draft


async def test_closed_reviews_go_into_files(gateway: Gateway) -> None:
    formula = "=1+1 is a refund possible within 30 days of a yearly renewal?"
    turn = await disliked(gateway, formula)
    await read(gateway, turn, GAP)
    await disliked(gateway)
    found = {}
    for form in ("jsonl", "csv"):
        async with gateway.session.get(
            f"{gateway.url}/v1/reviews/export?format={form}", headers=gateway.headers(gateway.keys.staff)
        ) as response:
            assert response.status == 200
            assert f"reviews.{form}" in response.headers["content-disposition"]
            found[form] = await response.text()
    (line,) = found["jsonl"].splitlines()
    record = json.loads(line)
    assert (record["id"], record["ending"], record["question"]) == (turn, "knowledge_gap", formula)
    (row,) = csv.DictReader(io.StringIO(found["csv"]))
    assert (row["id"], row["label"], row["reasons"]) == (turn, "missing_knowledge", "negative_feedback")
    assert row["question"] == f"'{formula}"
    assert list(row) == list(record)
