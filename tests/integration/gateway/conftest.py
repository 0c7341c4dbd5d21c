"""A running gateway: real PostgreSQL, real retrieval, a fake vLLM on a real socket, and uvicorn in front."""

from __future__ import annotations

import asyncio
import json
import socket
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

from gateway.app import create_app
from gateway.building import Parts, build_state, estimate_tokens
from gateway.database import Database
from gateway.handover import Handover, Rules
from gateway.highlighting import Highlighter
from gateway.rails import Searcher
from gateway.recorder import TurnRecorder
from gateway.server import listen
from gateway.settings import GatewaySettings
from gateway.spool import Spool
from gateway.state import GatewayState
from gateway.turns import TurnStore
from retrieval.embedding import Embedder
from retrieval.jobs import JobStore
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore
from retrieval.stored import DocumentStore
from serving.client import ChatClient
from serving.endpoint import open_endpoint
from serving.grounding import check_sentence
from serving.pool import EnginePool
from serving.registry import ModelRegistry
from serving.settings import ServingSettings
from serving.wording import load_wording
from tests.fakes.embedding import WordEmbedder
from tests.fakes.help_centre import DIMS, MODELS, Keys, fill, keys_in, model_version
from tests.fakes.roster import ListedRoster
from tests.fakes.vllm_server import FakeVllm

REFUND_QUESTION = "Is a full refund possible within 30 days of a yearly renewal?"
PRICE_QUESTION = "How much does Sync Plus cost a month or a year?"
#: What the rules of these gateways pass to a person; nothing else comes near.
THEFT = "A thief took our grandmother's telephone"
PEOPLE = Rules(close_from=0.9, reasons={"security_incident": (THEFT,)}, ordinary=())


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
async def gateway(
    database_url: str, tmp_path: Path, settings: GatewaySettings, help_centre: str
) -> AsyncIterator[Gateway]:
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
    handover_embedder: Embedder | None = None,
) -> AsyncIterator[Gateway]:
    """Build and serve; the help centre is brought in first, unless the database has it."""
    keys = await keys_in(database_url) or await fill(database_url, tmp_path)
    async with AsyncExitStack() as stack:
        records = await stack.enter_async_context(_pool(database_url))
        chunks = await stack.enter_async_context(_pool(database_url))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        vllm = FakeVllm(models={})
        engine_url = await stack.enter_async_context(vllm.serving())

        embedder = WordEmbedder(dims=DIMS)
        store = KnowledgeStore(chunks)
        registry = ModelRegistry(records)
        stable, fallback, canary = ids = [model_version(name).id for name in MODELS]
        for each in ids:
            vllm.program(each)

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
                highlighter=Highlighter(embedder),
                handover=await Handover.of(handover_embedder or embedder, PEOPLE),
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
            keys=keys,
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
    """Leaves the signals to the test runner, and ends as soon as nothing runs: uvicorn looks ten times a
    second, and waits for one look at the least."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Take no more connections, and return from `serve` when the running requests are done."""
        self.should_exit = True
        self._ended.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._ended.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # With requests that still run it takes uvicorn's own way, grace and all.
        state = self.server_state
        for server in self.servers:
            server.close()
        for connection in list(state.connections):
            connection.shutdown()
        for _ in range(5):
            await asyncio.sleep(0)
        if state.connections or state.tasks:
            await super().shutdown(sockets)


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
        server.end()
        await task


def _pool(url: str) -> AsyncConnectionPool[Any]:
    return AsyncConnectionPool(
        url, min_size=1, max_size=4, open=False, timeout=2.0, kwargs={"autocommit": True}
    )
