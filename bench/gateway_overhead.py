"""What the gateway adds to a call of the model, next to LiteLLM's proxy, in the same run against the same fast upstream.

    make bench-overhead                                    the whole measurement, about 9 minutes
    make bench-overhead ARGS="--quick --without-litellm"   a minute of it, to see that it works

The server that is measured has the first core for itself; load, upstream and PostgreSQL share the second. The gateway runs
with API keys, limits, turn recording to PostgreSQL and tracing (spans are exported to a sink): once with retrieval off (each
question is searched for once and remembered; prompting, checks and citations stay), and once as shipped, over the demo.
LiteLLM runs with its defaults and one master key, without a database.

Rounds are interleaved: direct, each gateway, again. Added latency is the difference against the direct call of the same
round, the figure its median over the rounds. The first text of our streams comes with the first checked sentence; how long
the upstream takes to write that sentence is told beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import pstats
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.load import Client, Request, at_most
from bench.machine import describe_machine
from bench.overhead import peer
from bench.overhead.errors import BenchError, NotComparableError
from bench.overhead.leaving import leave
from bench.overhead.measuring import QUICK, Call, Plan, Target, measure, summarise
from bench.overhead.processes import Cores, Service
from bench.overhead.report import table
from bench.overhead.stand import MODEL, Gateway, Stand, standing, supported_answer
from deploy.ports import free_port

RESULTS = Path(__file__).parent / "results" / "gateway_overhead.json"
CHUNKS = 32
DIRECT, OFF, ON = "direct", "twinrail, retrieval off", "twinrail, retrieval on"
_PEER_KEY = "sk-bench"
#: A system message, so that the body of a request has the usual kilobyte; our gateway has its own and leaves it out.
_SYSTEM = (
    "You answer customers of the help centre in a friendly and short way, with facts of the articles only. "
    * 9
)
_WARM_UP = 20


class Bodies:
    """The requests of a run. All targets get the same question."""

    def __init__(self, question: str, answer: str) -> None:
        self._question = question
        #: A piece of the answer that every surface shows unchanged.
        self._piece = json.loads(answer)["answer"][:20].encode()

    def openai(self, url: str, *, model: str, key: str = "", ours: bool = False) -> dict[Call, Request]:
        """The calls of the OpenAI surface."""
        messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": self._question}]
        body: dict[str, Any] = {"model": model, "messages": messages}
        answered = (b'"status":"answered"',) if ours else ()
        # The upstream cuts the answer into pieces, and a proxy passes them on; our sentences come whole.
        shown = (self._piece,) if ours else ()
        return {
            Call.CHAT: Request.post(url, _json(body), key=key, proof=(self._piece, *answered)),
            Call.CHAT_STREAM: Request.post(
                url, _json({**body, "stream": True}), key=key, proof=(b"[DONE]", *shown, *answered)
            ),
        }

    def native(self, url: str, *, key: str) -> dict[Call, Request]:
        """The calls of our own surface."""
        body = {"question": self._question}
        proof = (self._piece, b'"status":"answered"')
        return {
            Call.ANSWERS: Request.post(url, _json(body), key=key, proof=proof),
            Call.ANSWERS_STREAM: Request.post(
                url, _json({**body, "stream": True}), key=key, proof=(*proof, b"event: answer.completed")
            ),
        }


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Set up, measure, tell."""
    plan = QUICK if arguments.quick else Plan()
    home, cores = peer.bench_home(), Cores.of_machine()
    with_peer = not arguments.without_litellm
    if with_peer:
        await asyncio.to_thread(peer.install_peer, home, _say)
    machine = describe_machine()
    async with AsyncExitStack() as stack:
        stand = await stack.enter_async_context(standing(home, cores, _say))
        _say("starting the gateways")
        off = await stack.enter_async_context(_gateway(stand, "off", "bench.overhead.cached_gateway"))
        answer = await supported_answer(off, stand.key, stand.question)
        await stand.upstream.answers(answer, chunks=CHUNKS)
        bodies = Bodies(stand.question, answer)
        targets = [
            Target(
                name=DIRECT,
                requests=bodies.openai(f"{stand.upstream.url}/v1/chat/completions", model=MODEL),
            ),
            _ours(OFF, off, bodies, stand.key),
        ]
        if not arguments.without_retrieval:
            on = await stack.enter_async_context(_gateway(stand, "on", "gateway"))
            targets.append(_ours(ON, on, bodies, stand.key))
        if with_peer:
            targets.append(await stack.enter_async_context(_litellm(stand, bodies, home)))
        async with asyncio.timeout(plan.limit_s):
            await _warm_up(targets)
            columns = await measure(targets, plan, stand.upstream, _say)
            leaving = {}
            for target in targets[1:]:
                _say(f"clients that leave: {target.name}")
                found = await leave(
                    stand.upstream,
                    whole=target.requests[Call.CHAT],
                    stream=target.requests[Call.CHAT_STREAM],
                    tries=plan.leave_tries,
                    limit_s=plan.leave_limit_s,
                )
                leaving[target.name] = {moment: departures.as_json() for moment, departures in found.items()}
        state = await stand.upstream.state()
        return {
            "machine": {**machine, "load_1m_after": os.getloadavg()[0]},
            "quick": arguments.quick,
            "cores": {"server": sorted(cores.server), "rest": sorted(cores.rest)},
            "litellm": peer.VERSION if with_peer else None,
            "plan": asdict(plan),
            "request": {"question": stand.question, "answer_bytes": len(answer.encode()), "chunks": CHUNKS},
            "rows": summarise(columns, DIRECT),
            "resident_mib": {
                target.name: round(target.service.resident_mib(), 1) for target in targets if target.service
            },
            "leaving": leaving,
            "span_exports": {"count": state["exports"], "bytes": state["export_bytes"]},
            "notes": _notes(machine, plan, answer),
        }


async def profile(seconds: float) -> str:
    """Where the gateway's time goes with retrieval off: the functions that cost most, by their own time."""
    async with standing(peer.bench_home(), Cores.of_machine(), _say) as stand:
        target = stand.folder / "gateway.prof"
        extra = {"BENCH_PROFILE": str(target)}
        async with _gateway(stand, "profiled", "bench.overhead.cached_gateway", extra=extra) as gateway:
            answer = await supported_answer(gateway, stand.key, stand.question)
            await stand.upstream.answers(answer, chunks=CHUNKS)
            ours = _ours(OFF, gateway, Bodies(stand.question, answer), stand.key)
            await _warm_up([ours])
            sample = await at_most(ours.requests[Call.CHAT], clients=8, seconds=seconds)
        with (stand.folder / "profile.txt").open("w+", encoding="utf-8") as output:
            statistics = pstats.Stats(str(target), stream=output).strip_dirs()
            statistics.sort_stats("tottime").print_stats(45)
            statistics.sort_stats("cumulative").print_stats(70)
            output.seek(0)
            return f"{len(sample.total_s)} requests in {sample.elapsed_s:.1f} s\n{output.read()}"


@asynccontextmanager
async def _gateway(
    stand: Stand, name: str, module: str, *, extra: dict[str, str] | None = None
) -> AsyncIterator[Gateway]:
    gateway = await stand.gateway(name, module, extra=extra)
    try:
        yield gateway
    finally:
        await gateway.service.stop()


@asynccontextmanager
async def _litellm(stand: Stand, bodies: Bodies, home: Path) -> AsyncIterator[Target]:
    port = free_port()
    config = peer.write_config(
        stand.folder / "litellm.json", upstream=f"{stand.upstream.url}/v1", model=MODEL, secret=_PEER_KEY
    )
    service = Service.start(
        "litellm",
        peer.peer_command(home, port=port, config=config),
        environment=peer.peer_environment(),
        log=stand.folder / "litellm.log",
        cores=stand.cores.server,
    )
    try:
        await service.until_answers(f"http://127.0.0.1:{port}/health/liveliness", timeout_s=180.0)
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        yield Target(
            name=f"litellm {peer.VERSION}",
            requests=bodies.openai(url, model=MODEL, key=_PEER_KEY),
            service=service,
        )
    finally:
        await service.stop()


def _ours(name: str, gateway: Gateway, bodies: Bodies, key: str) -> Target:
    chat = bodies.openai(f"{gateway.url}/v1/chat/completions", model="twinrail", key=key, ours=True)
    native = bodies.native(f"{gateway.url}/v1/answers", key=key)
    return Target(name=name, requests={**chat, **native}, service=gateway.service)


async def _warm_up(targets: Sequence[Target]) -> None:
    """Each call a few times; a target that does not give the wanted answer ends the benchmark."""
    for target in targets:
        for call, request in target.requests.items():
            client = await Client.connect(request)
            for _ in range(_WARM_UP):
                if not client.usable:
                    client = await Client.connect(request)
                reply = await client.send(request)
                if reply.failure:
                    raise NotComparableError(
                        f"{target.name}, {call.value}: {reply.failure}: {reply.body[-1500:].decode(errors='replace')}"
                    )
            client.close()


def _notes(machine: dict[str, Any], plan: Plan, answer: str) -> list[str]:
    """What a reader must know to read the figures."""
    text = json.loads(answer)["answer"]
    first = text.find(". ") + 2 if ". " in text else len(text)
    # The sentence is known to be whole with the first character after it.
    chunk_chars = -(-len(answer) // CHUNKS)
    chunk = (answer.index(text[:20]) + first) // chunk_chars
    wait_ms = chunk * plan.between_s * 1000
    busy = ": the machine was busy, trust ratios more than milliseconds." if machine["load_1m"] > 1 else "."
    streams = (
        "Our streams show the first text when its sentence is checked; the upstream has written that sentence "
        f"{wait_ms:.0f} ms after its first token, which is part of our added first text."
    )
    return [
        streams,
        f"Load average before the run: {machine['load_1m']:.1f} on {machine['cores']} cores{busy}",
    ]


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


async def _until_signalled(arguments: argparse.Namespace) -> int:
    """Run; SIGTERM and SIGINT cancel, so that everything that was started is stopped."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    if arguments.profile:
        print(await profile(arguments.profile))
        return 0
    result = await run(arguments)
    print(table(result))
    output = arguments.output or (None if arguments.quick else RESULTS)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        _say(f"wrote {output}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 done, 3 when something it needs cannot be had, 130 when interrupted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="a minute, to see that it works; figures mean little"
    )
    parser.add_argument("--without-litellm", action="store_true", help="leave the peer out")
    parser.add_argument(
        "--without-retrieval", action="store_true", help="leave the run with retrieval on out"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help=f"result file (default {RESULTS.name} in bench/results, none with --quick)",
    )
    parser.add_argument(
        "--profile", type=float, metavar="SECONDS", help="only profile the gateway's event loop under load"
    )
    arguments = parser.parse_args(argv)
    try:
        return asyncio.run(_until_signalled(arguments))
    except asyncio.CancelledError:
        return 130
    except TimeoutError:
        _say("the run took longer than its limit; is the machine busy?")
        return 3
    except (BenchError, OSError) as exc:
        _say(str(exc))
        return 3


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        raise SystemExit(main())
