"""Random kills of engines under load: answers written by another version than the one that was asked for.

    python -m bench.model_reconciler [--minutes 30] [--readers 4] [--seed 1]

Three fake engines on real PostgreSQL. Every few seconds one of them is killed in the middle of what it does and started
again, without its adapters; now and then its new process ignores the adapter, or answers with the other adapter under the
name, or has the adapter loaded already by somebody else, until it is killed again. Now and then the reconciler is killed,
in the middle of a load or not, and another one takes over; and the pointer moves between two tuned versions. Each answer
says which weights wrote it. An answer that a kill broke off is counted as failed: the gateway's fallbacks are for those.

Beside it, in the same run, for a tenth of the time: what readers get from a pool that goes by the engines' lists alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from bench.engines.stand import Answer, Stand, stand
from bench.machine import describe_machine
from serving.errors import ServingError
from serving.pool import Admissions
from serving.reconciling import Reconciler, ReconcilerLimits
from tests.fakes.vllm_server import FakeVllm

OUT = Path(__file__).with_name("results") / "model_reconciler.json"
#: A look every half second and a reading of the tables every second see each of these; vLLM itself needs ten and more to
#: start. A process that were back within two seconds could answer for a moment on what was shown of the one before.
DOWN_S = (2.0, 4.0, 8.0)
LIMITS = ReconcilerLimits(every_s=0.5, lease_s=3.0, settle_s=2.0, longest_pause_s=5.0)


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


async def torment(rail: Stand, engines: Sequence[Engine], draw: random.Random, counted: Counter[str]) -> None:
    """Kill one after the other, for ever."""
    one, two = rail.versions
    paths = {version.id: str(rail.shelf.folder(version.version)) for version in rail.versions}
    while True:
        await asyncio.sleep(draw.uniform(2.0, 6.0))
        engine = draw.choice(engines)
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


async def move(rail: Stand, draw: random.Random, counted: Counter[str]) -> None:
    """Promote now this version and now that one."""
    while True:
        for version in rail.versions:
            await asyncio.sleep(draw.uniform(5.0, 15.0))
            with suppress(ServingError, TimeoutError):
                async with asyncio.timeout(10):
                    await rail.release(version)
                    counted["promotions"] += 1


async def kill_reconcilers(rail: Stand, draw: random.Random, counted: Counter[str]) -> None:
    """One after the other; the lease passes on."""
    while True:
        reconciler = Reconciler(rail.store, rail.registry, rail.session, shelf=rail.shelf, limits=LIMITS)
        task = asyncio.create_task(_reconcile(reconciler))
        await asyncio.sleep(draw.uniform(5.0, 30.0))
        task.cancel()
        await asyncio.wait([task])
        counted["reconciler kills"] += 1


async def _reconcile(reconciler: Reconciler) -> None:
    async with reconciler.running():
        await asyncio.Event().wait()


def wrong(answers: Sequence[Answer]) -> list[Answer]:
    """Answers that other weights wrote than those of the version that was asked for."""
    return [answer for answer in answers if not answer.error and answer.wanted not in answer.text]


async def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Both halves: with what was shown, and by the lists alone."""
    draw, counted = random.Random(args.seed), Counter[str]()
    async with stand(fakes=0, limits=LIMITS, reconcile=False) as rail:
        engines = []
        for _ in range(3):
            fake = FakeVllm(models={}, record=False)
            fake.program(rail.base.id, answer=f"Written by {rail.base.id}, the base.", between_tokens_s=0.005)
            for version in rail.versions:
                path = str(rail.shelf.folder(version.version))
                fake.program(path, answer=f"Written by {version.id}.", between_tokens_s=0.005)
                fake.written[path] = fake.models.pop(path)
            engine = Engine(fake, _port())
            await engine.start()
            engines.append(engine)
        await rail.store.announce({f"http://127.0.0.1:{each.port}/v1": None for each in engines}, by="bench")
        beating = asyncio.create_task(_beat(rail, engines))
        keeping = asyncio.create_task(kill_reconcilers(rail, draw, counted))
        await rail.routable(rail.base)
        await rail.release(rail.versions[0])
        chaos = [
            asyncio.create_task(torment(rail, engines, draw, counted)),
            asyncio.create_task(move(rail, draw, counted)),
        ]
        seconds = args.minutes * 60
        async with rail.load(readers=args.readers, pause_s=0.1) as answers:
            await asyncio.sleep(seconds)
        shown = _counts(answers)
        by_lists = dict(counted)
        # Now everything that is listed is believed.
        rail.pool.admit = lambda _admissions: None  # type: ignore[method-assign]
        rail.pool._admissions = Admissions()  # the bench takes the pool's knowledge away
        async with rail.load(readers=args.readers, pause_s=0.1) as answers:
            await asyncio.sleep(max(20.0, seconds / 10))
        listed = _counts(answers)
        for task in (*chaos, keeping, beating):
            task.cancel()
        await asyncio.wait([*chaos, keeping, beating])
        for engine in engines:
            await engine.kill()
    return {"minutes": args.minutes, "seed": args.seed, "chaos": by_lists, "shown": shown, "by_lists": listed}


async def _beat(rail: Stand, engines: Sequence[Engine]) -> None:
    """Their announcer is alive."""
    while True:
        await asyncio.sleep(10)
        await rail.store.announce({f"http://127.0.0.1:{each.port}/v1": None for each in engines}, by="bench")


def _port() -> int:
    from deploy.ports import free_port

    return free_port()


def _counts(answers: Sequence[Answer]) -> dict[str, Any]:
    failed = [answer for answer in answers if answer.error]
    return {
        "answers": len(answers) - len(failed),
        "failed": len(failed),
        "wrong_version": len(wrong(answers)),
        "examples": [(answer.wanted, answer.text) for answer in wrong(answers)[:3]],
        "failures": Counter(answer.error.split(":")[0][:60] for answer in failed).most_common(5),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    machine, began = describe_machine(), time.monotonic()
    found = {"machine": machine, **asyncio.run(measure(args)), "seconds": time.monotonic() - began}
    print(", ".join(f"{count} {name}" for name, count in found["chaos"].items()))
    print(f"{'':<22}{'answers':>9}{'failed':>9}{'wrong version':>15}")
    for name, title in (("shown", "what was shown"), ("by_lists", "the lists alone")):
        row = found[name]
        print(f"{title:<22}{row['answers']:>9}{row['failed']:>9}{row['wrong_version']:>15}")
    OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 1 if found["shown"]["wrong_version"] else 0


if __name__ == "__main__":
    sys.exit(main())
