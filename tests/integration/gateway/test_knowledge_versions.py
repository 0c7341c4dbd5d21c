"""The life of an index version over HTTP: registered, built, watched, promoted, undone, retired."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.readiness import readiness_of
from gateway.rollouts.live import LiveRails
from retrieval.building import build
from retrieval.store import KnowledgeStore
from retrieval.versions import KnowledgeVersion
from tests.fakes.embedding import WordEmbedder
from tests.integration.gateway.conftest import REFUND_QUESTION, Gateway

EMBEDDER = WordEmbedder(dims=256)


@pytest.fixture
def store(gateway: Gateway) -> KnowledgeStore:
    return KnowledgeStore(gateway.chunks)


async def created(gateway: Gateway, store: KnowledgeStore, name: str, **parts: Any) -> str:
    """Register over HTTP; then do here what the queued job would do."""
    status, body, headers = await gateway.post(
        "/v1/rails/knowledge/versions", {"name": name, **parts}, key=gateway.keys.release
    )
    assert (status, headers["location"]) == (202, f"/v1/jobs/{body['job']}"), body
    await build(store, {EMBEDDER.id: EMBEDDER}, body["version"])
    version: str = body["version"]
    return version


async def details(gateway: Gateway, version: str) -> dict[str, Any]:
    _, body = await gateway.get("/v1/rails/knowledge/versions", key=gateway.keys.release)
    (found,) = [each for each in body["versions"] if each["id"] == version]
    return {**found["details"], "state": found["state"]}


async def test_a_version_is_registered_built_promoted_undone_and_retired(
    gateway: Gateway, store: KnowledgeStore
) -> None:
    key = gateway.keys.release
    first = (await store.pointer()).stable
    version = await created(gateway, store, "smaller", chunker="structure-60", dense_weight=0.9)
    shown = await details(gateway, version)
    assert (shown["state"], shown["chunker"], shown["dense_weight"]) == ("ready", "structure-60", 0.9)
    assert shown["chunks"] == shown["chunks_of_all"] > 0
    assert (shown["roles"], shown["progress"], shown["tenants"]) == ([], None, 1)
    status, body, _ = await gateway.post(
        "/v1/rails/knowledge/versions",
        {"name": "smaller", "chunker": "structure-60", "dense_weight": 0.9},
        key=key,
    )
    assert (status, body) == (200, {"version": version, "job": None})

    _, pointer, _ = await gateway.post("/v1/rails/knowledge:shadow", {"version": version}, key=key)
    assert (pointer["stable"], pointer["shadow"]) == (first, version)
    await gateway.post("/v1/rails/knowledge:promote", {"version": version}, key=key)
    status, answer, _ = await gateway.post("/v1/search", {"question": REFUND_QUESTION})
    assert status == 200, answer
    assert answer["version"].partition("@")[0] == version
    assert answer["hits"]
    for retired in (version, first):
        status, problem, _ = await gateway.post("/v1/rails/knowledge:retire", {"version": retired}, key=key)
        assert (status, problem["type"]) == (409, "urn:twinrail:problem:version-in-reach")
    _, undone, _ = await gateway.post("/v1/rails/knowledge:undo", {"what": "version"}, key=key)
    assert undone["undone"] == {"what": "version", "before": version, "after": first}

    other = await created(gateway, store, "other", chunker="structure-90")
    await gateway.post("/v1/rails/knowledge:promote", {"version": other}, key=key)
    status, body, _ = await gateway.post("/v1/rails/knowledge:retire", {"version": version}, key=key)
    assert (status, body["version"]) == (200, version)
    assert body["freed_bytes"] > 0
    assert (await details(gateway, version))["state"] == "retired"
    status, problem, _ = await gateway.post("/v1/rails/knowledge:promote", {"version": version}, key=key)
    assert (status, problem["type"]) == (409, "urn:twinrail:problem:version-retired")


async def test_a_version_that_is_not_built_shows_its_progress_and_takes_no_traffic(gateway: Gateway) -> None:
    key = gateway.keys.release
    _, body, _ = await gateway.post("/v1/rails/knowledge/versions", {"name": "new"}, key=key)
    shown = await details(gateway, body["version"])
    assert (shown["state"], shown["progress"], shown["chunks"]) == ("building", 0.0, 0)
    for move in ("promote", "shadow"):
        status, problem, _ = await gateway.post(
            f"/v1/rails/knowledge:{move}", {"version": body["version"]}, key=key
        )
        assert (status, "is not built to its end" in problem["detail"]) == (404, True)


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("knowledge/versions", {"name": "Ä"}, 422, None),
        ("knowledge/versions", {"name": "a", "dense_weight": 2}, 422, "dense_weight"),
        ("knowledge/versions", {"name": "a", "chunker": "magic"}, 422, "chunker"),
        ("knowledge/versions", {"name": "a", "embedder": "bge"}, 409, "version"),
        ("knowledge/versions", {"name": "a", "reranker": "rerank-l4"}, 422, "reranker"),
        ("knowledge/versions", {"name": "a", "rewriter": "last-turn-1"}, 422, "rewriter"),
        ("knowledge/versions", {"name": "a", "rerank_weight": 0.3}, 422, None),
        ("knowledge/versions", {"name": "a", "base": "k-no-00000000"}, 404, "version"),
        ("knowledge/versions", {"name": "a", "calibration": {"weights": 1}}, 422, None),
        (
            "knowledge/versions",
            {"name": "a", "calibration": {"intercept": 0, "weights": {"top_dens": 1}}},
            422,
            None,
        ),
        ("model/versions", {"name": "a"}, 422, "rail"),
        ("model:retire", {"version": "m-a"}, 404, "version"),
        ("model:shadow", {"version": None}, 422, "rail"),
        ("knowledge:retire", {"version": "k-no-00000000"}, 404, "version"),
        ("knowledge:shadow", {"version": "k-no-00000000"}, 404, "version"),
    ],
)
async def test_bad_requests_change_nothing(
    gateway: Gateway, store: KnowledgeStore, path: str, body: dict[str, Any], status: int, field: str | None
) -> None:
    before = await store.facts()
    got, problem, _ = await gateway.post(f"/v1/rails/{path}", body, key=gateway.keys.release)
    assert got == status, problem
    assert field is None or problem["field"] == field
    assert await store.facts() == before


async def test_a_version_without_its_embedder_takes_no_traffic_and_is_not_ready(
    gateway: Gateway, store: KnowledgeStore
) -> None:
    foreign = WordEmbedder(name="foreign", dims=16)
    version = KnowledgeVersion.make(name="foreign", embedder=foreign.id, dims=foreign.dims)
    await store.register(version)
    await build(store, {foreign.id: foreign}, version.id)
    key = gateway.keys.release
    moves = (
        ("promote", {"version": version.id}),
        ("canary", {"version": version.id, "weight_bp": 5}),
        ("shadow", {"version": version.id}),
    )
    for move, body in moves:
        status, problem, _ = await gateway.post(f"/v1/rails/knowledge:{move}", body, key=key)
        assert (status, problem["type"]) == (409, "urn:twinrail:problem:embedder-missing")
        assert f"embedder: {foreign.id} is not at hand" in problem["detail"]
        assert "RETRIEVAL_EMBEDDERS" in problem["fix"]
    parts = {"database": gateway.database, "knowledge": store, "models": gateway.state.models}
    before = readiness_of(**parts, engines=gateway.state.engines, embedders=(EMBEDDER.id,))  # type: ignore[arg-type]
    assert (await before.report())[0]
    status, _, _ = await gateway.post(
        "/v1/rails/knowledge:promote", {"version": version.id, "force": True}, key=key
    )
    assert status == 200
    ready, report = await before.report()
    assert not ready
    assert f"{version.id} needs embedder {foreign.id}" in report["parts"]["knowledge"]["detail"]
    # An undo that leads to a version with an embedder is not refused.
    assert (await gateway.post("/v1/rails/knowledge:undo", {"what": "version"}, key=key))[0] == 200
    status, problem, _ = await gateway.post("/v1/rails/knowledge:undo", {"what": "version"}, key=key)
    assert (status, problem["type"]) == (409, "urn:twinrail:problem:embedder-missing")


@pytest.mark.parametrize("part", ["reranker", "rewriter"])
async def test_a_version_whose_searches_would_all_be_degraded_takes_no_traffic(
    gateway: Gateway, store: KnowledgeStore, part: str
) -> None:
    base = await store.version((await store.pointer()).stable)
    version = base.derived(name="elsewhere", **{part: "foreign-1"})  # type: ignore[arg-type]  # the part is a text
    await store.register(version)
    await build(store, {EMBEDDER.id: EMBEDDER}, version.id)
    before = await store.pointer()
    moves = (
        ("promote", {"version": version.id}),
        ("canary", {"version": version.id, "weight_bp": 5}),
        ("shadow", {"version": version.id}),
    )
    for move, body in moves:
        status, problem, _ = await gateway.post(f"/v1/rails/knowledge:{move}", body, key=gateway.keys.release)
        assert (status, problem["field"]) == (422, "version")
        assert problem["detail"] == f"{part}: foreign-1 is not at hand; at hand: none"
    assert await store.pointer() == before
    forced = {"version": version.id, "force": True}
    assert (await gateway.post("/v1/rails/knowledge:promote", forced, key=gateway.keys.release))[0] == 200
    # Its searches work, if degraded, so an undo that leads back to it is not refused.
    for stable in (before.stable, version.id):
        await gateway.post("/v1/rails/knowledge:undo", {"what": "version"}, key=gateway.keys.release)
        assert (await store.pointer()).stable == stable


async def test_every_gateway_sees_a_cut_over_and_its_undo_within_a_second(
    gateway: Gateway, store: KnowledgeStore
) -> None:
    """Two gateways over one database, each with a clock of its own that only this test moves."""
    version = await created(gateway, store, "next", chunker="structure-60")
    first = (await store.pointer()).stable
    now = [0.0, 0.0]
    replicas = [
        LiveRails(KnowledgeStore(gateway.chunks), gateway.state.models, clock=lambda own=own: now[own])  # type: ignore[misc]
        for own in range(2)
    ]
    for move, expected, before in (
        (lambda: store.promote(version), version, first),
        (lambda: store.undo("acme", "version"), first, version),
    ):
        for replica in replicas:
            assert (await replica.assign_knowledge("c-1")).version == before
        await move()
        replicas[0].forget()  # where the move was made
        assert (await replicas[0].assign_knowledge("c-1")).version == expected
        assert (await replicas[1].assign_knowledge("c-1")).version == before
        now[1] += 1.0
        assert (await replicas[1].assign_knowledge("c-1")).version == expected
