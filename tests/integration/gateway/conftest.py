"""A running gateway: real PostgreSQL, real retrieval, a fake vLLM on a real socket, and uvicorn in front."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn
from psycopg_pool import AsyncConnectionPool

from gateway.access import KeyStore
from gateway.app import create_app
from gateway.building import Parts, build_state, estimate_tokens
from gateway.database import Database
from gateway.rails import Searcher
from gateway.recorder import TurnRecorder
from gateway.server import listen
from gateway.settings import GatewaySettings
from gateway.spool import Spool
from gateway.state import GatewayState
from gateway.turns import TurnStore
from retrieval.ingest import ingest
from retrieval.jobs import JobStore
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore
from retrieval.stored import DocumentStore
from retrieval.versions import KnowledgeVersion
from serving.client import ChatClient
from serving.endpoint import open_endpoint
from serving.grounding import check_sentence
from serving.pool import EnginePool
from serving.prompting import PromptTemplate
from serving.registry import ModelRegistry
from serving.settings import ServingSettings
from serving.versions import SCHEMAS, ModelVersion, load_task_schema
from serving.wording import load_wording
from tests.fakes.embedding import WordEmbedder
from tests.fakes.roster import ListedRoster
from tests.fakes.vllm_server import FakeVllm

ARTICLES = {
    "sync-plus-price": "Sync Plus costs $9 a month or $90 a year. The free trial of Sync Plus lasts 14 days.",
    "refunds": "A full refund is possible within 30 days of a first payment or a yearly renewal. "
    "Monthly renewals are not refunded.",
    "guests": "Guests are people outside the team who open a shared folder. Guests are free on Sync Team.",
}
STAFF_ONLY = "Agents may credit up to $25 without approval of a team lead."
REFUND_QUESTION = "Is a full refund possible within 30 days of a yearly renewal?"
PRICE_QUESTION = "How much does Sync Plus cost a month or a year?"


def reply(answer: str, *, citations: tuple[int, ...] = (1,), **fields: Any) -> str:
    """What a model writes for the support task."""
    return json.dumps(
        {
            "answer": answer,
            "citations": list(citations),
            "intent": "billing",
            "escalate": False,
            "escalation_reason": "none",
            "follow_up": "",
        }
        | fields
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Secrets of the test's keys."""

    customer: str
    staff: str
    evaluation: str
    release: str
    stranger: str


@dataclass(slots=True, kw_only=True)
class Gateway:
    """A gateway under test."""

    url: str
    state: GatewayState
    vllm: FakeVllm
    keys: Keys
    session: aiohttp.ClientSession
    stable: str
    fallback: str
    canary: str
    database: Database
    records: AsyncConnectionPool[Any]
    chunks: AsyncConnectionPool[Any]
    spool: Path

    def headers(self, key: str | None = None) -> dict[str, str]:
        """Headers with a key, the customer's if none is given."""
        return {"authorization": f"Bearer {key or self.keys.customer}"}

    async def post(
        self, path: str, body: Any, *, key: str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any], Mapping[str, str]]:
        """Status, body and headers of a POST."""
        async with self.session.post(
            self.url + path, json=body, headers={**self.headers(key), **(headers or {})}
        ) as response:
            return response.status, await response.json(content_type=None), response.headers

    async def get(self, path: str, *, key: str | None = None) -> tuple[int, dict[str, Any]]:
        """Status and body of a GET."""
        async with self.session.get(self.url + path, headers=self.headers(key)) as response:
            return response.status, await response.json(content_type=None)

    async def turn(self, turn_id: str, *, key: str | None = None) -> dict[str, Any]:
        """The stored turn."""
        status, body = await self.get(f"/v1/turns/{turn_id}", key=key)
        assert status == 200, body
        return body

    async def stored(self, turn_id: str) -> None:
        """Wait until a turn is in the database: it is recorded a moment after its last byte."""

        async def is_known() -> bool:
            return (await self.get(f"/v1/turns/{turn_id}", key=self.keys.evaluation))[0] == 200

        await self.until(is_known)
        await self.state.recorder.flushed()

    async def until(self, true: Callable[[], bool | Awaitable[bool]], *, limit_s: float = 10.0) -> None:
        """Wait until something is true."""
        async with asyncio.timeout(limit_s):
            while True:
                found = true()
                if await found if isinstance(found, Awaitable) else found:
                    return
                await asyncio.sleep(0.01)


async def without_a_document(gateway: Gateway, turn_id: str) -> None:
    """The turn as it is when one of its documents was erased; in so small a corpus every turn holds each."""
    erased = json.dumps({"hits": [{"document_id": "erased"}]})
    async with gateway.records.connection() as conn, conn.transaction():
        await conn.execute("SELECT set_config('gateway.tenant', 'acme', true)")
        await conn.execute(
            "UPDATE gateway.turn SET used = used || %s::jsonb WHERE id = %s", [erased, turn_id]
        )


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    """Settings of the gateway under test; override this fixture to change them."""
    return GatewaySettings(
        port=0,
        spool_dir=tmp_path / "spool",
        deadline_s=10.0,
        key_max_age_s=0.2,
        pointer_max_age_s=0.1,
        review_sample_share=0.0,
        review_second_share=0.0,
    )


@pytest.fixture
async def gateway(database_url: str, tmp_path: Path, settings: GatewaySettings) -> AsyncIterator[Gateway]:
    """A gateway with three public articles and one for staff."""
    async with started(database_url, tmp_path, settings) as running:
        yield running


@asynccontextmanager
async def started(
    database_url: str,
    tmp_path: Path,
    settings: GatewaySettings,
    *,
    around_search: Callable[[Searcher], Searcher] = lambda searcher: searcher,
    endpoint: ServingSettings | None = None,
) -> AsyncIterator[Gateway]:
    """Build and serve."""
    async with AsyncExitStack() as stack:
        records = await stack.enter_async_context(_pool(database_url))
        chunks = await stack.enter_async_context(_pool(database_url))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        vllm = FakeVllm(models={})
        engine_url = await stack.enter_async_context(vllm.serving())

        embedder = WordEmbedder(dims=256)
        store = KnowledgeStore(chunks)
        await store.register(
            KnowledgeVersion.make(name="words", embedder=embedder.id, dims=embedder.dims, abstain_below=0.1)
        )
        await ingest(store, embedder, _corpus(tmp_path), tenant="acme", source_name="help")

        registry = ModelRegistry(records)
        ids = [await _register(registry, vllm, name) for name in ("support", "strong", "next")]
        stable, fallback, canary = ids
        await registry.promote(stable)
        await registry.set_fallback(fallback)

        wording = load_wording()
        database = Database(records, acquire_timeout_s=1.0)
        recorder = await stack.enter_async_context(
            TurnRecorder(TurnStore(database), Spool(settings.spool_dir), flush_s=0.02)
        )
        engines = EnginePool([engine_url], session)
        state = build_state(
            settings,
            Parts(
                database=database,
                recorder=recorder,
                knowledge=store,
                jobs=JobStore(store),
                documents=DocumentStore(store),
                searcher=around_search(Retriever(store=store, embedders={embedder.id: embedder})),
                embedders={embedder.id: embedder.dims},
                models=registry,
                engines=engines,
                replicas=ListedRoster(engines),
                chat=ChatClient(session=session, engines=engines),
                endpoint=open_endpoint(endpoint, session) if endpoint else None,
                check_sentence=partial(check_sentence, fixed=wording.all()),
                check_tone=lambda _text: (),
                count_tokens=estimate_tokens,
                wording=wording,
                exposition=lambda: b"",
            ),
        )
        stack.push_async_callback(state.searcher.close)
        url = await stack.enter_async_context(_serving(state))
        yield Gateway(
            url=url,
            state=state,
            vllm=vllm,
            keys=await _keys(KeyStore(database)),
            session=session,
            stable=stable,
            fallback=fallback,
            canary=canary,
            database=database,
            records=records,
            chunks=chunks,
            spool=settings.spool_dir,
        )


class _QuietServer(uvicorn.Server):
    """Leaves the signals to the test runner."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def _serving(state: GatewayState) -> AsyncIterator[str]:
    listening = listen("127.0.0.1", 0)
    server = _QuietServer(
        uvicorn.Config(
            create_app(state), lifespan="off", log_config=None, loop="none", timeout_graceful_shutdown=1
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


def _pool(url: str) -> AsyncConnectionPool[Any]:
    return AsyncConnectionPool(
        url, min_size=1, max_size=4, open=False, timeout=2.0, kwargs={"autocommit": True}
    )


def _corpus(folder: Path) -> Path:
    rows: list[dict[str, Any]] = [
        {"id": name, "title": name.replace("-", " "), "text": text, "metadata": {"product": "sync"}}
        for name, text in ARTICLES.items()
    ]
    rows.append(
        {"id": "goodwill", "title": "goodwill", "text": STAFF_ONLY, "metadata": {"visibility": "internal"}}
    )
    path = folder / "corpus.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


async def _register(registry: ModelRegistry, vllm: FakeVllm, name: str) -> str:
    version = ModelVersion(
        name=name,
        base_digest="b" * 64,
        adapter_digest=None,
        prompt=PromptTemplate(name=f"{name}_prompt", system="Answer from the passages, as JSON."),
        task="support_answer",
        schema=load_task_schema(SCHEMAS / "support_answer.json"),
    )
    await registry.register(version, manifest={"author": "test"})
    vllm.program(version.id)
    return version.id


async def _keys(store: KeyStore) -> Keys:
    async def make(name: str, tenant: str, principals: list[str], scopes: list[str]) -> str:
        return (await store.create(name=name, tenant=tenant, principals=principals, scopes=scopes)).secret

    return Keys(
        customer=await make("customer", "acme", ["public"], ["ask"]),
        staff=await make("staff", "acme", ["public", "staff"], ["ask", "review"]),
        evaluation=await make("eval", "acme", ["public"], ["ask", "eval"]),
        release=await make("release", "acme", ["public"], ["ask", "release"]),
        stranger=await make("stranger", "globex", ["public"], ["ask", "review"]),
    )
