"""The shadow of the knowledge rail, through HTTP: what it repeats and tells, and that it harms nobody."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from gateway.rails import Searcher
from gateway.settings import GatewaySettings
from gateway.shadowing import QUEUED
from retrieval.building import build
from retrieval.hits import SearchRequest, SearchResult
from retrieval.ingest import ingest
from retrieval.store import KnowledgeStore
from retrieval.versions import Pointer
from tests.fakes.embedding import WordEmbedder
from tests.fakes.help_centre import write_articles
from tests.fakes.parsers import shared_parsers
from tests.fakes.telemetry import recorded
from tests.integration.gateway.conftest import (
    PRICE_QUESTION,
    REFUND_QUESTION,
    Gateway,
    reply,
    started,
)

pytestmark = pytest.mark.usefixtures("help_centre")

EMBEDDER = WordEmbedder(dims=256)
GOODWILL_QUESTION = "May agents credit $25 without approval of a team lead?"
VERSIONS = {"twinrail.knowledge.version", "twinrail.shadow.served_version"}


@dataclass(kw_only=True)
class Door:
    """A searcher that notes every search, and through which the shadow's get only while it is open."""

    searcher: Searcher | None = None
    is_open: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[tuple[str | None, SearchRequest]] = field(default_factory=list)
    defect: Exception | None = None

    def around(self, searcher: Searcher) -> Searcher:
        self.searcher = searcher
        self.is_open.set()
        return self

    async def search(self, request: SearchRequest, *, arm: str | None = None) -> SearchResult:
        self.asked.append((arm, request))
        if arm == "shadow":
            await self.is_open.wait()
            if self.defect:
                raise self.defect
        assert self.searcher is not None
        return await self.searcher.search(request, arm=arm)

    def shadowed(self) -> list[SearchRequest]:
        return [request for arm, request in self.asked if arm == "shadow"]


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A gateway whose stable version has a shadow."""

    gateway: Gateway
    store: KnowledgeStore
    door: Door
    shadow: str
    stable: str

    async def search(self, question: str, *, key: str | None = None, **more: Any) -> dict[str, Any]:
        status, body, _ = await self.gateway.post("/v1/search", {"question": question, **more}, key=key)
        assert status == 200, body
        return body

    async def outcomes(self) -> Counter[str]:
        """Of this shadow's sampled searches, once none is under way."""
        await self.gateway.state.searcher.settled()
        return Counter(
            {
                str(labels["twinrail.shadow.outcome"]): point.value
                for labels, point in recorded().points("twinrail.retrieval.shadow.searches")
                if labels["twinrail.knowledge.version"] == self.shadow
            }
        )

    async def overlaps(self) -> list[float]:
        """Count and sum of the overlaps."""
        await self.gateway.state.searcher.settled()
        return [
            each
            for labels, point in recorded().points("twinrail.retrieval.shadow.overlap")
            if labels["twinrail.knowledge.version"] == self.shadow
            for each in (point.count, point.sum)
        ]


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    return settings.model_copy(update={"shadow_share": 1.0})


@asynccontextmanager
async def watched(
    database_url: str, folder: Path, settings: GatewaySettings, name: str, **parts: Any
) -> AsyncIterator[Watched]:
    """Each test has a name of its own for its shadow: metrics count over the whole session."""
    door = Door()
    async with started(database_url, folder, settings, around_search=door.around) as gateway:
        store = KnowledgeStore(gateway.chunks)
        stable = await store.version((await store.pointer()).stable)
        version = stable.derived(name=name, **parts)
        await store.register(version)
        await build(store, {EMBEDDER.id: EMBEDDER}, version.id)
        status, body, _ = await gateway.post(
            "/v1/rails/knowledge:shadow", {"version": version.id}, key=gateway.keys.release
        )
        assert (status, body["shadow"]) == (200, version.id), body
        recorded().clear()
        yield Watched(gateway=gateway, store=store, door=door, shadow=version.id, stable=stable.id)


def spans(name: str) -> list[ReadableSpan]:
    return [span for span in recorded().spans() if span.name == name]


async def test_a_shadow_of_equal_parts_finds_the_same_for_searches_and_answers(
    database_url: str, tmp_path: Path, settings: GatewaySettings
) -> None:
    async with watched(database_url, tmp_path, settings, "twin") as rail:
        rail.gateway.vllm.program(
            rail.gateway.stable, answer=reply("A full refund is possible within 30 days.")
        )
        body = await rail.search(PRICE_QUESTION, k=2, filters={"product": "sync"})
        history = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
        status, answer, _ = await rail.gateway.post(
            "/v1/answers", {"question": REFUND_QUESTION, "history": history}
        )
        assert (status, answer["arms"]["knowledge"]) == (200, "stable")
        assert await rail.outcomes() == {"agreed": 2}
        assert await rail.overlaps() == [2, 2.0]
        (_, first), (_, second) = [each for each in rail.door.asked if each[0] == "stable"]
        for served, repeated in zip((first, second), rail.door.shadowed(), strict=True):
            for part in ("question", "access", "filters", "k", "history", "effective_on"):
                assert getattr(repeated, part) == getattr(served, part)
            assert (repeated.version, repeated.as_of) == (rail.shadow, body["snapshot"])
            assert repeated.timeout_s == settings.retrieval_timeout_s


async def test_a_shadow_has_a_trace_of_its_own_and_tells_versions_only(
    database_url: str, tmp_path: Path, settings: GatewaySettings
) -> None:
    async with watched(database_url, tmp_path, settings, "traced") as rail:
        body = await rail.search(PRICE_QUESTION)
        assert await rail.outcomes() == {"agreed": 1}
        (span,) = spans("twinrail.shadow")
        (served,) = spans("POST /v1/search")
        assert span.parent is None
        (link,) = span.links
        assert link.context == served.context
        assert served.context is not None
        assert span.context is not None
        assert f"{served.context.trace_id:032x}" == body["trace_id"] != f"{span.context.trace_id:032x}"
        assert dict(span.attributes or {}) == {
            "twinrail.knowledge.version": rail.shadow,
            "twinrail.shadow.served_version": rail.stable,
            "twinrail.rollout.knowledge.arm": "shadow",
            "twinrail.shadow.outcome": "agreed",
        }
        arms = {
            (each.attributes or {}).get("twinrail.rollout.knowledge.arm"): each.context.trace_id
            for each in spans("retrieval knowledge")
            if each.context is not None
        }
        assert arms == {"stable": served.context.trace_id, "shadow": span.context.trace_id}
        for name, more in (("overlap", set()), ("searches", {"twinrail.shadow.outcome"})):
            for labels, _ in recorded().points(f"twinrail.retrieval.shadow.{name}"):
                assert set(labels) == VERSIONS | more
        durations = [
            point.count
            for labels, point in recorded().points("gen_ai.client.operation.duration")
            if labels.get("twinrail.knowledge.version") == rail.shadow
            and labels["gen_ai.operation.name"] == "retrieval"
        ]
        assert durations == [1]


async def test_a_shadow_that_ranks_by_other_rules_finds_other_documents(
    database_url: str, tmp_path: Path, settings: GatewaySettings
) -> None:
    async with watched(database_url, tmp_path, settings, "other", dense_weight=1.0) as rail:
        served = await rail.search("guests free", k=2)
        assert [hit["document_id"] for hit in served["hits"]] == ["guests", "sync-plus-price"]
        assert await rail.outcomes() == {"agreed": 1}
        assert await rail.overlaps() == [1, 0.5]
        await rail.search("free month", k=1)
        assert await rail.outcomes() == {"agreed": 1, "differed": 1}
        assert await rail.overlaps() == [2, 0.5]


async def test_nobody_waits_for_a_shadow_and_what_it_cannot_keep_up_with_is_dropped(
    database_url: str, tmp_path: Path, settings: GatewaySettings
) -> None:
    async with watched(database_url, tmp_path, settings, "slow") as rail:
        rail.door.is_open.clear()
        for _ in range(1 + QUEUED + 2):
            assert (await rail.search(PRICE_QUESTION))["degraded"] == []
        assert len(rail.door.shadowed()) == 1, "one at a time"
        rail.door.is_open.set()
        assert await rail.outcomes() == {"agreed": 1 + QUEUED, "dropped": 2}


async def test_a_shadow_that_fails_changes_no_answer(
    database_url: str, tmp_path: Path, settings: GatewaySettings
) -> None:
    async with watched(database_url, tmp_path, settings, "broken") as rail:
        rail.door.defect = ZeroDivisionError("a defect")
        assert (await rail.search(PRICE_QUESTION))["hits"]
        assert await rail.outcomes() == {"failed": 1}
        (span,) = spans("twinrail.shadow")
        assert (span.attributes or {})["error.type"] == "ZeroDivisionError"
        assert not span.status.is_ok
        assert not span.events, "the text of an error may hold anything"
        rail.door.defect = None
        await rail.search(PRICE_QUESTION)
        assert await rail.outcomes() == {"failed": 1, "agreed": 1}


async def test_a_shadow_that_is_retired_meanwhile_does_no_harm(
    database_url: str, tmp_path: Path, settings: GatewaySettings
) -> None:
    async with watched(database_url, tmp_path, settings, "gone") as rail:
        rail.door.is_open.clear()
        before = await rail.search(PRICE_QUESTION)
        key = rail.gateway.keys.release
        await rail.gateway.post("/v1/rails/knowledge:shadow", {"version": None}, key=key)
        status, body, _ = await rail.gateway.post(
            "/v1/rails/knowledge:retire", {"version": rail.shadow}, key=key
        )
        assert status == 200, body
        rail.door.is_open.set()
        assert await rail.outcomes() == {"failed": 1}
        after = await rail.search(PRICE_QUESTION)
        assert [hit["document_id"] for hit in after["hits"]] == [hit["document_id"] for hit in before["hits"]]
        assert await rail.outcomes() == {"failed": 1}, "it is watched no more"


async def test_a_shadow_sees_what_the_key_may_see_now(
    database_url: str, tmp_path: Path, settings: GatewaySettings
) -> None:
    async with watched(database_url, tmp_path, settings, "eyes") as rail:
        staff = rail.gateway.keys.staff
        served = await rail.search(GOODWILL_QUESTION, key=staff, k=4)
        assert served["hits"][0]["document_id"] == "goodwill"
        assert "goodwill" not in str(await rail.search(GOODWILL_QUESTION, k=4))
        assert await rail.outcomes() == {"agreed": 2}
        assert await rail.overlaps() == [2, 2.0]

        rail.door.is_open.clear()
        await rail.search(GOODWILL_QUESTION, key=staff, k=4)
        await revoke(rail, tmp_path, "goodwill")
        rail.door.is_open.set()
        assert await rail.outcomes() == {"agreed": 2, "differed": 1}
        _, total = await rail.overlaps()
        assert total == pytest.approx(2 + 3 / 4)


async def revoke(rail: Watched, folder: Path, document: str) -> None:
    """Publish the document for nobody whom the test's keys are."""
    path = write_articles(folder)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        if row["id"] == document:
            row["principals"] = ["legal"]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    await ingest(rail.store, EMBEDDER, path, tenant="acme", source_name="help", parsers=shared_parsers())


async def test_only_traffic_of_the_stable_arm_is_repeated(
    database_url: str, tmp_path: Path, settings: GatewaySettings
) -> None:
    async with watched(database_url, tmp_path, settings, "choosy") as rail:
        key = rail.gateway.keys.evaluation
        await rail.search(PRICE_QUESTION, key=key, version=rail.stable)
        await rail.search(PRICE_QUESTION, key=key, as_of=1)
        await rail.search(PRICE_QUESTION, key=key, effective_on="2026-01-31")
        canary = (await rail.store.version(rail.stable)).derived(name="canary")
        await rail.store.register(canary)
        await build(rail.store, {EMBEDDER.id: EMBEDDER}, canary.id)
        await rail.gateway.post(
            "/v1/rails/knowledge:canary",
            {"version": canary.id, "weight_bp": 10_000, "force": True},
            key=rail.gateway.keys.release,
        )
        assert (await rail.search(PRICE_QUESTION))["arm"] == "canary"
        assert await rail.outcomes() == {}
        pointer: Pointer = await rail.store.promote(canary.id)
        assert pointer.shadow == rail.shadow
        rail.gateway.state.live.forget()
        assert (await rail.search(PRICE_QUESTION))["version"] == canary.id
        assert await rail.outcomes() == {"agreed": 1}


async def test_a_share_of_0_repeats_nothing(
    database_url: str, tmp_path: Path, settings: GatewaySettings
) -> None:
    off = settings.model_copy(update={"shadow_share": 0.0})
    async with watched(database_url, tmp_path, off, "off") as rail:
        await rail.search(PRICE_QUESTION)
        assert await rail.outcomes() == {}


async def test_a_shadow_search_is_broken_off_when_the_gateway_ends(
    database_url: str, tmp_path: Path, settings: GatewaySettings
) -> None:
    async with watched(database_url, tmp_path, settings, "ended") as rail:
        rail.door.is_open.clear()
        for _ in range(3):
            await rail.search(PRICE_QUESTION)
        await rail.gateway.until(lambda: bool(rail.door.shadowed()))
        await rail.gateway.state.searcher.close()
        assert await rail.outcomes() == {}
        assert len(rail.door.shadowed()) == 1
        rail.door.is_open.set()
        await rail.search(PRICE_QUESTION)
        assert await rail.outcomes() == {}
        assert len(rail.door.shadowed()) == 1
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "shadow searches"]
