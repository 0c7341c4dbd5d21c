"""A model rail without a gateway's HTTP: registry, reconciler, roster and readers, on fake engines and real vLLM.

A reader does what a gateway does for a turn: the pointer (believed for a second), the pool's choice, one stream. What it
got tells which version wrote it: a fake writes the version's id, and of real engines the texts are compared at the end with
what each version writes when nothing else happens.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np

from bench.fresh_rail import fresh_rail
from deploy.child import die_with_parent
from deploy.ports import free_port
from gateway.rollouts.live import Remembered
from serving.adapter_checks import ADAPTER_FILE
from serving.adapter_configs import ADAPTER_CONFIG
from serving.client import ChatClient, ChatRequest
from serving.digests import base_digest, digest_folder
from serving.engines import engine_command, engine_environment
from serving.errors import EngineError
from serving.pool import EnginePool
from serving.prober import Prober
from serving.prompting import Message, PromptTemplate
from serving.reconciling import Reconciler, ReconcilerLimits
from serving.registry import ModelRegistry
from serving.replicas import ReplicaStore
from serving.roster import Roster
from serving.shelf import AdapterShelf
from serving.versions import Decoding, ModelVersion, RegisteredVersion
from tests.fakes.adapter_folders import lora_tensors, write_adapter
from tests.fakes.vllm_server import FakeVllm

SHIPPED = Path("deploy/demo/adapter")
BASE = Path(".twinrail/models/base")
BOOT_S = 400.0
QUESTION = (
    Message("system", "You are a support agent. Answer from the passages only, as JSON."),
    Message(
        "user", "[1] Refunds\nA refund is possible within 30 days.\n\nQuestion: Can I have my money back?"
    ),
)
#: Short: what is measured is whose answer it is.
DECODING = Decoding(max_tokens=12)


@dataclass(slots=True)
class Answer:
    """What one reader got."""

    at: float
    wanted: str
    text: str
    error: str = ""
    #: Which of the questions was asked.
    question: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """From how many to how many seconds pass between two of the same kind."""

    kills_s: tuple[float, float]
    moves_s: tuple[float, float]
    reconcilers_s: tuple[float, float]
    #: A promotion that takes longer is given up.
    promotion_s: float
    #: Of a reader, between two questions.
    pause_s: float


@dataclass(slots=True, kw_only=True)
class Stand:
    """The parts of a run."""

    store: ReplicaStore
    registry: ModelRegistry
    reconciler: Reconciler
    roster: Roster
    pool: EnginePool
    chat: ChatClient
    session: aiohttp.ClientSession
    fakes: list[FakeVllm]
    urls: list[str]
    base: RegisteredVersion
    versions: list[RegisteredVersion]
    limits: ReconcilerLimits
    shelf: AdapterShelf
    answers: list[Answer] = field(default_factory=list)

    async def routable(self, version: RegisteredVersion, *, every_s: float = 0.05) -> None:
        """Wait until every engine has shown the version, as `twinrail promote` does."""
        while await self.roster.lacks(version):  # noqa: ASYNC110 (the state is a database's)
            await asyncio.sleep(every_s)

    async def release(self, version: RegisteredVersion) -> None:
        """Stage, wait, promote."""
        await self.roster.stage(version.id, by="bench")
        await self.routable(version)
        await self.registry.promote(version.id)
        await self.roster.unstage(version.id)

    async def write(self, version: str, messages: Sequence[Message] = QUESTION) -> str:
        """One answer of a version, from whichever engine the pool chooses."""
        return await written(self.chat, version, messages)

    @asynccontextmanager
    async def load(
        self, *, readers: int, pause_s: float, questions: Sequence[Sequence[Message]] = (QUESTION,)
    ) -> AsyncIterator[list[Answer]]:
        """Readers that ask all the time within the block, any of the questions; what they get is in `answers`."""
        pointer = Remembered(self.registry.pointer, max_age_s=1.0)
        self.answers = []

        async def read() -> None:
            while True:
                wanted = (await pointer.get()).stable
                answer = Answer(time.monotonic(), wanted, "", question=random.randrange(len(questions)))
                try:
                    answer.text = await self.write(wanted, questions[answer.question])
                except EngineError as exc:
                    answer.error = str(exc)
                answer.at = time.monotonic()
                self.answers.append(answer)
                await asyncio.sleep(pause_s)

        tasks = [asyncio.create_task(read()) for _ in range(readers)]
        try:
            yield self.answers
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def first_answer(self, version: str, *, after: float) -> float:
        """When the first answer of the version came that was asked for after that moment."""
        while True:
            for answer in self.answers:
                if answer.wanted == version and answer.at >= after and not answer.error:
                    return answer.at
            await asyncio.sleep(0.005)


async def written(chat: ChatClient, name: str, messages: Sequence[Message]) -> str:
    """One whole answer."""
    request = ChatRequest(
        served_name=name, messages=messages, decoding=DECODING, timeout_s=60, first_token_timeout_s=60
    )
    return "".join([delta.text async for delta in chat.stream(request)])


@asynccontextmanager
async def stand(
    *,
    fakes: int,
    real: int = 0,
    tuned: int = 2,
    scales: Sequence[float] = (),
    limits: ReconcilerLimits | None = None,
    reconcile: bool = True,
) -> AsyncIterator[Stand]:
    """Engines, and a rail on which the base is stable; without `reconcile` nothing looks at them yet. Real engines need the base in .twinrail/models.

    `scales` is for real engines that the caller runs: a tuned version of the shipped adapter with each of these effects.
    """
    limits = limits or ReconcilerLimits()
    # Clients that leave, and engines that are killed, are what happens here.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    async with AsyncExitStack() as stack:
        connections = await stack.enter_async_context(fresh_rail(connections=8))
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        )
        root = Path(tempfile.mkdtemp(prefix="twinrail-shelf-"))
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        registry, store = ModelRegistry(connections), ReplicaStore(connections)
        digest = "b" * 64
        if real or scales:
            digest = base_digest(BASE)
            (root / "base").symlink_to(BASE.absolute())
        base = await _register(registry, "base", digest, None)
        adapters = [scaled(root, scale) for scale in scales] or [
            (_shipped if real else _made)(root, n) for n in range(1, tuned + 1)
        ]
        versions = [await _register(registry, f"v{n}", digest, one) for n, one in enumerate(adapters, 1)]
        await registry.promote(base.id)
        engines = [FakeVllm(models={}, record=False) for _ in range(fakes)]
        for fake in engines:
            fake.program(base.id, answer=f"Written by {base.id}, the base.")
        urls = [await stack.enter_async_context(fake.serving()) for fake in engines]
        urls += [await stack.enter_async_context(vllm(session, base.id)) for _ in range(real)]
        pool = EnginePool((), session)
        shelf = AdapterShelf(root)
        reconciler = Reconciler(store, registry, session, shelf=shelf, limits=limits)
        roster = Roster(store, registry, pool, Prober(store, session), given=urls, wake=reconciler.wake)
        await stack.enter_async_context(roster.running())
        if reconcile:
            await stack.enter_async_context(reconciler.running())
        made = Stand(
            store=store,
            registry=registry,
            reconciler=reconciler,
            roster=roster,
            pool=pool,
            chat=ChatClient(session=session, engines=pool),
            session=session,
            fakes=engines,
            urls=urls,
            base=base,
            versions=versions,
            limits=limits,
            shelf=shelf,
        )
        if reconcile:
            await made.routable(base)
        yield made


async def _register(
    registry: ModelRegistry, name: str, digest: str, adapter: str | None
) -> RegisteredVersion:
    return await registry.register(
        ModelVersion(
            name=name,
            base_digest=digest,
            adapter_digest=adapter,
            prompt=PromptTemplate(name=name, system="Answer."),
            task="support_answer",
            schema={"type": "object"},
        )
    )


def _made(root: Path, number: int) -> str:
    """A small adapter that only a fake loads: one that the shelf's checks let through."""
    tensors = {name: tensor * number for name, tensor in lora_tensors().items()}
    return _shelved(root, write_adapter(root / "new", tensors=tensors))


def _shipped(root: Path, number: int) -> str:
    """The shipped adapter, and weaker copies of it: other bytes, other answers."""
    return scaled(root, 1.0 / number)


def scaled(root: Path, factor: float) -> str:
    """The shipped adapter with its effect scaled, on the shelf; returns its digest."""
    import torch
    from safetensors.torch import load_file
    from safetensors.torch import save_file as save_tensors

    folder = root / "new"
    folder.mkdir()
    tensors = load_file(str(SHIPPED / ADAPTER_FILE))
    made = {
        name: (tensor * factor if "lora_B" in name else tensor).contiguous()
        for name, tensor in tensors.items()
    }
    assert all(isinstance(tensor, torch.Tensor) for tensor in made.values())
    save_tensors(made, str(folder / ADAPTER_FILE), metadata={"format": "pt"})
    shutil.copy(SHIPPED / ADAPTER_CONFIG, folder)
    return _shelved(root, folder)


def _shelved(root: Path, folder: Path) -> str:
    digest = digest_folder(folder)
    folder.rename(root / f"adapter-{digest[:8]}")
    return digest


async def spawn_vllm(name: str, port: int) -> asyncio.subprocess.Process:
    """A vLLM process on the base, on one thread so that two of them fit on two cores; a group of its own."""
    environment = {
        **os.environ,
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    return await asyncio.create_subprocess_exec(
        *engine_command(
            model=BASE.absolute(),
            served_names=(name,),
            port=port,
            max_model_len=1024,
            max_num_seqs=4,
            runtime_adapters=True,
            max_lora_rank=16,
        ),
        env=engine_environment(environment, runtime_adapters=True),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=die_with_parent if sys.platform == "linux" else None,
    )


@asynccontextmanager
async def vllm(session: aiohttp.ClientSession, name: str) -> AsyncIterator[str]:
    """A vLLM process within the block."""
    port = free_port()
    process = await spawn_vllm(name, port)
    try:
        await until_answers(session, f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        for number in (15, 9):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 20)


async def until_answers(
    session: aiohttp.ClientSession, root: str, process: asyncio.subprocess.Process
) -> None:
    """Wait until an engine is up; raises RuntimeError when it ends before."""
    deadline = time.monotonic() + BOOT_S
    while time.monotonic() < deadline and process.returncode is None:
        with suppress(aiohttp.ClientError, TimeoutError):
            async with session.get(f"{root}/health") as response:
                if response.status == 200:
                    return
        await asyncio.sleep(0.5)
    raise RuntimeError("vLLM did not become ready")


def median(values: Sequence[float]) -> float:
    """The middle one, or the mean of the two in the middle."""
    return float(np.median(values))
