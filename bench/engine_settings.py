"""What vLLM's CPU settings cost: boot, prefill, decode and throughput, one variant after the other on the same prompts.

    python -m bench.engine_settings --model DIR [--adapter DIR] [--merged DIR] [--only NAME ...]

Each variant boots an engine of its own on loopback, is warmed up, and answers the same prompts; numbers are medians of five
(prefill, decode) and of three (eight at once). Ratios are against the first variant of the same run. Writes
`bench/results/engine_settings.json` after each variant, so that an interrupted run keeps what it has.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from bench.machine import describe_machine
from deploy.ports import free_port

RESULTS = Path(__file__).parent / "results" / "engine_settings.json"
#: About 80 tokens that every prompt shares, as the fixed head of a model version does.
HEAD = "You answer customers from our help centre, using only the numbered passages. Write JSON. " * 4
FILLER = "The plan keeps deleted files for sixty days and lets six devices share the same folder at once. "
OUTPUT_TOKENS = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to run the engine."""

    name: str
    arguments: tuple[str, ...] = ("--enforce-eager", "--dtype", "bfloat16")
    environment: dict[str, str] = field(default_factory=dict)
    #: Which weights: `base`, `merged` or `adapter`.
    weights: str = "base"


ALL_CORES = {"VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}
VARIANTS = (
    Variant(name="eager, one core kept back (vLLM's default)"),
    Variant(name="eager, all cores", environment=ALL_CORES),
    Variant(
        name="eager, all cores, threads not bound",
        environment=ALL_CORES | {"VLLM_CPU_OMP_THREADS_BIND": "nobind"},
    ),
    Variant(
        name="eager, all cores, threads that wait without spinning",
        environment=ALL_CORES | {"OMP_WAIT_POLICY": "PASSIVE"},
    ),
    Variant(
        name="eager, all cores, float32",
        arguments=("--enforce-eager", "--dtype", "float32"),
        environment=ALL_CORES,
    ),
    Variant(
        name="eager, all cores, prefix cache off",
        arguments=("--enforce-eager", "--dtype", "bfloat16", "--no-enable-prefix-caching"),
        environment=ALL_CORES,
    ),
    Variant(name="compiled, all cores", arguments=("--dtype", "bfloat16"), environment=ALL_CORES),
    Variant(name="merged weights, eager, all cores", environment=ALL_CORES, weights="merged"),
    Variant(name="adapter in use, eager, all cores", environment=ALL_CORES, weights="adapter"),
)


async def boot(
    variant: Variant, weights: Path, adapter: Path | None, port: int
) -> tuple[asyncio.subprocess.Process, float]:
    """Start the engine and wait until it answers; returns the process and the seconds it took."""
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(weights), "--served-model-name", "bench-base",
        "--host", "127.0.0.1", "--port", str(port), "--max-model-len", "2048", "--max-num-seqs", "8", *variant.arguments,
    ]  # fmt: skip
    if variant.weights == "adapter":
        command += ["--enable-lora", "--max-lora-rank", "16", "--lora-modules", f"bench={adapter}"]
    else:
        command += ["--served-model-name", "bench"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "2"} | variant.environment
    log = (Path(tempfile.gettempdir()) / f"engine_settings_{port}.log").open("wb")
    started = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=log, stderr=log, start_new_session=True
    )
    async with aiohttp.ClientSession() as session:
        while time.monotonic() - started < 400:
            if process.returncode is not None:
                raise SystemExit(f"{variant.name}: vLLM ended with {process.returncode}, see {log.name}")
            try:
                async with session.get(f"http://127.0.0.1:{port}/health") as reply:
                    if reply.status == 200:
                        return process, time.monotonic() - started
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.5)
    raise SystemExit(f"{variant.name}: not ready in 400 s, see {log.name}")


@dataclass(frozen=True, slots=True)
class Timing:
    """One answer: seconds to the first token, seconds in all, tokens in and out."""

    first_s: float
    total_s: float
    prompt_tokens: int
    output_tokens: int


async def ask(session: aiohttp.ClientSession, port: int, words: str) -> Timing:
    """Stream one answer of exactly OUTPUT_TOKENS tokens."""
    body = {
        "model": "bench", "stream": True, "stream_options": {"include_usage": True}, "max_tokens": OUTPUT_TOKENS,
        "temperature": 0, "ignore_eos": True,
        "messages": [{"role": "system", "content": HEAD}, {"role": "user", "content": words}],
    }  # fmt: skip
    started = time.monotonic()
    first = 0.0
    usage: dict[str, int] = {}
    async with session.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body) as reply:
        reply.raise_for_status()
        async for line in reply.content:
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[6:])
            if chunk.get("choices") and chunk["choices"][0]["delta"].get("content") and not first:
                first = time.monotonic() - started
            usage = chunk.get("usage") or usage
    return Timing(first, time.monotonic() - started, usage["prompt_tokens"], usage["completion_tokens"])


async def measure(port: int) -> dict[str, float]:
    """Medians for one engine that is up."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=600)) as session:
        await ask(session, port, "warm up " + FILLER * 20)
        singles = [await ask(session, port, f"Case {n}. " + FILLER * 24) for n in range(5)]
        bursts = []
        for burst in range(3):
            started = time.monotonic()
            replies = await asyncio.gather(
                *(ask(session, port, f"Burst {burst} case {n}. " + FILLER * 12) for n in range(8))
            )
            bursts.append(sum(reply.output_tokens for reply in replies) / (time.monotonic() - started))
    return {
        "prompt_tokens": statistics.median(reply.prompt_tokens for reply in singles),
        "first_token_s": statistics.median(reply.first_s for reply in singles),
        "prefill_tokens_per_s": statistics.median(reply.prompt_tokens / reply.first_s for reply in singles),
        "decode_tokens_per_s": statistics.median(
            (reply.output_tokens - 1) / (reply.total_s - reply.first_s) for reply in singles
        ),
        "answer_s": statistics.median(reply.total_s for reply in singles),
        "eight_at_once_tokens_per_s": statistics.median(bursts),
    }


async def run(arguments: argparse.Namespace) -> None:
    """Measure every chosen variant and print the table as it grows."""
    paths = {"base": arguments.model, "merged": arguments.merged, "adapter": arguments.model}
    results: dict[str, dict[str, float]] = {}
    print(
        f"{'variant':45} {'boot s':>7} {'prefill':>8} {'decode':>7} {'8 at once':>9} {'answer s':>8} {'ratio':>6}"
    )
    for variant in VARIANTS:
        chosen = not arguments.only or any(word in variant.name for word in arguments.only)
        if (
            not chosen
            or paths[variant.weights] is None
            or (variant.weights == "adapter" and arguments.adapter is None)
        ):
            continue
        port = free_port()
        process, boot_s = await boot(variant, paths[variant.weights], arguments.adapter, port)
        try:
            figures = {"boot_s": boot_s} | await measure(port)
        finally:
            os.killpg(process.pid, 15)
            await process.wait()
        results[variant.name] = figures
        ratio = figures["answer_s"] / next(iter(results.values()))["answer_s"]
        print(
            f"{variant.name:45} {boot_s:7.0f} {figures['prefill_tokens_per_s']:8.0f} {figures['decode_tokens_per_s']:7.1f} "
            f"{figures['eight_at_once_tokens_per_s']:9.0f} {figures['answer_s']:8.2f} {ratio:6.2f}",
            flush=True,
        )
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps({"machine": describe_machine(), "variants": results}, indent=1) + "\n")


def main() -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of the base model")
    parser.add_argument("--merged", type=Path, help="folder of the merged tuned model")
    parser.add_argument("--adapter", type=Path, help="folder of the adapter")
    parser.add_argument("--only", nargs="*", help="measure only variants whose name holds one of these words")
    asyncio.run(run(parser.parse_args()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
