"""Documents over HTTP: taken in as jobs, done by a worker, steered by job calls, and never across tenants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.access import KeyStore
from gateway.settings import GatewaySettings
from retrieval.freshness import SourceFreshness, freshness
from retrieval.store import KnowledgeStore
from retrieval.worker import Worker, queue_pool
from tests.fakes.embedding import WordEmbedder
from tests.integration.gateway.conftest import Gateway

REFUSED = ("type", "title", "status", "detail", "field", "fix", "trace_id")


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    return settings.model_copy(update={"documents_limit_bytes": 20_000})


@pytest.fixture
async def key(gateway: Gateway) -> str:
    """A key that writes the tenant's documents, with the eyes of the public."""
    made = await KeyStore(gateway.database).create(
        name="writer", tenant="acme", principals=["public"], scopes=["ingest"]
    )
    return made.secret


@pytest.fixture
async def worker(gateway: Gateway, database_url: str) -> AsyncIterator[None]:
    stop = asyncio.Event()
    store = KnowledgeStore(gateway.chunks)
    async with queue_pool(database_url) as queue:
        running = asyncio.create_task(Worker(store, queue, [WordEmbedder(dims=256)]).run(stop))
        yield
        stop.set()
        await running


async def send(
    gateway: Gateway, method: str, path: str, key: str, body: Any = None, headers: Mapping[str, str] = {}
) -> tuple[int, dict[str, Any], Mapping[str, str]]:
    async with gateway.session.request(
        method, gateway.url + path, json=body, headers={**gateway.headers(key), **headers}
    ) as response:
        return response.status, await response.json(content_type=None), response.headers


async def ended(gateway: Gateway, key: str, job: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def over() -> bool:
        nonlocal found
        _, found = await gateway.get(f"/v1/jobs/{job}", key=key)
        return found["state"] in ("done", "failed", "cancelled")

    await gateway.until(over, limit_s=90)
    return found


@pytest.mark.usefixtures("worker")
async def test_put_read_and_delete_a_document(gateway: Gateway, key: str) -> None:
    body = {
        "text": "# Vaults\n\nA vault keeps files for seven years.",
        "url": "https://help.example/vaults",
        "effective_from": "2026-01-01",
        "metadata": {"product": "vault", "tier": 2, "tags": ["files", "law"]},
    }
    status, job, headers = await send(gateway, "PUT", "/v1/documents/guides/vaults", key, body)
    assert (status, job["state"], job["kind"], job["source"]) == (202, "queued", "documents", "api")
    assert headers["location"] == f"/v1/jobs/{job['id']}"
    done = await ended(gateway, key, job["id"])
    assert (done["state"], done["snapshot"], done["report"]["added"]) == ("done", 2, 1)

    status, document = await gateway.get("/v1/documents/guides/vaults", key=key)
    assert status == 200
    assert document["text"] == "Vaults\n\nA vault keeps files for seven years."
    assert (document["title"], document["source"], document["snapshot"]) == ("Vaults", "api", 2)
    assert document["metadata"] == body["metadata"]
    assert (document["url"], document["effective_from"]) == (body["url"], "2026-01-01")
    _, found, _ = await gateway.post("/v1/search", {"question": "How long does a vault keep files?"})
    assert found["hits"][0]["document_id"] == "guides/vaults"

    status, job, _ = await send(gateway, "DELETE", "/v1/documents/guides/vaults", key)
    assert status == 202
    assert (await ended(gateway, key, job["id"]))["report"]["removed"] == 1
    status, problem = await gateway.get("/v1/documents/guides/vaults", key=key)
    assert (status, problem["field"]) == (404, "id")


async def test_documents_are_listed_page_by_page_for_whom_they_are(gateway: Gateway, key: str) -> None:
    async def listed(secret: str, query: str = "") -> list[str]:
        status, body = await gateway.get(f"/v1/documents{query}", key=secret)
        assert status == 200
        return [row["id"] for row in body["documents"]]

    everything = await listed(gateway.keys.evaluation)
    assert everything == sorted(everything)
    assert "sync-plus-price" in everything
    assert await listed(key) == everything
    first = await listed(key, "?limit=1")
    assert first + await listed(key, f"?limit=1000&after={first[0]}") == everything
    staff = await KeyStore(gateway.database).create(
        name="staff-eval", tenant="acme", principals=["public", "staff"], scopes=["eval"]
    )
    assert set(await listed(staff.secret)) > set(everything)
    status, problem = await gateway.get("/v1/documents", key=gateway.keys.customer)
    assert (status, problem["status"]) == (403, 403)


@pytest.mark.usefixtures("worker")
async def test_a_batch_is_one_snapshot_and_lists_what_it_left_out(gateway: Gateway, key: str) -> None:
    body = {
        "upserts": [
            {"id": "vaults", "text": "Vaults keep files."},
            {"id": "blank", "text": "<p>&nbsp;</p>", "content_type": "text/html"},
            {"id": "refunds", "text": "mine now"},
            {"id": "secret", "text": "For agents only.", "audience": "internal"},
        ],
        "deletes": ["never-there"],
    }
    status, job, _ = await send(gateway, "POST", "/v1/documents:batch", key, body)
    assert status == 202
    done = await ended(gateway, key, job["id"])
    assert (done["state"], done["snapshot"], done["done"], done["total"]) == ("done", 2, 2, 2)
    assert [(each["document"], each["field"]) for each in done["report"]["failures"]] == [
        ("blank", "content"),
        ("refunds", "id"),
    ]
    _, listed = await gateway.get("/v1/jobs", key=key)
    assert [each["id"] for each in listed["jobs"]] == [job["id"]]
    assert (await gateway.get("/v1/documents/secret", key=key))[0] == 404  # not for the eyes of the public


@pytest.mark.usefixtures("worker")
async def test_the_lag_counts_from_the_change_in_the_source(gateway: Gateway, key: str) -> None:
    changed_at = datetime.now(UTC) - timedelta(hours=3)

    async def written(text: str, modified_at: datetime | None) -> tuple[dict[str, Any], SourceFreshness]:
        body = {"text": text} | ({"modified_at": modified_at.isoformat()} if modified_at else {})
        _, job, _ = await send(gateway, "PUT", "/v1/documents/vaults", key, body)
        done = await ended(gateway, key, job["id"])
        known = await freshness(KnowledgeStore(gateway.chunks), "acme")
        return done, next(each for each in known if each.source == "api")

    _, source = await written("Vaults keep files.", None)
    assert (source.lag_s, source.changed_at) == (None, None)
    _, source = await written("Vaults keep files for a year.", changed_at)
    assert source.changed_at == changed_at
    assert source.lag_s == pytest.approx(3 * 3600, abs=120)
    # The text says whether it is a new version, the time alone does not.
    done, source = await written("Vaults keep files for a year.", changed_at + timedelta(hours=1))
    assert (done["report"]["unchanged"], source.lag_s) == (1, pytest.approx(3 * 3600, abs=120))
    _, document = await gateway.get("/v1/documents/vaults", key=key)
    assert document["metadata"] == {}


async def test_the_same_request_twice_is_one_job(gateway: Gateway, key: str) -> None:
    sent = {"idempotency-key": "k-1"}
    first = await send(gateway, "PUT", "/v1/documents/a", key, {"text": "one"}, sent)
    again = await send(gateway, "PUT", "/v1/documents/a", key, {"text": "one"}, sent)
    assert (first[0], again[0], first[1]["id"]) == (202, 202, again[1]["id"])
    status, problem, _ = await send(gateway, "PUT", "/v1/documents/a", key, {"text": "two"}, sent)
    assert (status, problem["field"]) == (409, "header Idempotency-Key")


async def test_paused_resumed_and_cancelled(gateway: Gateway, key: str) -> None:
    _, job, _ = await send(gateway, "PUT", "/v1/documents/a", key, {"text": "one"})
    path = f"/v1/jobs/{job['id']}"
    for move, state in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        status, moved, _ = await send(gateway, "POST", f"{path}:{move}", key)
        assert (status, moved["state"]) == (200, state)
    status, problem, _ = await send(gateway, "POST", f"{path}:resume", key)
    assert (status, problem["type"]) == (409, "urn:twinrail:problem:job-state")
    assert (await send(gateway, "POST", f"{path}:explode", key))[0] == 422


async def test_only_the_tenants_own_writers(gateway: Gateway, key: str) -> None:
    _, job, _ = await send(gateway, "PUT", "/v1/documents/a", key, {"text": "one"})
    for method, path in (
        ("PUT", "/v1/documents/a"),
        ("DELETE", "/v1/documents/a"),
        ("POST", "/v1/documents:batch"),
        ("GET", f"/v1/jobs/{job['id']}"),
        ("POST", f"/v1/jobs/{job['id']}:cancel"),
    ):
        status, problem, _ = await send(gateway, method, path, gateway.keys.customer, {"text": "x"})
        assert status == 403, path
        assert "ingest" in problem["fix"]
    stranger = await KeyStore(gateway.database).create(
        name="writer", tenant="globex", principals=["public"], scopes=["ingest"]
    )
    assert (await gateway.get(f"/v1/jobs/{job['id']}", key=stranger.secret))[0] == 404
    assert (await send(gateway, "POST", f"/v1/jobs/{job['id']}:cancel", stranger.secret))[0] == 404
    assert (await gateway.get("/v1/documents/refunds", key=stranger.secret))[0] == 404
    assert (await gateway.get("/v1/documents/refunds", key=key))[0] == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "text"),
        ({"text": ""}, "text"),
        ({"text": " \n"}, "text"),
        ({"text": "x", "content_type": "application/pdf"}, "content_type"),
        ({"text": "x", "effective_from": "soon"}, "effective_from"),
        ({"text": "x", "modified_at": "2026-01-01T10:00:00"}, "modified_at"),
        ({"text": "x", "modified_at": "2999-01-01T10:00:00Z"}, "modified_at"),
        ({"text": "x", "modified_at": "yesterday"}, "modified_at"),
        ({"text": "x", "metadata": {"modified_at": "x"}}, "metadata"),
        ({"text": "x", "effective_from": "2026-02-01", "effective_to": "2026-01-01"}, "body"),
        ({"text": "x", "principals": []}, "principals"),
        ({"text": "x", "audience": "internal", "principals": ["staff"]}, "body"),
        ({"text": "x", "metadata": {"title": "x"}}, "metadata"),
        ({"text": "x", "metadata": {"a": {"b": 1}}}, "metadata.a"),
        ({"text": "x", "titel": "x"}, "titel"),
        ({"text": "x", "tenant": "globex"}, "tenant"),
    ],
)
async def test_bad_documents_are_refused_by_field(
    gateway: Gateway, key: str, body: dict[str, Any], field: str
) -> None:
    status, problem, _ = await send(gateway, "PUT", "/v1/documents/a", key, body)
    assert (status, problem["status"]) == (422, 422)
    assert problem["field"].startswith(field), problem
    assert set(problem) >= set(REFUSED)
    assert (await gateway.get("/v1/jobs", key=key))[1]["jobs"] == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "both empty"),
        ({"upserts": [{"id": "a", "text": "x"}, {"id": "a", "text": "y"}]}, "upserts.1.id"),
        ({"upserts": [{"id": "a", "text": "x"}], "deletes": ["a"]}, "deletes.0"),
        ({"upserts": [{"id": "a"}]}, "upserts.0.text"),
        ({"upserts": [{"text": "x"}]}, "upserts.0.id"),
        ({"deletes": ["x" * 201]}, "deletes.0"),
        ({"deletes": [str(number) for number in range(1001)]}, "deletes"),
    ],
)
async def test_bad_batches_are_refused_whole(
    gateway: Gateway, key: str, body: dict[str, Any], told: str
) -> None:
    status, problem, _ = await send(gateway, "POST", "/v1/documents:batch", key, body)
    assert status == 422
    assert told in problem["detail"]
    assert (await gateway.get("/v1/jobs", key=key))[1]["jobs"] == []


async def test_too_large_and_another_sources_documents(gateway: Gateway, key: str) -> None:
    status, problem, _ = await send(gateway, "PUT", "/v1/documents/a", key, {"text": "x" * 30_000})
    assert (status, problem["field"]) == (413, "body")
    for method, body in (("PUT", {"text": "x"}), ("DELETE", None)):
        status, problem, _ = await send(gateway, method, "/v1/documents/refunds", key, body)
        assert (status, problem["field"]) == (409, "id")
        assert "'help'" in problem["detail"]
    status, _, _ = await send(gateway, "PUT", "/v1/documents/refunds", key, {"text": "x", "source": "help"})
    assert status == 202


async def test_evaluation_reads_all_that_a_document_ever_said(
    gateway: Gateway, key: str, worker: None
) -> None:
    for text, since in (("Vaults keep files for 5 years.", "2025-01-01"), ("For 7 years.", "2026-01-01")):
        status, job, _ = await send(
            gateway, "PUT", "/v1/documents/vaults", key, {"text": text, "effective_from": since}
        )
        assert status == 202, job
        await ended(gateway, key, job["id"])
    _, job, _ = await send(gateway, "DELETE", "/v1/documents/vaults", key)
    await ended(gateway, key, job["id"])

    path = "/v1/documents/vaults?history=true"
    status, found, _ = await send(gateway, "GET", path, gateway.keys.evaluation)
    assert status == 200, found
    first, second = found["versions"]
    assert (first["text"], first["effective_from"]) == ("Vaults keep files for 5 years.", "2025-01-01")
    assert second["text"] == "For 7 years."
    assert [release["died"] for release in second["releases"]] == [found["head"]], "gone since the last one"
    for path, key_of in (("vaults", key), ("goodwill?history=true", gateway.keys.evaluation)):
        status, _, _ = await send(gateway, "GET", f"/v1/documents/{path}", key_of)
        assert status == 404, path
