"""Time from `promote` to the first answer of the new version, of `undo`, and answers lost, on three replicas.

    python -m bench.model_release [--rounds 5] [--readers 4]
    python -m bench.model_release --real 2 --rounds 2     # two of the three are vLLM on the base model

Readers ask all the time. Each round stages the other version, waits until all three engines have loaded and shown it, moves
the pointer, and takes the move back. Beside it stands what a promotion without that wait does: the pointer is moved while no
engine has the version, as `--force` does, and the reconciler loads it afterwards. A lost answer is one that ended in an error.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.engines.stand import Stand, median, stand
from bench.machine import describe_machine
from serving.reconciling import ReconcilerLimits
from serving.versions import RegisteredVersion

OUT = Path(__file__).with_name("results")


async def released(rail: Stand, version: RegisteredVersion) -> dict[str, float]:
    """One promotion, its undo, and what was lost meanwhile; leaves the rail as it was, the adapter unloaded."""
    before = (await rail.registry.pointer()).stable
    lost = _lost(rail)
    began = time.monotonic()
    await rail.roster.stage(version.id, by="bench")
    await rail.routable(version)
    shown = time.monotonic()
    await rail.registry.promote(version.id)
    await rail.roster.unstage(version.id)
    moved = time.monotonic()
    first = await rail.first_answer(version.id, after=began)
    await asyncio.sleep(2)
    undoing = time.monotonic()
    await rail.registry.undo()
    undone = time.monotonic()
    back = await rail.first_answer(before, after=undone)
    await asyncio.sleep(2)
    return {
        "staged_to_shown_s": shown - began,
        "pointer_ms": 1000 * (moved - shown),
        "promote_to_first_answer_s": first - began,
        "moved_to_first_answer_s": first - moved,
        "undo_ms": 1000 * (undone - undoing),
        "undo_to_first_answer_s": back - undoing,
        "lost": _lost(rail) - lost,
    }


async def forced(rail: Stand, version: RegisteredVersion) -> dict[str, float]:
    """The pointer first, the adapter afterwards."""
    lost = _lost(rail)
    began = time.monotonic()
    await rail.registry.promote(version.id)
    first = await rail.first_answer(version.id, after=began)
    await asyncio.sleep(2)
    return {"promote_to_first_answer_s": first - began, "lost": _lost(rail) - lost}


def _lost(rail: Stand) -> int:
    return sum(1 for answer in rail.answers if answer.error)


async def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All rounds."""
    limits = ReconcilerLimits(evict_after_s=0.5)
    async with stand(fakes=3 - args.real, real=args.real, tuned=1 + 2 * args.rounds, limits=limits) as rail:
        first, *others = rail.versions
        await rail.release(first)
        async with rail.load(readers=args.readers, pause_s=0.02):
            await rail.first_answer(first.id, after=time.monotonic())
            staged = [await released(rail, version) for version in others[: args.rounds]]
            answers = len(rail.answers)
        async with rail.load(readers=args.readers, pause_s=0.02):
            naive = [await forced(rail, version) for version in others[args.rounds :]]
        texts = {version.id: await rail.write(version.id) for version in [*rail.versions[-1:]]}
    return {
        "replicas": {"fake": 3 - args.real, "vllm": args.real},
        "rounds": args.rounds,
        "readers": args.readers,
        "answers": answers,
        "staged": staged,
        "forced": naive,
        "last_text": texts,
    }


def report(found: dict[str, Any]) -> str:
    """The table."""
    names = (
        "staged_to_shown_s",
        "pointer_ms",
        "promote_to_first_answer_s",
        "undo_ms",
        "undo_to_first_answer_s",
    )
    lines = [f"{found['replicas']}, {found['readers']} readers, {found['answers']} answers", ""]
    lines += [f"{name:<28} {median([each[name] for each in found['staged']]):>9.3f}" for name in names]
    ours = sum(each["lost"] for each in found["staged"])
    theirs = sum(each["lost"] for each in found["forced"])
    wait = median([each["promote_to_first_answer_s"] for each in found["forced"]])
    lines.append(f"{'answers lost':<28} {ours:>9}   forced, without the wait: {theirs}")
    lines.append(f"{'forced: to first answer s':<28} {wait:>9.3f}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument(
        "--real", type=int, default=0, choices=(0, 1, 2, 3), help="how many replicas are vLLM"
    )
    args = parser.parse_args(argv)
    machine = describe_machine()
    found = {"machine": machine, **asyncio.run(measure(args))}
    print(report(found))
    name = "model_release_vllm.json" if args.real else "model_release.json"
    (OUT / name).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 1 if sum(each["lost"] for each in found["staged"]) else 0


if __name__ == "__main__":
    sys.exit(main())
