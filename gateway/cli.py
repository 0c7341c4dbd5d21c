"""`twinrail serve` and `python -m gateway`: open everything, serve, close everything in reverse."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import aiohttp
import psycopg
import uvloop
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from gateway.app import create_app
from gateway.building import Parts, build_state, estimate_tokens
from gateway.database import Database, Pool
from gateway.errors import DependencyDownError, GatewayError, SettingsError
from gateway.guarding import require_guard
from gateway.handover import DEFAULT_RULES, load_rules, open_handover
from gateway.highlighting import open_highlighter
from gateway.logs import setup_logs
from gateway.rails import Searcher
from gateway.recorder import TurnRecorder
from gateway.rewriting import ModelRewriter
from gateway.server import listen, serve
from gateway.settings import GatewaySettings
from gateway.spool import Spool
from gateway.telemetry import setup_telemetry
from gateway.turns import TurnStore
from retrieval.embedders import open_embedders
from retrieval.errors import RetrievalError, StoreUnavailableError
from retrieval.gauges import JobGauges, SyncGauges, watched
from retrieval.jobs import JobStore
from retrieval.rerankers import open_rerankers
from retrieval.rewriting import LastTurns, Rewriter
from retrieval.search import Retriever
from retrieval.settings import RetrievalSettings
from retrieval.store import KnowledgeStore
from retrieval.stored import DocumentStore
from serving.checker import GroundingChecker
from serving.client import ChatClient
from serving.endpoint import open_endpoint
from serving.errors import ServingError
from serving.pool import EnginePool
from serving.prober import Prober
from serving.prompting import token_counter
from serving.reconciling import Reconciler, ReconcilerLimits
from serving.registry import ModelRegistry
from serving.replicas import ReplicaStore
from serving.roster import Roster
from serving.settings import ServingSettings
from serving.shelf import AdapterShelf
from serving.tone import check_tone
from serving.wording import DEFAULT_WORDING, load_wording

logger = logging.getLogger(__name__)

Settings = TypeVar("Settings", bound=BaseSettings)

DONE, BAD_SETTINGS, DEPENDENCY_DOWN = 0, 2, 3
_CONNECT_S = 5
#: A network that drops packets without a word would hold a query for minutes. What the URL says comes first.
_SILENCE = {
    "connect_timeout": _CONNECT_S,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


def main(
    argv: Sequence[str] | None = None, *, around_search: Callable[[Searcher], Searcher] | None = None
) -> int:
    """Serve until a signal comes; the exit code says why it ended. `around_search` puts a searcher of the
    caller's before ours."""
    arguments = _parser().parse_args(argv)
    try:
        settings = _load(GatewaySettings, host=arguments.host, port=arguments.port)
        knowledge, models = _load(RetrievalSettings), _load(ServingSettings)
        setup_logs(settings.log_level)
        uvloop.run(_run(settings, knowledge, models, around_search))
    except DependencyDownError as exc:
        return _say(exc, DEPENDENCY_DOWN)
    except StoreUnavailableError as exc:
        return _say(exc, DEPENDENCY_DOWN)
    except (GatewayError, RetrievalError, ServingError) as exc:
        return _say(exc, BAD_SETTINGS)
    except KeyboardInterrupt:
        return DONE
    return DONE


async def _run(
    settings: GatewaySettings,
    knowledge: RetrievalSettings,
    models: ServingSettings,
    around_search: Callable[[Searcher], Searcher] | None,
) -> None:
    """Everything that is open stands in one stack: pools last to close, because recording needs them."""
    async with AsyncExitStack() as stack:
        listening = stack.enter_context(listen(settings.host, settings.port))
        spool = _spool(settings)
        url = await _reachable(settings.database_url.get_secret_value())
        telemetry = setup_telemetry()
        stack.callback(telemetry.shutdown)
        records = await stack.enter_async_context(_pool(url, settings.records_pool_size))
        chunks = await stack.enter_async_context(_pool(url, settings.knowledge_pool_size))
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
        )
        database = Database(records)
        if not await database.has_schema():
            raise DependencyDownError(
                "the database has no tables", field="DATABASE_URL", fix="run `twinrail migrate`"
            )
        await require_guard(database)
        store = KnowledgeStore(chunks, acquire_timeout_s=knowledge.acquire_timeout_s)
        await store.check()
        jobs = JobStore(store)
        embedders = open_embedders(knowledge, settings.embedder_dir, session)
        rerankers = open_rerankers(knowledge, session)
        engines = _engines(models, session)
        registry = ModelRegistry(records)
        replicas = await _replicas(stack, models, records, registry, session, engines)
        recorder = await stack.enter_async_context(
            TurnRecorder(
                TurnStore(database),
                spool,
                queue_size=settings.turn_queue_size,
                flush_s=settings.turn_flush_s,
            )
        )
        chat = ChatClient(session=session, engines=engines, connect_timeout_s=models.connect_timeout_s)
        model_rewriter = ModelRewriter(chat=chat, models=registry)
        rewriters: dict[str, Rewriter] = {LastTurns.id: LastTurns(), model_rewriter.id: model_rewriter}
        retriever = Retriever(
            store=store,
            rewriters=rewriters,
            embedders=embedders,
            rerankers=rerankers,
            rerank_timeout_s=knowledge.rerank_timeout_s,
            rewrite_timeout_s=knowledge.rewrite_timeout_s,
            probe_share=knowledge.probe_share,
        )
        stack.push_async_callback(retriever.close)
        searcher: Searcher = retriever
        wording = load_wording(models.wording_file or DEFAULT_WORDING)
        checker = GroundingChecker.of(models)
        handover = None
        if settings.handover == "on":
            handover = await open_handover(
                embedders.values(), load_rules(settings.handover_file or DEFAULT_RULES)
            )
            if handover is None and settings.handover_file:
                raise SettingsError(
                    "rules for handing over need the packaged embedder on this machine",
                    field="GATEWAY_HANDOVER_FILE",
                    fix="set GATEWAY_EMBEDDER_DIR to its folder, or GATEWAY_HANDOVER=off",
                )
            if handover is None:
                logger.warning("no rules for handing over: they need the embedder of this machine")
        state = build_state(
            settings,
            Parts(
                database=database,
                recorder=recorder,
                knowledge=store,
                jobs=jobs,
                documents=DocumentStore(store),
                searcher=around_search(searcher) if around_search else searcher,
                embedders={embedder.id: embedder.dims for embedder in embedders.values()},
                rerankers=frozenset(rerankers),
                rewriters=frozenset(rewriters),
                models=registry,
                engines=engines,
                replicas=replicas,
                chat=chat,
                endpoint=open_endpoint(models, session),
                highlighter=open_highlighter(embedders.values()),
                handover=handover,
                check_sentence=checker,
                slow_checks=checker.is_slow,
                check_tone=check_tone,
                count_tokens=token_counter(settings.tokenizer) if settings.tokenizer else estimate_tokens,
                wording=wording,
                exposition=telemetry.exposition,
            ),
        )
        stack.push_async_callback(state.searcher.close)
        address = listening.getsockname()
        await stack.enter_async_context(state.readiness.watched())
        await stack.enter_async_context(watched(SyncGauges(store), JobGauges(jobs)))
        logger.info("listening", extra={"action": "listening", "host": address[0], "port": address[1]})
        await serve(create_app(state), settings, state.readiness, listening)


async def _reachable(url: str) -> str:
    """The database URL, after one connection with it; says exactly what is wrong with it."""
    if not url:
        raise SettingsError(
            "no database is named",
            field="DATABASE_URL",
            fix="set postgresql://user:password@host:5432/database",
        )
    try:
        conninfo_to_dict(url)
    except psycopg.ProgrammingError as exc:
        raise SettingsError(
            f"not a PostgreSQL URL ({_line(exc)})",
            field="DATABASE_URL",
            fix="set postgresql://user:password@host:5432/database",
        ) from exc
    try:
        connection = await psycopg.AsyncConnection.connect(url, connect_timeout=_CONNECT_S)
    except psycopg.OperationalError as exc:
        raise DependencyDownError(
            f"PostgreSQL does not answer ({_line(exc)})",
            field="DATABASE_URL",
            fix="start it, or correct the URL",
        ) from exc
    await connection.close()
    return url


def _pool(url: str, size: int) -> Pool:
    given = conninfo_to_dict(url)
    return AsyncConnectionPool(
        url,
        min_size=1,
        max_size=size,
        open=False,
        kwargs={"autocommit": True, **{key: value for key, value in _SILENCE.items() if key not in given}},
        timeout=2.0,
        # Attempts to come back grow apart until this is over and begin anew: without it a database that was
        # away for half a minute is found again half a minute late.
        reconnect_timeout=2.0,
        max_waiting=size * 32,
    )


def _spool(settings: GatewaySettings) -> Spool:
    """The spool, after a look whether it can be written at all: the first outage is too late to find out."""
    folder = settings.spool_dir.expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_bytes(b"twinrail")
        probe.unlink()
    except OSError as exc:
        raise SettingsError(
            f"cannot write to {folder} ({exc.strerror})",
            field="GATEWAY_SPOOL_DIR",
            fix="set a folder that this user may write to, on a disk with space",
        ) from exc
    return Spool(folder)


def _engines(models: ServingSettings, session: aiohttp.ClientSession) -> EnginePool:
    return EnginePool((), session, api_key=_engine_key(models), ttl_s=models.models_ttl_s)


async def _replicas(
    stack: AsyncExitStack,
    models: ServingSettings,
    records: Pool,
    registry: ModelRegistry,
    session: aiohttp.ClientSession,
    engines: EnginePool,
) -> Roster:
    """The engines that settings or `twinrail up` name, kept as the registry wants them while we run."""
    store = ReplicaStore(records)
    if not models.engine_urls and not (await store.fleet()).replicas:
        raise SettingsError(
            "no engine is named",
            field="SERVING_ENGINES",
            fix="set one or more base URLs, e.g. http://127.0.0.1:8000/v1",
        )
    reconciler = Reconciler(
        store,
        registry,
        session,
        shelf=AdapterShelf(models.adapters_dir) if models.adapters_dir else None,
        headers=engines.headers,
        limits=ReconcilerLimits(every_s=models.reconcile_s, evict_after_s=models.evict_after_s),
    )
    prober = Prober(store, session, headers=engines.headers)
    roster = Roster(store, registry, engines, prober, given=models.engine_urls, wake=reconciler.wake)
    await stack.enter_async_context(roster.running())
    await stack.enter_async_context(reconciler.running())
    return roster


def _engine_key(models: ServingSettings) -> str | None:
    return models.engine_api_key.get_secret_value() if models.engine_api_key else None


def _load(kind: type[Settings], **given: Any) -> Settings:
    try:
        return kind(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        prefix = kind.model_config.get("env_prefix", "")
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise SettingsError(
            f"{first['msg']}",
            field=name if name.startswith(prefix) else f"{prefix}{name}",
            fix="see docs/settings.md",
        ) from exc


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="twinrail serve",
        description="Run the gateway. Settings come from the environment (docs/settings.md).",
        epilog="Example: DATABASE_URL=... SERVING_ENGINES=http://127.0.0.1:8000/v1 twinrail serve",
    )
    parser.add_argument("--host", help="address to listen on (GATEWAY_HOST)")
    parser.add_argument("--port", type=int, help="port to listen on (GATEWAY_PORT)")
    return parser


def _say(error: Exception, code: int) -> int:
    field, fix = getattr(error, "field", None), getattr(error, "fix", None)
    line = f"{field}: {error}" if field else str(error)
    sys.stderr.write(f"twinrail serve: {line.splitlines()[0]}{f'; {fix}' if fix else ''}\n")
    return code


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
