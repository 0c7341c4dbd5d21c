"""vLLM processes that are killed and started again, and what each version writes when nothing happens to them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

import aiohttp

from bench.engines.stand import Answer, Pace, Stand, spawn_vllm, stand, until_answers, written
from deploy.ports import free_port
from serving.adapters import AdapterLoader, running_requests
from serving.client import ChatClient
from serving.errors import AdapterError, EngineError
from serving.pool import EnginePool
from serving.prompting import Message
from serving.reconciling import ReconcilerLimits

ENGINES = 2
#: Of the shipped adapter's effect: the two versions.
SCALES = (1.0, -1.0)
#: Fewer would not say much.
LEAST_QUESTIONS = 6
#: A kill waits so long for its engine to have something to do.
IDLE_S = 20.0
#: As many as an engine takes into one batch here.
AT_ONCE = 4
ASKED = (
    "How long do you keep deleted files?",
    "Can I have my money back after a renewal?",
    "How do I share a folder with a colleague?",
    "My upload stops at 99 percent. What can I do?",
    "Which payment methods do you take?",
    "How do I change the language of the app?",
    "I was charged twice this month.",
    "Where are my files stored?",
    "How many devices can I connect?",
    "How do I turn on two-factor authentication?",
    "Can I get an earlier version of a document back?",
    "What happens to my data when I cancel?",
)
QUESTIONS = [
    (Message("system", "You are a support agent. Answer in one sentence."), Message("user", text))
    for text in ASKED
]


class VllmEngine:
    """A vLLM process on a fixed port that is started again at once whenever it ends."""

    def __init__(self, name: str, session: aiohttp.ClientSession) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        #: Processes that have ended.
        self.ended = 0
        self._name = name
        self._session = session
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when it answers."""
        self._process = await spawn_vllm(self._name, self.port)
        self._keeper = asyncio.create_task(self._keep())
        await until_answers(self._session, self.url.removesuffix("/v1"), self._process)

    def kill(self) -> None:
        """Without a warning, and all that belongs to it."""
        if self._process is not None:
            _kill_group(self._process)

    async def stop(self) -> None:
        """End it for good."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        self.kill()
        if self._process is not None:
            await self._process.wait()

    async def until_busy(self) -> bool:
        """Wait until something runs on it, for a while; whether it does."""
        deadline = time.monotonic() + IDLE_S
        while time.monotonic() < deadline:
            with suppress(EngineError):
                if await running_requests(self._session, self.url):
                    return True
            await asyncio.sleep(0.1)
        return False

    async def load_first(self, folders: Mapping[str, Path]) -> bool:
        """Load adapters as soon as this process answers, before the reconciler does; whether that was won."""
        ended, loader = self.ended, AdapterLoader(self.url, self._session)
        while self.ended == ended:
            try:
                for name, folder in folders.items():
                    await loader.load(name, folder)
                return True
            except EngineError:
                await asyncio.sleep(0.1)
            except AdapterError:
                return False
        return False

    async def _keep(self) -> None:
        while self._process is not None:
            await self._process.wait()
            _kill_group(self._process)
            self.ended += 1
            self._process = await spawn_vllm(self._name, self.port)


class RealEngines:
    """Two vLLM processes on CPU, killed in the middle of an answer and started again at once."""

    out = "model_reconciler_real.json"
    #: A process is back after 40 s at the earliest; that gives each reader of the tables time to see that it was gone.
    limits = ReconcilerLimits(longest_pause_s=15.0)
    pace = Pace(
        kills_s=(60.0, 120.0),
        moves_s=(30.0, 60.0),
        reconcilers_s=(20.0, 90.0),
        promotion_s=60.0,
        pause_s=0.5,
    )
    #: A process that does not hold an adapter does not list it, so going by lists says little here.
    goes_by_lists = False

    def __init__(self) -> None:
        self.questions: Sequence[Sequence[Message]] = ()
        self._engines: list[VllmEngine] = []
        #: Model -> question -> what it writes, alone and beside others.
        self._texts: dict[str, list[set[str]]] = {}
        #: The engine whose life has the other adapter under each name: it is the next to be killed.
        self._misled: VllmEngine | None = None
        self._misleading: set[asyncio.Task[None]] = set()

    @property
    def urls(self) -> list[str]:
        """Of all."""
        return [engine.url for engine in self._engines]

    def stand(self) -> AbstractAsyncContextManager[Stand]:
        """A rail for them."""
        return stand(fakes=0, scales=SCALES, limits=self.limits, reconcile=False)

    async def start(self, rail: Stand) -> None:
        """Start them, and ask the first what each version and the base write."""
        self._engines = [VllmEngine(rail.base.id, rail.session) for _ in range(ENGINES)]
        _say("starting vLLM")
        await asyncio.gather(*(engine.start() for engine in self._engines))
        _say("asking for the expected answers")
        await self._learn(rail)

    async def harm(self, rail: Stand, draw: random.Random, counted: Counter[str]) -> None:
        """Kill one of them."""
        engine = self._misled or draw.choice(self._engines)
        self._misled = None
        is_busy = await engine.until_busy()
        ended = engine.ended
        engine.kill()
        counted["engine kills"] += 1
        counted["of these in the middle of an answer"] += is_busy
        _say(f"killed {engine.url}: {dict(counted)}")
        while engine.ended == ended:  # noqa: ASYNC110 (its keeper sees it)
            await asyncio.sleep(0.05)
        by_themselves = sum(each.ended for each in self._engines) - counted["engine kills"]
        counted["engines that ended by themselves"] = by_themselves
        if draw.random() < 0.15:
            task = asyncio.create_task(self._mislead(rail, engine, counted))
            self._misleading.add(task)
            task.add_done_callback(self._misleading.discard)

    async def stop(self) -> None:
        """End them."""
        for task in list(self._misleading):
            task.cancel()
        await asyncio.gather(*(engine.stop() for engine in self._engines))

    def verdict(self, answer: Answer) -> str:
        """Whose text it is: right, wrong or unknown."""
        if answer.text in self._texts[answer.wanted][answer.question]:
            return "right"
        others = any(answer.text in texts[answer.question] for texts in self._texts.values())
        return "wrong" if others else "unknown"

    async def _mislead(self, rail: Stand, engine: VllmEngine, counted: Counter[str]) -> None:
        one, two = rail.versions
        folders = {one.id: rail.shelf.folder(two.version), two.id: rail.shelf.folder(one.version)}
        if await engine.load_first(folders):
            self._misled = engine
            counted["lives with other adapters loaded already"] += 1

    async def _learn(self, rail: Stand) -> None:
        """Each question alone, then all at once in two orders: a batch may round otherwise. Adapters come under other names."""
        url = self._engines[0].url
        chat = ChatClient(session=rail.session, engines=EnginePool([url], rail.session))
        loader = AdapterLoader(url, rail.session)
        names = {rail.base.id: rail.base.id}
        for version in rail.versions:
            names[version.id] = f"expected-{version.id}"
            await loader.load(names[version.id], rail.shelf.folder(version.version))
        texts: dict[str, list[set[str]]] = {each: [set() for _ in QUESTIONS] for each in names}
        at_once = asyncio.Semaphore(AT_ONCE)
        cases = [(each, number) for each in names for number in range(len(QUESTIONS))]

        async def ask(each: str, number: int) -> None:
            async with at_once:
                texts[each][number].add(await written(chat, names[each], QUESTIONS[number]))

        for case in cases:
            await ask(*case)
        for seed in range(2):
            random.Random(seed).shuffle(cases)
            await asyncio.gather(*(ask(*case) for case in cases))
        for version in rail.versions:
            await loader.unload(names[version.id])
        kept = [number for number in range(len(QUESTIONS)) if _tells_apart([texts[n][number] for n in names])]
        self.questions = [QUESTIONS[number] for number in kept]
        self._texts = {each: [found[number] for number in kept] for each, found in texts.items()}
        _say(f"{len(kept)} of {len(QUESTIONS)} questions tell the versions apart")
        if len(kept) < LEAST_QUESTIONS:
            raise SystemExit("too few questions tell the versions apart; change the adapters' scales")


def _tells_apart(texts: Sequence[set[str]]) -> bool:
    return sum(map(len, texts)) == len(set().union(*texts))


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
