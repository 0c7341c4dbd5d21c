"""Random kills of engines under load: answers written by another version than the one that was asked for.

    python -m bench.model_reconciler [--minutes 30] [--readers 4] [--seed 1]
    python -m bench.model_reconciler --engines real --minutes 30     # two vLLM processes on the base model

Three fake engines on real PostgreSQL. Every few seconds one of them is killed in the middle of what it does and started
again, without its adapters; now and then its new process ignores the adapter, or answers with the other adapter under the
name, or has the adapter loaded already by somebody else, until it is killed again. Now and then the reconciler is killed,
in the middle of a load or not, and another one takes over; and the pointer moves between two tuned versions. Each answer
says which weights wrote it. An answer that a kill broke off is counted as failed: the gateway's fallbacks are for those.

Beside it, in the same run, for a tenth of the time: what readers get from a pool that goes by the engines' lists alone.

Real engines do not say who wrote an answer. Before anything is killed each version, and the base, is asked a few questions
without sampling; an answer that another one of them gives to that question is a wrong version's, and one that none of them
gave (a batch may round otherwise) is counted as unknown. There the engines are killed every one to two minutes, as a process
takes 40 seconds to start, and the lists alone are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Protocol

from bench.engines.real import RealEngines
from bench.engines.stand import QUESTION, Answer, Pace, Stand, stand
from bench.machine import describe_machine
from deploy.ports import free_port
from serving.errors import ServingError
from serving.pool import Admissions
from serving.prompting import Message
from serving.reconciling import Reconciler, ReconcilerLimits
from tests.fakes.vllm_server import FakeVllm

OUT = Path(__file__).with_name("results")
#: A look every half second and a reading of the tables every second see each of these; vLLM itself needs ten and more to
#: start. A process that were back within two seconds could answer for a moment on what was shown of the one before.
DOWN_S = (2.0, 4.0, 8.0)
LIMITS = ReconcilerLimits(every_s=0.5, lease_s=3.0, settle_s=2.0, longest_pause_s=5.0)


class Engines(Protocol):
    """What is different with fakes and with real vLLM."""

    #: Name of the result file.
    out: str
    limits: ReconcilerLimits
    pace: Pace
    #: What is asked.
    questions: Sequence[Sequence[Message]]
    #: Whether the engines' lists alone are tried afterwards.
    goes_by_lists: bool

    @property
    def urls(self) -> Sequence[str]: ...

    def stand(self) -> AbstractAsyncContextManager[Stand]: ...

    async def start(self, rail: Stand) -> None: ...

    async def harm(self, rail: Stand, draw: random.Random, counted: Counter[str]) -> None: ...

    async def stop(self) -> None: ...

    def verdict(self, answer: Answer) -> str: ...


class Engine:
    """A fake engine on a fixed port that can be killed."""

    def __init__(self, fake: FakeVllm, port: int) -> None:
        self.fake = fake
        self.port = port
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Listen."""
        await self._stack.enter_async_context(self.fake.serving(port=self.port))

    async def kill(self) -> None:
        """What runs on it is broken off, and what was loaded is gone."""
        await self._stack.aclose()
        self._stack = AsyncExitStack()
        self.fake.restart()
        self.fake.ignored.clear()
        self.fake.confused.clear()


class FakeEngines:
    """Three fakes; each answer says who wrote it."""

    out = "model_reconciler.json"
    limits = LIMITS
    pace = Pace(
        kills_s=(2.0, 6.0), moves_s=(5.0, 15.0), reconcilers_s=(5.0, 30.0), promotion_s=10.0, pause_s=0.1
    )
    questions: Sequence[Sequence[Message]] = (QUESTION,)
    goes_by_lists = True

    def __init__(self) -> None:
        self._engines: list[Engine] = []

    @property
    def urls(self) -> list[str]:
        """Of all."""
        return [f"http://127.0.0.1:{each.port}/v1" for each in self._engines]

    def stand(self) -> AbstractAsyncContextManager[Stand]:
        """A rail for them."""
        return stand(fakes=0, limits=LIMITS, reconcile=False)

    async def start(self, rail: Stand) -> None:
        """Start them."""
        for _ in range(3):
            fake = FakeVllm(models={}, record=False)
            fake.program(rail.base.id, answer=f"Written by {rail.base.id}, the base.", between_tokens_s=0.005)
            for version in rail.versions:
                path = str(rail.shelf.folder(version.version))
                fake.program(path, answer=f"Written by {version.id}.", between_tokens_s=0.005)
                fake.written[path] = fake.models.pop(path)
            engine = Engine(fake, free_port())
            await engine.start()
            self._engines.append(engine)

    async def harm(self, rail: Stand, draw: random.Random, counted: Counter[str]) -> None:
        """Kill one of them, and start it again, sometimes as one that does wrong."""
        one, two = rail.versions
        paths = {version.id: str(rail.shelf.folder(version.version)) for version in rail.versions}
        engine = draw.choice(self._engines)
        await engine.kill()
        counted["engine kills"] += 1
        await asyncio.sleep(draw.choice(DOWN_S))
        kind = draw.random()
        if kind < 0.15:
            engine.fake.ignored.update(paths)
            counted["lives that ignore adapters"] += 1
        elif kind < 0.3:
            engine.fake.confused = {one.id: paths[two.id], two.id: paths[one.id]}
            counted["lives with the other adapter"] += 1
        elif kind < 0.45:
            engine.fake.adapters = {one.id: paths[two.id], two.id: paths[one.id]}
            counted["lives with other adapters loaded already"] += 1
        await engine.start()

    async def stop(self) -> None:
        """End them."""
        for engine in self._engines:
            await engine.kill()

    def verdict(self, answer: Answer) -> str:
        """Right or wrong."""
        return "right" if answer.wanted in answer.text else "wrong"


async def torment(rail: Stand, engines: Engines, draw: random.Random, counted: Counter[str]) -> None:
    """Kill one after the other, for ever."""
    while True:
        await asyncio.sleep(draw.uniform(*engines.pace.kills_s))
        await engines.harm(rail, draw, counted)


async def move(rail: Stand, pace: Pace, draw: random.Random, counted: Counter[str]) -> None:
    """Promote now this version and now that one."""
    while True:
        for version in rail.versions:
            await asyncio.sleep(draw.uniform(*pace.moves_s))
            with suppress(ServingError, TimeoutError):
                async with asyncio.timeout(pace.promotion_s):
                    await rail.release(version)
                    counted["promotions"] += 1


async def kill_reconcilers(rail: Stand, engines: Engines, draw: random.Random, counted: Counter[str]) -> None:
    """One after the other; the lease passes on."""
    while True:
        reconciler = Reconciler(
            rail.store, rail.registry, rail.session, shelf=rail.shelf, limits=engines.limits
        )
        task = asyncio.create_task(_reconcile(reconciler))
        try:
            await asyncio.sleep(draw.uniform(*engines.pace.reconcilers_s))
        finally:
            task.cancel()
            await asyncio.wait([task])
        counted["reconciler kills"] += 1


async def _reconcile(reconciler: Reconciler) -> None:
    async with reconciler.running():
        await asyncio.Event().wait()


async def measure(engines: Engines, args: argparse.Namespace, found: dict[str, Any]) -> None:
    """Both halves: with what was shown, and by the lists alone. `found` has what there is when it is interrupted."""
    draw, counted = random.Random(args.seed), Counter[str]()
    if me := asyncio.current_task():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, me.cancel)
    async with engines.stand() as rail, AsyncExitStack() as stack:
        stack.push_async_callback(engines.stop)
        await engines.start(rail)
        found["questions"] = len(engines.questions)
        await _announce(rail, engines)
        tasks = [
            asyncio.create_task(_beat(rail, engines)),
            asyncio.create_task(kill_reconcilers(rail, engines, draw, counted)),
        ]
        stack.push_async_callback(_end, tasks)
        await rail.routable(rail.base)
        await rail.release(rail.versions[0])
        tasks.append(asyncio.create_task(torment(rail, engines, draw, counted)))
        tasks.append(asyncio.create_task(move(rail, engines.pace, draw, counted)))
        seconds = args.minutes * 60
        try:
            await _read(rail, engines, tasks, args.readers, seconds, found.setdefault("shown", {}))
        finally:
            found["chaos"] = dict(counted)
        if engines.goes_by_lists:
            # Now everything that is listed is believed.
            rail.pool.admit = lambda admissions: None  # type: ignore[method-assign]
            rail.pool._admissions = Admissions()  # the bench takes the pool's knowledge away
            listed = found.setdefault("by_lists", {})
            await _read(rail, engines, tasks, args.readers, max(20.0, seconds / 10), listed)


async def _read(
    rail: Stand,
    engines: Engines,
    tasks: Sequence[asyncio.Task[None]],
    readers: int,
    seconds: float,
    into: dict[str, Any],
) -> None:
    """Have readers ask for so long, or until one of the tasks breaks; what they got is counted in any case."""
    began = time.monotonic()
    try:
        async with rail.load(readers=readers, pause_s=engines.pace.pause_s, questions=engines.questions):
            broken, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        into.update(_counts(rail.answers, engines.verdict), seconds=time.monotonic() - began)
    for task in broken:
        task.result()


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def _announce(rail: Stand, engines: Engines) -> None:
    await rail.store.announce(dict.fromkeys(engines.urls), by="bench")


async def _beat(rail: Stand, engines: Engines) -> None:
    """Their announcer is alive."""
    while True:
        await asyncio.sleep(10)
        await _announce(rail, engines)


def _counts(answers: Sequence[Answer], verdict: Callable[[Answer], str]) -> dict[str, Any]:
    failed = [answer for answer in answers if answer.error]
    told: dict[str, list[Answer]] = {"right": [], "wrong": [], "unknown": []}
    for answer in answers:
        if not answer.error:
            told[verdict(answer)].append(answer)
    return {
        "answers": len(answers) - len(failed),
        "failed": len(failed),
        "wrong_version": len(told["wrong"]),
        "unknown": len(told["unknown"]),
        "examples": [(answer.wanted, answer.text) for answer in told["wrong"][:3]],
        "unknown_examples": [(answer.wanted, answer.text) for answer in told["unknown"][:3]],
        "failures": Counter(answer.error.split(":")[0][:60] for answer in failed).most_common(5),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engines", choices=("fake", "real"), default="fake")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    engines: Engines = RealEngines() if args.engines == "real" else FakeEngines()
    found = {"machine": describe_machine(), "minutes": args.minutes, "seed": args.seed}
    began = time.monotonic()
    try:
        asyncio.run(measure(engines, args, found))
    except (KeyboardInterrupt, asyncio.CancelledError):
        found["interrupted"] = True
    finally:
        found["seconds"] = time.monotonic() - began
        if "shown" in found:
            _report(found)
            (OUT / engines.out).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 1 if found.get("interrupted") or found["shown"]["wrong_version"] else 0


def _report(found: dict[str, Any]) -> None:
    print(", ".join(f"{count} {name}" for name, count in found["chaos"].items()))
    print(f"{'':<22}{'answers':>9}{'failed':>9}{'wrong version':>15}{'unknown':>9}{'seconds':>9}")
    for name, title in (("shown", "what was shown"), ("by_lists", "the lists alone")):
        if row := found.get(name):
            figures = f"{row['answers']:>9}{row['failed']:>9}{row['wrong_version']:>15}{row['unknown']:>9}"
            print(f"{title:<22}{figures}{row['seconds']:>9.0f}")


if __name__ == "__main__":
    sys.exit(main())
