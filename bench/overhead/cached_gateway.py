"""The gateway with retrieval off: as `twinrail serve` runs it, but each question is searched for once and remembered.

Keys, limits, prompting, checks, citations from the stored documents, turn recording and tracing stay as they are; what is
gone is the embedding and the SQL search. With BENCH_PROFILE set, the process writes a cProfile of its event loop there when it
ends.
"""

from __future__ import annotations

import cProfile
import os
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import aiohttp
import uvloop
from psycopg_pool import AsyncConnectionPool

from deploy.knowledge import embedder
from gateway.app import create_app
from gateway.building import Parts, build_state, estimate_tokens
from gateway.database import Database, Pool
from gateway.rails import Searcher
from gateway.recorder import TurnRecorder
from gateway.server import listen, serve
from gateway.settings import GatewaySettings
from gateway.spool import Spool
from gateway.telemetry import setup_telemetry
from gateway.turns import TurnStore
from retrieval.hits import SearchRequest, SearchResult
from retrieval.search import Retriever
from retrieval.settings import RetrievalSettings
from retrieval.store import KnowledgeStore
from serving.client import ChatClient
from serving.grounding import check_sentence
from serving.pool import EnginePool
from serving.prompting import token_counter
from serving.registry import ModelRegistry
from serving.settings import ServingSettings
from serving.tone import check_tone
from serving.wording import DEFAULT_WORDING, load_wording


class RememberingSearcher:
    """Gives the result of the first search for a question again and again."""

    def __init__(self, searcher: Searcher) -> None:
        self._searcher = searcher
        self._results: dict[tuple[str, str], SearchResult] = {}

    async def search(self, request: SearchRequest, *, arm: str | None = None) -> SearchResult:
        """The result of this version for this question."""
        key = (request.version, request.question)
        if key not in self._results:
            self._results[key] = await self._searcher.search(request, arm=arm)
        return self._results[key]


async def run(settings: GatewaySettings, knowledge: RetrievalSettings, models: ServingSettings) -> None:
    """Serve until a signal comes."""
    async with AsyncExitStack() as stack:
        telemetry = setup_telemetry()
        stack.callback(telemetry.shutdown)
        listening = stack.enter_context(listen(settings.host, settings.port))
        url = settings.database_url.get_secret_value()
        records = await stack.enter_async_context(_pool(url, settings.records_pool_size))
        chunks = await stack.enter_async_context(_pool(url, settings.knowledge_pool_size))
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
        )
        embed = await stack.enter_async_context(embedder(knowledge, settings.embedder_dir))
        database = Database(records)
        store = KnowledgeStore(chunks, acquire_timeout_s=knowledge.acquire_timeout_s)
        engines = EnginePool(models.engine_urls, session, ttl_s=models.models_ttl_s)
        recorder = await stack.enter_async_context(
            TurnRecorder(
                TurnStore(database),
                Spool(settings.spool_dir),
                queue_size=settings.turn_queue_size,
                flush_s=settings.turn_flush_s,
            )
        )
        wording = load_wording(models.wording_file or DEFAULT_WORDING)
        state = build_state(
            settings,
            Parts(
                database=database,
                recorder=recorder,
                knowledge=store,
                searcher=RememberingSearcher(Retriever(store=store, embedders={embed.id: embed})),
                models=ModelRegistry(records),
                engines=engines,
                chat=ChatClient(session=session, engines=engines, connect_timeout_s=models.connect_timeout_s),
                check_sentence=partial(
                    check_sentence, fixed=wording.all(), threshold=models.support_threshold
                ),
                check_tone=check_tone,
                count_tokens=token_counter(settings.tokenizer) if settings.tokenizer else estimate_tokens,
                wording=wording,
                exposition=telemetry.exposition,
            ),
        )
        await _profiled(serve(create_app(state), settings, state.readiness, listening))


def main() -> int:
    """Settings come from the environment, as for the gateway itself."""
    uvloop.run(run(GatewaySettings(), RetrievalSettings(), ServingSettings()))
    return 0


def _pool(url: str, size: int) -> Pool:
    return AsyncConnectionPool(
        url,
        min_size=1,
        max_size=size,
        open=False,
        kwargs={"autocommit": True},
        timeout=2.0,
        max_waiting=size * 32,
    )


async def _profiled(serving: Any) -> None:
    target = os.environ.get("BENCH_PROFILE")
    if not target:
        await serving
        return
    profile = cProfile.Profile()
    profile.enable()
    try:
        await serving
    finally:
        profile.disable()
        profile.dump_stats(target)


if __name__ == "__main__":
    raise SystemExit(main())
