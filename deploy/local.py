"""`twinrail up`: the whole system on one machine, started in order, kept running, stopped without a trace.

The engine takes longest, so everything that does not need it happens while it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from deploy.articles import Articles
from deploy.child import Child
from deploy.commands.context import Context
from deploy.database import Pool, pool
from deploy.engine_process import vllm_process
from deploy.errors import DeployError, PortTakenError
from deploy.gateway_api import GatewayApi
from deploy.guard import Guard
from deploy.home import StackState
from deploy.keyring import ensure_keys
from deploy.local_database import LocalDatabase
from deploy.local_engines import Engines, GivenEngines, OwnEngines
from deploy.migrate import migrate
from deploy.models import RERANKER, LocalModels, Preparation
from deploy.ports import is_free
from deploy.progress import Progress
from deploy.settings import load
from deploy.welcome import welcome
from gateway.access import KeyStore
from gateway.database import Database
from gateway.settings import GatewaySettings
from retrieval.settings import RetrievalSettings
from serving.registry import ModelRegistry
from serving.replicas import ReplicaStore
from serving.settings import ServingSettings

STEPS = ("folder", "database", "schema", "models", "versions", "engine", "articles", "gateway")
GATEWAY_START_S = 120.0
#: A version is probed before it gets traffic, which on a busy machine takes longer than its engine's start.
READY_S = 240.0
SAY_WAITING_S = 10.0
SAME_PRESS_S = 1.0
First = TypeVar("First")
Second = TypeVar("Second")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """What the command line of `up` says."""

    port: int | None
    #: What to ingest; None for nothing.
    source: Path | None
    #: A question that the source answers, for the copyable request.
    question: str
    #: Whether to run the engines of the other arms too.
    fallback: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSettings:
    """The settings of every part: read before anything starts, so that a wrong one stops nothing half-way."""

    gateway: GatewaySettings
    serving: ServingSettings
    retrieval: RetrievalSettings


async def run_stack(context: Context, options: UpOptions) -> int:
    """Start everything, say where it is, wait for a signal, stop everything."""
    gateway = load(GatewaySettings)
    gateway = gateway.model_copy(update={"port": options.port}) if options.port else gateway
    settings = StackSettings(
        gateway=gateway, serving=load(ServingSettings), retrieval=load(RetrievalSettings)
    )
    progress = Progress(STEPS, context.out.note)
    stop = _on_signal()
    with contextlib.ExitStack() as held:
        with progress.step("folder") as step:
            held.enter_context(context.home.prepare().lock())
            context.models.root.mkdir(parents=True, exist_ok=True)
            if not is_free(gateway.host, gateway.port):
                raise PortTakenError(
                    f"GATEWAY_PORT: port {gateway.port} on {gateway.host} is in use; "
                    "stop that process, or choose another one with --port"
                )
            step.detail = str(context.home.root)
        stack = LocalStack(context, options, settings, progress, held.enter_context(Guard()))
        starting = asyncio.create_task(stack.start(), name="start")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not stopping.done():
                await starting
                await stopping
            context.out.note("stopping ... (Ctrl-C again kills)")
        finally:
            starting.cancel()
            await asyncio.wait([starting])
            await stack.stop()
    context.out.note("stopped")
    return 0


class LocalStack:
    """The processes of one `up`."""

    def __init__(
        self, context: Context, options: UpOptions, settings: StackSettings, progress: Progress, guard: Guard
    ) -> None:
        self._context = context
        self._options = options
        self._gateway = settings.gateway
        self._serving = settings.serving
        self._retrieval = settings.retrieval
        self._progress = progress
        self._guard = guard
        self._resources = AsyncExitStack()
        self._state = StackState(
            pid=os.getpid(),
            gateway_url=f"http://{settings.gateway.host}:{settings.gateway.port}",
            ready=False,
            database="",
            engines={},
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    async def start(self) -> None:
        """Bring everything up; returns when a question can be asked."""
        began = time.monotonic()
        self._tell()
        preparation = Preparation(
            self._context.models,
            form=self._serving.tuned_as,
            guard=self._guard,
            log=self._context.home.logs / "models.log",
            on_step=lambda text: self._progress.note("models", text),
        )
        self._resources.push_async_callback(preparation.stop)
        prepared = asyncio.create_task(self._prepared(preparation), name="models step")
        url = await self._start_database()
        models = await preparation.weights()
        connections = await self._resources.enter_async_context(pool(url))
        session = await self._resources.enter_async_context(aiohttp.ClientSession())

        engines = self._engines(models, session, ReplicaStore(connections))
        self._resources.push_async_callback(engines.stop)
        with self._progress.step("versions") as step:
            step.detail = await engines.release(ModelRegistry(connections))
        self._tell(engines=engines.addresses())

        _, keys = await _both(
            self._start_engine(engines),
            self._start_gateway(url, connections, engines, models, prepared),
        )
        if engines.cannot_serve:
            self._context.out.note(f"NOT READY: {engines.cannot_serve}")
        else:
            await self._wait_until_ready(GatewayApi(session, url=self._state.gateway_url, key=None))
        self._tell(ready=True)
        engines.keep_wanted(spares=self._options.fallback)
        text = welcome(
            url=self._state.gateway_url,
            keys=keys if self._context.out.is_private else None,
            keys_file=self._context.home.keys_file,
            question=self._options.question,
            opening=f"Ready in {time.monotonic() - began:.1f} s. Ctrl-C stops everything.",
        )
        self._context.out.result(
            {"gateway_url": self._state.gateway_url, "keys_file": str(self._context.home.keys_file)}, text
        )

    async def stop(self) -> None:
        """Stop what was started, last first. What cannot be stopped is said, and left to the watchdog."""
        try:
            await self._resources.aclose()
        except DeployError as exc:
            self._context.out.note(f"while stopping: {exc}")

    # ---- steps -----------------------------------------------------------------------------------

    async def _start_database(self) -> str:
        database = LocalDatabase(
            self._context.settings, self._context.home, self._guard, self._context.out.note
        )
        self._resources.push_async_callback(database.stop)
        with self._progress.step("database") as step:
            url = await database.start()
            step.detail = database.description
        self._tell(database=database.description)
        with self._progress.step("schema") as step:
            ran = await migrate(url)
            step.detail = f"{len(ran)} migrations" if ran else "up to date"
        return url

    async def _prepared(self, preparation: Preparation) -> None:
        """All models are there; the engine did not have to wait for this."""
        with self._progress.step("models") as step:
            step.detail = str((await preparation.embedder()).parent)

    def _engines(self, models: LocalModels, session: aiohttp.ClientSession, store: ReplicaStore) -> Engines:
        if self._serving.engine_urls:
            return GivenEngines(self._serving, session)
        return OwnEngines(
            models,
            partial(
                vllm_process,
                settings=self._serving,
                session=session,
                logs=self._context.home.logs,
                guard=self._guard,
                say=self._context.out.note,
            ),
            store,
            first_port=self._context.settings.engine_port,
            most=self._serving.max_engines,
            name=f"up {self._context.home.root}",
            say=self._context.out.note,
            on_change=lambda addresses: self._tell(engines=addresses),
        )

    async def _start_engine(self, engines: Engines) -> None:
        with self._progress.step("engine", announce=engines.announcement) as step:
            step.detail = await engines.start_stable()

    async def _start_gateway(
        self,
        url: str,
        connections: Pool,
        engines: Engines,
        models: LocalModels,
        prepared: Awaitable[None],
    ) -> Mapping[str, str]:
        """Articles, keys and the gateway process: what needs no engine."""
        home, settings = self._context.home, self._context.settings
        await prepared
        with self._progress.step("articles") as step:
            step.detail = await Articles(home, self._retrieval, models.folders.embedder).publish(
                url,
                self._options.source,
                tenant=settings.tenant,
                say=lambda text: self._progress.note("articles", text),
            )
        with self._progress.step("gateway") as step:
            keys = await ensure_keys(KeyStore(Database(connections)), home.keys(), tenant=settings.tenant)
            home.keep_keys(keys)
            child = Child(
                "gateway",
                [sys.executable, "-m", "gateway"],
                environment=self._gateway_environment(url, engines, models),
                log=home.logs / "gateway.log",
                guard=self._guard,
                say=self._context.out.note,
                stop_timeout_s=settings.stop_timeout_s,
            )
            self._resources.push_async_callback(child.stop)
            session = await self._resources.enter_async_context(aiohttp.ClientSession())
            api = GatewayApi(session, url=self._state.gateway_url, key=None, timeout_s=5.0)
            await child.start(api.is_alive, timeout_s=GATEWAY_START_S)
            step.detail = self._state.gateway_url
        await self._start_worker(url, engines, models)
        return keys

    async def _start_worker(self, url: str, engines: Engines, models: LocalModels) -> None:
        """Nobody waits for it: jobs wait in the queue until it is there."""
        child = Child(
            "worker",
            [sys.executable, "-m", "deploy", "worker"],
            environment=self._gateway_environment(url, engines, models),
            log=self._context.home.logs / "worker.log",
            guard=self._guard,
            say=self._context.out.note,
            stop_timeout_s=self._context.settings.stop_timeout_s,
        )
        self._resources.push_async_callback(child.stop)
        await child.start(_at_once, timeout_s=GATEWAY_START_S)

    def _gateway_environment(self, url: str, engines: Engines, models: LocalModels) -> dict[str, str]:
        return {
            **os.environ,
            "DATABASE_URL": url,
            "SERVING_ENGINES": self._serving.engines,
            "SERVING_ADAPTERS_DIR": str(self._serving.adapters_dir or models.folders.root),
            "GATEWAY_HOST": self._gateway.host,
            "GATEWAY_PORT": str(self._gateway.port),
            "GATEWAY_SPOOL_DIR": str(self._context.home.spool),
            "RETRIEVAL_EMBEDDER_DIR": str(models.folders.embedder),
            "RETRIEVAL_RERANKER_DIR": str(self._retrieval.reranker_dir or RERANKER),
            "SERVING_TOKENIZER": str(models.folders.tokenizer),
            "HF_HUB_OFFLINE": "1",
        }

    async def _wait_until_ready(self, api: GatewayApi) -> None:
        began = time.monotonic()
        deadline, said = began + READY_S, False
        while True:
            report = await api.readiness()
            if report["http_status"] == 200:
                return
            if not said and time.monotonic() - began > SAY_WAITING_S:
                said = True
                self._context.out.note(
                    "the engine answers; its version is being probed before it gets questions"
                )
            if time.monotonic() > deadline:
                raise DeployError(
                    f"gateway: not ready after {READY_S:.0f} s: {report}; see `twinrail status`"
                )
            await asyncio.sleep(0.2)

    def _tell(self, **changes: Any) -> None:
        """Let `status`, `ask` and `down` know."""
        self._state = replace(self._state, **changes)
        self._context.home.keep_state(self._state)


async def _at_once() -> bool:
    return True


async def _both(
    first: Coroutine[Any, Any, First], second: Coroutine[Any, Any, Second]
) -> tuple[First, Second]:
    """Run two steps at once. When one fails, the other is cancelled and waited for."""
    tasks: tuple[asyncio.Task[First], asyncio.Task[Second]] = (
        asyncio.create_task(first),
        asyncio.create_task(second),
    )
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    return tasks[0].result(), tasks[1].result()


def _on_signal() -> asyncio.Event:
    """Set by the first Ctrl-C, SIGTERM or closed terminal. The second one leaves the rest to the watchdog."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    first_at: list[float] = []

    def signalled(number: int) -> None:
        # One key press may reach us more than once: through the terminal, through `make`, through `timeout`.
        if first_at and loop.time() - first_at[0] > SAME_PRESS_S:
            os._exit(128 + number)
        first_at.append(loop.time())
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, signalled, number)
    return stop
