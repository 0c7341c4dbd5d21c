"""The adapter-effect probe: ignored adapters that it catches, and working ones that it wrongly calls ignored.

    python -m bench.model_probe [--probes 200]
    python -m bench.model_probe --real --probes 200     # vLLM on the base model, the shipped adapter and weaker copies of it

On fakes, half of the probes go to an engine that ignores the adapter; its readings jitter by up to `--noise` nats a token,
more than real vLLM's were ever seen to. On real vLLM an engine that ignores an adapter is the base asked under the
adapter's name, and the false alarms are counted over the shipped adapter and copies of it with a part of its effect. Beside
the probe stands what comparing greedy texts would have said of the same readings.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp

from bench.engines.stand import BASE, median, scaled, vllm
from bench.machine import describe_machine
from serving.adapters import AdapterLoader
from serving.digests import base_digest
from serving.probing import Reading, distance, judge_adapter, read_probes
from tests.fakes.vllm_server import Behaviour, FakeVllm

OUT = Path(__file__).with_name("results")
#: Of the shipped adapter's effect.
SHARES = (1.0, 0.5, 0.25, 0.1)


def judged(base: Reading, reading: Reading, again: Reading, digest: str) -> dict[str, Any]:
    """What the probe, and what a comparison of texts says."""
    result = judge_adapter(reading, base=base, base_again=again, adapter_digest=digest)
    return {
        "passed": result.passed,
        "texts_differ": base.texts != reading.texts,
        "effect": distance(base.places, reading.places),
        "noise": distance(base.places, again.places),
    }


async def on_fakes(args: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """An engine with noise; adapters of many strengths are left to real vLLM."""
    fake = FakeVllm(models={"m-base": Behaviour()}, record=False, noise=args.noise)
    working, ignored = [], []
    async with fake.serving() as url, aiohttp.ClientSession() as session:
        for n in range(args.probes):
            name = f"m-adapter-{n}"
            fake.adapters[name] = f"/adapters/{n}"
            for found, is_ignored in ((working, False), (ignored, True)):
                fake.ignored = {name} if is_ignored else set()
                base = await read_probes(session, url, "m-base")
                reading = await read_probes(session, url, name)
                again = await read_probes(session, url, "m-base")
                found.append(judged(base, reading, again, str(n)))
    return {"working": working, "ignored": ignored}


async def on_vllm(args: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """One engine; half of the readings beside other requests, so that batches differ."""
    working, ignored = [], []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        digests = {share: scaled(root, share) for share in SHARES}
        async with aiohttp.ClientSession() as session, vllm(session, "m-base") as url:
            loader = AdapterLoader(url, session)
            for share, digest in digests.items():
                await loader.load(f"m-share-{share}", root / f"adapter-{digest[:8]}")
            for n in range(args.probes):
                share = SHARES[n % len(SHARES)]
                beside = asyncio.create_task(read_probes(session, url, "m-base")) if n % 2 else None
                base = await read_probes(session, url, "m-base")
                reading = await read_probes(session, url, f"m-share-{share}")
                again = await read_probes(session, url, "m-base")
                if beside:
                    await beside
                working.append({**judged(base, reading, again, digests[share]), "share": share})
                ignored.append(judged(base, again, base, digests[share]))
                print(f"{n + 1}/{args.probes} {working[-1]}", file=sys.stderr, flush=True)
    return {"working": working, "ignored": ignored}


def report(found: dict[str, list[dict[str, Any]]]) -> str:
    """The table."""
    working, ignored = found["working"], found["ignored"]
    caught = sum(not each["passed"] for each in ignored)
    alarms = sum(not each["passed"] for each in working)
    alarms_by_text = sum(not each["texts_differ"] for each in working)
    by_texts = sum(not each["texts_differ"] for each in ignored)
    noises = [each["noise"] for each in working]
    lines = [
        f"{'':<24}{'ignored caught':>18}{'false alarms':>16}",
        f"{'log-probabilities':<24}{f'{caught} of {len(ignored)}':>18}{f'{alarms} of {len(working)}':>16}",
        f"{'greedy texts':<24}{f'{by_texts} of {len(ignored)}':>18}{f'{alarms_by_text} of {len(working)}':>16}",
        f"noise, nats a token: median {median(noises):.5f}, largest {max(noises):.5f}",
    ]
    for share in sorted({each.get("share", 1.0) for each in working}, reverse=True):
        effects = [each["effect"] for each in working if each.get("share", 1.0) == share]
        lines.append(f"effect at {share:g}: median {median(effects):.4f}, smallest {min(effects):.4f}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--probes", type=int, default=200)
    parser.add_argument("--noise", type=float, default=0.05, help="of the fake, in nats")
    parser.add_argument("--real", action="store_true")
    args = parser.parse_args(argv)
    machine = describe_machine()
    found = asyncio.run((on_vllm if args.real else on_fakes)(args))
    print(report(found))
    kept = {
        "machine": machine,
        "base": base_digest(BASE) if args.real else "",
        "probes": args.probes,
        **found,
    }
    name = "model_probe_vllm.json" if args.real else "model_probe.json"
    (OUT / name).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
