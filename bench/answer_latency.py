"""How long a demo answer takes on this machine, and which stage takes it.

    python -m bench.answer_latency [--url URL] [--key KEY] [--questions N] [--split holdout]

Asks a running stack (`make up`) one question after the other, streamed, with the customer's key, each in a conversation of its own. Printed are the
medians over answers that a model wrote, and beside them the ratio to the generation stage alone: what the rest of the path costs. Abstained
questions, which never reach the model, are counted apart. Writes `bench/results/answer_latency.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bench.machine import describe_machine

RESULTS = Path(__file__).parent / "results" / "answer_latency.json"
QUESTIONS = Path(__file__).parents[1] / "deploy" / "demo" / "questions"
STAGES = ("assign", "retrieval", "assemble", "generation", "verify", "overhead")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One question as its client saw it, with the server's own timings."""

    status: str
    first_sentence_s: float
    total_s: float
    prompt_tokens: int
    output_tokens: int
    timings_ms: dict[str, float]


async def ask(session: aiohttp.ClientSession, url: str, key: str, question: str) -> Answered:
    """Stream one answer."""
    started = time.monotonic()
    first = 0.0
    body: dict[str, Any] = {}
    headers = {"authorization": f"Bearer {key}", "accept": "text/event-stream"}
    async with session.post(
        f"{url}/v1/answers", json={"question": question, "stream": True}, headers=headers
    ) as reply:
        if reply.status != 200:
            raise SystemExit(f"{url}: {reply.status} {await reply.text()}")
        event = ""
        async for line in reply.content:
            text = line.decode().rstrip("\n")
            if text.startswith("event: "):
                event = text[7:]
            elif text.startswith("data: ") and event == "answer.delta" and not first:
                first = time.monotonic() - started
            elif text.startswith("data: ") and event == "answer.completed":
                body = json.loads(text[6:])
    total = time.monotonic() - started
    usage = body.get("usage") or {}
    return Answered(
        status=body["status"],
        first_sentence_s=first or total,
        total_s=total,
        prompt_tokens=usage.get("input_tokens", usage.get("prompt_tokens", 0)),
        output_tokens=usage.get("output_tokens", usage.get("completion_tokens", 0)),
        timings_ms=body["timings_ms"],
    )


def read_questions(split: str, count: int) -> list[str]:
    """Customers' questions of one split, spread over its topics."""
    rows = [
        json.loads(line)
        for path in sorted(QUESTIONS.glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    texts = [row["text"] for row in rows if row["split"] == split and row["asker"] == "customer"]
    return texts[:: max(1, len(texts) // count)][:count]


async def run(arguments: argparse.Namespace) -> None:
    """Ask, print, write."""
    questions = read_questions(arguments.split, arguments.questions)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session:
        await ask(session, arguments.url, arguments.key, questions[0])
        answers = []
        for done, question in enumerate(questions, 1):
            answers.append(await ask(session, arguments.url, arguments.key, question))
            print(f"\r{done}/{len(questions)} questions", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
    written = [answer for answer in answers if answer.output_tokens]
    if not written:
        raise SystemExit("no answer was written by a model; is the stack ready? (`twinrail status`)")
    median = statistics.median
    generation = median(answer.timings_ms.get("generation", 0.0) for answer in written)
    summary: dict[str, Any] = {
        "questions": len(answers),
        "written_by_a_model": len(written),
        "statuses": {
            status: sum(answer.status == status for answer in answers)
            for status in sorted({answer.status for answer in answers})
        },
        "first_sentence_s": median(answer.first_sentence_s for answer in written),
        "whole_answer_s": median(answer.total_s for answer in written),
        "whole_answer_p90_s": sorted(answer.total_s for answer in written)[int(0.9 * (len(written) - 1))],
        "prompt_tokens": median(answer.prompt_tokens for answer in written),
        "prompt_tokens_most": max(answer.prompt_tokens for answer in written),
        "output_tokens": median(answer.output_tokens for answer in written),
        "stages_ms": {
            name: median(answer.timings_ms.get(name, 0.0) for answer in written) for name in STAGES
        },
        "whole_to_generation": median(answer.total_s * 1000 for answer in written) / generation,
    }
    print(f"{len(written)} of {len(answers)} answers were written by a model; {summary['statuses']}")
    print(f"first sentence  {summary['first_sentence_s']:6.2f} s at the median (aim 4)")
    print(
        f"whole answer    {summary['whole_answer_s']:6.2f} s at the median, {summary['whole_answer_p90_s']:.2f} s at p90 (aim 8)"
    )
    print(
        f"prompt          {summary['prompt_tokens']:6.0f} tokens at the median, {summary['prompt_tokens_most']} at most (aim 700)"
    )
    print(f"answer          {summary['output_tokens']:6.0f} tokens")
    for name, spent in summary["stages_ms"].items():
        print(f"  {name:12}  {spent:8.1f} ms  {spent / (summary['whole_answer_s'] * 1000):6.1%}")
    print(f"whole answer / generation alone: {summary['whole_to_generation']:.3f}")
    RESULTS.parent.mkdir(exist_ok=True)
    record = {
        "machine": describe_machine(),
        "summary": summary,
        "answers": [asdict(answer) for answer in answers],
    }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")


def main() -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default=os.environ.get("TWINRAIL_URL", "http://127.0.0.1:8080"))
    parser.add_argument(
        "--key", help="an API key with scope ask (default: the customer's, from TWINRAIL_HOME)"
    )
    parser.add_argument("--questions", type=int, default=30)
    parser.add_argument("--split", default="holdout")
    arguments = parser.parse_args()
    if arguments.key is None:
        home = Path(os.environ.get("TWINRAIL_HOME", Path.home() / ".twinrail"))
        arguments.key = json.loads((home / "keys.json").read_text())["customer"]
    asyncio.run(run(arguments))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
