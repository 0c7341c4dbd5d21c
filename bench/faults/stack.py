"""What the faults are put into: the real knowledge rail and gateways on loopback, and a model that we know.

Each world is a tenant with articles of its own; each way to write is a model version. Gateways differ in how
many hits they take.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import uvicorn
from psycopg_pool import AsyncConnectionPool

from bench.faults.seeds import PLAIN
from eval.client import GatewayClient
from gateway.access import KeyStore
from gateway.app import create_app
from gateway.building import Parts, build_state, estimate_tokens
from gateway.database import Database
from gateway.recorder import TurnRecorder
from gateway.server import listen
from gateway.settings import GatewaySettings
from gateway.spool import Spool
from gateway.state import GatewayState
from gateway.turns import TurnStore
from retrieval.building import build
from retrieval.embedding import Embedder
from retrieval.ingest import ingest
from retrieval.jobs import JobStore
from retrieval.rewriting import LastTurns
from retrieval.search import Retriever
from retrieval.store import KnowledgeStore
from retrieval.stored import DocumentStore
from retrieval.versions import KnowledgeVersion
from serving.client import ChatClient
from serving.grounding import check_sentence
from serving.pool import EnginePool
from serving.prompting import PROMPTS, PromptTemplate, load_prompt
from serving.registry import ModelRegistry
from serving.tone import check_tone
from serving.versions import SCHEMAS, Decoding, ModelVersion, load_task_schema
from serving.wording import load_wording
from tests.fakes.responder import Writing
from tests.fakes.roster import ListedRoster
from tests.fakes.vllm_server import FakeVllm

#: The source of each world's articles.
_SOURCE = "help"
_SCOPES = ("ask", "eval", "ingest")
#: What a model makes of a request's body.
Answer = Callable[[Mapping[str, Any]], str | Awaitable[str]]


class Author(Protocol):
    """Makes answers, and the same ones written down in another way."""

    def __call__(self, body: Mapping[str, Any], /) -> str | Awaitable[str]: ...
    def writing(self, write: Writing, /) -> Author: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Everything that runs."""

    session: aiohttp.ClientSession
    store: KnowledgeStore
    #: The first is that of the stable index version.
    embedders: tuple[Embedder, ...]
    registry: ModelRegistry
    keys: KeyStore
    vllm: FakeVllm
    engines: EnginePool
    responder: Author
    #: Hits that a gateway takes -> its address.
    gateways: Mapping[int, str]
    #: The model version without a fault.
    plain: str

    async def add_world(self, name: str, publishes: Sequence[Path]) -> World:
        """A tenant with articles, published one folder after the other, and keys for a customer and for staff."""
        for articles in publishes:
            await self.publish(name, articles)
        secrets = {}
        for asker, principals in (("customer", ["public"]), ("staff", ["public", "staff"])):
            made = await self.keys.create(
                name=asker, tenant=name, principals=principals, scopes=list(_SCOPES)
            )
            secrets[asker] = made.secret
        return World(name=name, keys=secrets)

    async def publish(self, world: str, articles: Path) -> None:
        """Make the articles of a world those of a folder or corpus."""
        first, *others = self.embedders
        await ingest(self.store, first, articles, other_embedders=others, tenant=world, source_name=_SOURCE)

    async def add_index(self, name: str, **changes: Any) -> str:
        """An index version like the stable one but for the changes, over all worlds that there are."""
        stable = await self.store.version((await self.store.pointer()).stable)
        version = stable.derived(name=name, **changes)
        await self.store.register(version)
        await build(self.store, {each.id: each for each in self.embedders}, version.id)
        return version.id

    async def retire(self, version: str) -> None:
        """Let an index version go, so that later worlds need not be written into it."""
        await self.store.retire(version)

    async def add_model(self, name: str, write: Writing, **behaviour: Any) -> str:
        """A model version that writes so."""
        return await self.add_version(version_of(name), self.responder.writing(write), **behaviour)

    async def add_version(self, version: ModelVersion, answer: Answer, **behaviour: Any) -> str:
        """A model version with a prompt and a decoding of its own."""
        await _register(self.registry, self.vllm, version, answer, **behaviour)
        # Else the first question may come before the gateways have heard of it.
        await self.engines.ready(version.id)
        return version.id

    def client(self, world: World, *, hits: int) -> GatewayClient:
        """Evaluation's own client, with the keys of a world."""
        return GatewayClient(
            self.session,
            url=self.gateways[hits],
            keys=world.keys,
            timeout_s=600.0,
            attempts=8,
            first_pause_s=0.05,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A tenant of the stack."""

    name: str
    keys: Mapping[str, str]


@asynccontextmanager
async def running_stack(
    database_url: str,
    folder: Path,
    *,
    embedders: Sequence[Embedder],
    responder: Author,
    hits: Sequence[int],
    answer_timeout_s: float = 30.0,
) -> AsyncIterator[Stack]:
    """Start it all on an empty, migrated database. The first embedder makes the stable index version."""
    async with AsyncExitStack() as stack:
        records = await stack.enter_async_context(_pool(database_url))
        chunks = await stack.enter_async_context(_pool(database_url))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        vllm = FakeVllm(models={}, record=False)
        engine_url = await stack.enter_async_context(vllm.serving())
        embedder = embedders[0]
        store = KnowledgeStore(chunks)
        await store.register(
            KnowledgeVersion.make(
                name="start",
                embedder=embedder.id,
                dims=embedder.dims,
                abstain_below=0.1,
                rewriter=LastTurns.id,
            )
        )
        database = Database(records, acquire_timeout_s=5.0)
        registry = ModelRegistry(records)
        engines = EnginePool([engine_url], session)
        wording = load_wording()
        gateways = {}
        for most in hits:
            settings = GatewaySettings(
                port=0,
                spool_dir=folder / f"spool-{most}",
                hits=most,
                shadow_share=0.0,
                pointer_max_age_s=0.1,
                deadline_s=answer_timeout_s,
                first_token_timeout_s=answer_timeout_s,
            )
            recorder = await stack.enter_async_context(
                TurnRecorder(TurnStore(database), Spool(settings.spool_dir), flush_s=0.02)
            )
            rewriter = LastTurns()
            state = build_state(
                settings,
                Parts(
                    database=database,
                    recorder=recorder,
                    knowledge=store,
                    jobs=JobStore(store),
                    documents=DocumentStore(store),
                    searcher=Retriever(
                        store=store,
                        embedders={each.id: each for each in embedders},
                        rewriters={rewriter.id: rewriter},
                    ),
                    embedders={each.id: each.dims for each in embedders},
                    rewriters=frozenset({rewriter.id}),
                    models=registry,
                    engines=engines,
                    replicas=ListedRoster(engines),
                    chat=ChatClient(session=session, engines=engines),
                    check_sentence=partial(check_sentence, fixed=wording.all()),
                    check_tone=check_tone,
                    count_tokens=estimate_tokens,
                    wording=wording,
                    exposition=lambda: b"",
                ),
            )
            stack.push_async_callback(state.searcher.close)
            gateways[most] = await stack.enter_async_context(_serving(state))
        plain = await _register(registry, vllm, version_of(PLAIN), responder)
        await registry.promote(plain)
        # Re-runs ask what the base model makes of the same passages; pinned answers have no stand-in.
        await registry.set_fallback(plain)
        yield Stack(
            session=session,
            store=store,
            embedders=tuple(embedders),
            registry=registry,
            keys=KeyStore(database),
            vllm=vllm,
            engines=engines,
            responder=responder,
            gateways=gateways,
            plain=plain,
        )


def version_of(name: str, *, prompt: PromptTemplate | None = None, constrained: bool = True) -> ModelVersion:
    """A version of the support task; its prompt is the short one unless another is given."""
    return ModelVersion(
        name=name,
        base_digest="b" * 64,
        adapter_digest=None,
        prompt=prompt or replace(load_prompt(PROMPTS / "support_short.yaml"), name=name.replace("-", "_")),
        task="support_answer",
        schema=load_task_schema(SCHEMAS / "support_answer.json"),
        decoding=Decoding(constrained=constrained),
    )


async def _register(
    registry: ModelRegistry, vllm: FakeVllm, version: ModelVersion, answer: Answer, **behaviour: Any
) -> str:
    await registry.register(version, manifest={"author": "bench"})
    vllm.program(version.id, answer=answer, chunk_chars=64, **behaviour)
    return version.id


class _QuietServer(uvicorn.Server):
    """Leaves the signals to whoever runs us."""

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
        url, min_size=1, max_size=4, open=False, timeout=10.0, kwargs={"autocommit": True}
    )
