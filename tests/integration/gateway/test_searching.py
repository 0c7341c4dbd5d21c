"""`POST /v1/search` over HTTP: filters, snapshots and days to read, and what it says of how it searched."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from retrieval.building import build
from retrieval.ingest import ingest
from retrieval.store import KnowledgeStore
from tests.fakes.embedding import WordEmbedder
from tests.fakes.parsers import shared_parsers
from tests.integration.gateway.conftest import Gateway

EMBEDDER = WordEmbedder(dims=256)
#: Beside these four, three public articles of the fixture have none of the fields.
PLANS: Mapping[str, Mapping[str, Any]] = {
    "mini": {"plan": "mini", "seats": 1, "trial": True, "since": "2025-01-10", "tags": ["mail"]},
    "sync": {"plan": "sync", "seats": 5, "trial": False, "since": "2025-06-01", "tags": ["mail", "files"]},
    "team": {"plan": "team", "seats": 20, "trial": True, "since": "2026-01-15", "tags": ["files"]},
    "free": {"plan": "free"},
}
ARTICLES = "guests refunds sync-plus-price "
FIELDS = "known fields: language, plan, product, seats, since, tags, trial, visibility"

Publish = Callable[[Mapping[str, Mapping[str, Any]]], Awaitable[None]]


@pytest.fixture
def store(gateway: Gateway) -> KnowledgeStore:
    return KnowledgeStore(gateway.chunks)


@pytest.fixture
def publish(store: KnowledgeStore, tmp_path: Path) -> Publish:
    """Publish a source of its own beside the articles of the fixture."""

    async def publish(documents: Mapping[str, Mapping[str, Any]]) -> None:
        path = tmp_path / "more.jsonl"
        rows = [
            {"id": name, "title": name, "text": "what the plan has", **more}
            for name, more in documents.items()
        ]
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
        await ingest(store, EMBEDDER, path, tenant="acme", source_name="more", parsers=shared_parsers())

    return publish


async def search(gateway: Gateway, **body: Any) -> dict[str, Any]:
    """A search of whoever may choose what is read."""
    status, found, _ = await gateway.post(
        "/v1/search", {"question": "plan", "k": 50, **body}, key=gateway.keys.evaluation
    )
    assert status == 200, found
    return found


def ids(found: Mapping[str, Any]) -> str:
    return " ".join(sorted({hit["document_id"] for hit in found["hits"]}))


async def refused(gateway: Gateway, **body: Any) -> tuple[str, str]:
    """Field and detail of the problem."""
    status, problem, _ = await gateway.post(
        "/v1/search", {"question": "plan", **body}, key=gateway.keys.evaluation
    )
    assert status == 422, problem
    assert problem["fix"]
    return problem["field"], problem["detail"]


async def test_every_operator_finds_what_it_says(gateway: Gateway, publish: Publish) -> None:
    await publish({name: {"metadata": fields} for name, fields in PLANS.items()})
    is_plan = {"plan": {"$exists": True}}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"plan": "sync"}, "sync"),
        ({"plan": ["sync", "free"]}, "free sync"),
        ({"plan": {"$eq": "team"}}, "team"),
        ({"plan": {"$ne": "team"}}, "free mini sync"),
        ({"plan": {"$in": ["mini", "none"]}}, "mini"),
        ({"plan": {"$nin": ["mini", "sync"]}}, "free team"),
        ({"plan": {"$like": "%e%"}}, "free team"),
        ({"plan": {"$ilike": "S%"}}, "sync"),
        ({"plan": {"$gt": "mini"}}, "sync team"),
        ({"seats": 5}, "sync"),
        ({"seats": {"$gt": 5}}, "team"),
        ({"seats": {"$gte": 5}}, "sync team"),
        ({"seats": {"$lt": 5}}, "mini"),
        ({"seats": {"$lte": 5}}, "mini sync"),
        ({"seats": {"$gt": 1, "$lt": 20}}, "sync"),
        ({"seats": {"$between": [1, 5]}}, "mini sync"),
        ({"seats": {"$ne": 5}}, "mini team"),
        ({"seats": {"$nin": [5]}}, "mini team"),
        ({"trial": True}, "mini team"),
        ({"trial": {"$ne": True}}, "sync"),
        ({"since": {"$gte": "2025-06-01"}}, "sync team"),
        ({"since": {"$lt": "2025-06-01"}}, "mini"),
        ({"tags": "mail"}, "mini sync"),
        ({"tags": {"$in": ["files"]}}, "sync team"),
        ({"tags": {"$ne": "mail"}}, "team"),
        ({"seats": {"$exists": True}}, "mini sync team"),
        ({**is_plan, "seats": {"$exists": False}}, "free"),
        ({"plan": "team", "trial": True}, "team"),
        ({"plan": "team", "trial": False}, ""),
        ({"$and": [{"trial": True}, {"seats": {"$gt": 1}}]}, "team"),
        ({"$or": [{"plan": "free"}, {"seats": {"$lte": 1}}]}, "free mini"),
        ({"$and": [is_plan, {"$not": {"trial": True}}]}, "free sync"),
        ({"$not": {"trial": True}}, "free " + ARTICLES + "sync"),
        ({"$not": [{"trial": True}, {"plan": "team"}]}, "free guests mini refunds sync sync-plus-price"),
        ({"$or": [{"$and": [{"trial": True}, {"tags": "mail"}]}, {"plan": "free"}]}, "free mini"),
        ({"document_id": {"$in": ["team", "guests"]}}, "guests team"),
        ({"language": "de"}, ""),
    ]
    found = [(filters, ids(await search(gateway, filters=filters))) for filters, _ in cases]
    assert found == [(filters, " ".join(sorted(wanted.split()))) for filters, wanted in cases]


async def test_a_filter_that_makes_no_sense_is_refused_with_its_field_and_what_it_takes(
    gateway: Gateway, publish: Publish
) -> None:
    await publish({name: {"metadata": fields} for name, fields in PLANS.items()})
    cases: list[tuple[dict[str, Any], str]] = [
        ({"colour": "red"}, f"no field colour; {FIELDS}"),
        ({"$or": [{"plan": "team"}, {"colour": {"$exists": True}}]}, f"no field colour; {FIELDS}"),
        ({"seats": "five"}, "seats: $eq: its values are numbers"),
        ({"seats": {"$in": [1, "five"]}}, "seats: $in: its values are numbers"),
        ({"seats": True}, "seats: $eq: its values are numbers"),
        ({"trial": "yes"}, "trial: $eq: its values are true or false"),
        ({"since": "soon"}, "since: $eq: its values are days such as 2026-01-31"),
        ({"since": {"$gt": 5}}, "since: $gt: its values are days such as 2026-01-31"),
        ({"tags": 5}, "tags: $eq: it is a list of texts"),
        ({"plan": {"$ne": 5}}, "plan: $ne: its values must be strings"),
        ({"trial": {"$gt": True}}, "trial: $gt does not apply to a boolean"),
        ({"tags": {"$lte": "mail"}}, "tags: $lte does not apply to a list"),
        ({"seats": {"$like": "5%"}}, "seats: $like does not apply to a number"),
        ({"plan": {"$regex": "t.*"}}, "plan: $regex: no such operator; known: $eq $ne"),
        ({"$xor": [{"plan": "team"}]}, "$xor: no such operator; known: $eq $ne"),
        ({"plan": {"$in": "team"}}, "plan: $in: give a list of values"),
        ({"plan": {"$nin": []}}, "plan: $nin: give 1 to 100 values, got 0"),
        ({"plan": {}}, "plan: give a value, or an operator"),
        ({"plan": None}, "plan: $eq: values are texts, numbers, dates, true or false"),
        ({"seats": {"$between": [5]}}, "seats: $between: give a list of two values"),
        ({"seats": {"$exists": 1}}, "seats: $exists: give true or false"),
        ({"$and": {"plan": "team"}}, "$and: give a list of filters"),
        ({"$or": []}, "$or: give a list of filters"),
        ({"$not": "team"}, "$not: its parts are filters"),
    ]
    for filters, told in cases:
        field, detail = await refused(gateway, filters=filters)
        assert field.partition(".")[0] == "filters", filters
        assert told in detail, filters
        status, problem, _ = await gateway.post("/v1/answers", {"question": "plan", "filters": filters})
        assert (status, problem["field"], told in problem["detail"]) == (422, field, True), filters
    assert gateway.vllm.requests == []


async def test_as_of_reads_what_was_live_by_number_and_by_time(gateway: Gateway, publish: Publish) -> None:
    await publish({"mini": {}})
    between = datetime.now(UTC)
    await publish({"team": {}})
    by_snapshot = {number: await search(gateway, as_of=number) for number in (1, 2, 3)}
    assert {number: found["snapshot"] for number, found in by_snapshot.items()} == {1: 1, 2: 2, 3: 3}
    assert ids(by_snapshot[1]) == "guests refunds sync-plus-price"
    assert ids(by_snapshot[2]) == "guests mini refunds sync-plus-price"
    assert ids(by_snapshot[3]) == ids(await search(gateway)) == "guests refunds sync-plus-price team"
    for moment in (between.isoformat(), between.isoformat().replace("+00:00", "Z")):
        found = await search(gateway, as_of=moment)
        assert (found["snapshot"], ids(found)) == (2, ids(by_snapshot[2]))
    version = by_snapshot[1]["version"]
    pinned = await search(gateway, version=f"{version}@2")
    assert (pinned["arm"], pinned["snapshot"], ids(pinned)) == ("pinned", 2, ids(by_snapshot[2]))


async def test_what_was_never_published_cannot_be_read(
    gateway: Gateway, store: KnowledgeStore, publish: Publish
) -> None:
    version = (await store.pointer()).stable
    wrong: list[Any] = [0, -1, 1.5, 1e300, True, "1", "-1", "2026-01-31T09:00:00", "yesterday", [1]]
    cases: list[tuple[dict[str, Any], str]] = [
        ({"as_of": "2001-01-01T00:00:00Z"}, "nothing was published by 2001-01-01"),
        ({"as_of": 99}, "snapshot 99 does not exist; the newest is 1"),
        ({"version": f"{version}@99"}, "snapshot 99 does not exist; the newest is 1"),
        *(({"as_of": value}, "a snapshot's number from 1 on, without quotes, or a time") for value in wrong),
        ({"as_of": 1, "version": f"{version}@1"}, "names a snapshot already"),
    ]
    for body, told in cases:
        field, detail = await refused(gateway, **body)
        assert (field, told in detail) == ("as_of", True), (body, detail)

    await publish({"mini": {}})
    await publish({"team": {}})
    later = (await store.version(version)).derived(name="later")
    await store.register(later)
    await build(store, {EMBEDDER.id: EMBEDDER}, later.id)
    assert (await search(gateway, version=f"{later.id}@2"))["snapshot"] == 2
    field, detail = await refused(gateway, version=later.id, as_of=1)
    assert (field, f"{later.id} was built from snapshot 2 on, and snapshot 1 is earlier" in detail) == (
        "as_of",
        True,
    )
    for body in ({"as_of": 99}, {"as_of": "2001-01-01T00:00:00Z"}):
        status, problem, _ = await gateway.post(
            "/v1/answers", {"question": "plan", "pin": body}, key=gateway.keys.evaluation
        )
        assert (status, problem["field"]) == (422, "as_of"), problem
        assert problem["fix"]


async def test_effective_on_chooses_the_day_whose_facts_count(gateway: Gateway, publish: Publish) -> None:
    await publish(
        {
            "always": {},
            "then": {"effective_to": "2001-12-31"},
            "once": {"effective_from": "2990-01-01"},
            "between": {"effective_from": "2001-12-31", "effective_to": "2002-01-01"},
        }
    )
    days = {
        None: "always",
        "2001-12-30": "always then",
        "2001-12-31": "always between then",
        "2002-01-01": "always between",
        "2002-01-02": "always",
        "2990-01-01": "always once",
    }
    filters = {"document_id": ["always", "then", "once", "between"]}
    found = {day: ids(await search(gateway, filters=filters, effective_on=day)) for day in days}
    assert found == days
    assert ids(await search(gateway, filters=filters, effective_on="2990-01-01", as_of=1)) == ""
    field, detail = await refused(gateway, effective_on="soon")
    assert (field, "date" in detail) == ("effective_on", True)


async def test_a_response_says_how_it_was_found(gateway: Gateway, publish: Publish) -> None:
    await publish({name: {"metadata": fields} for name, fields in PLANS.items()})
    plans = {"plan": {"$exists": True}}
    cases: list[tuple[dict[str, Any], tuple[str, int, int, bool]]] = [
        ({"filters": plans, "k": 2}, ("exact+words", 4, 2, False)),
        ({"filters": plans, "k": 4}, ("exact+words", 4, 4, False)),
        ({"filters": plans, "k": 5}, ("exact+words", 4, 4, True)),
        ({"k": 7}, ("exact+words", 7, 7, False)),
        ({"k": 8}, ("exact+words", 7, 7, True)),
        ({"filters": {"plan": "none"}}, ("exact+words", 0, 0, True)),
    ]
    for body, wanted in cases:
        found = await search(gateway, **body)
        said = (found["mode"], found["candidates"], len(found["hits"]), found["underfilled"])
        assert said == wanted, body
        assert found["degraded"] == []
        assert {"embed", "search"} <= set(found["timings_ms"])
    status, found, _ = await gateway.post("/v1/search", {"question": "plan", "k": 8}, key=gateway.keys.staff)
    assert (status, found["candidates"], found["underfilled"]) == (200, 8, False), "and one for staff"
