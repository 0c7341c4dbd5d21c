"""Which questions the hand-over rules pass to a person: those that need one, and those that do not.

    make bench-handover ARGS="--rules FILE --show"

Over the demo's questions by split, whose labels say who needs a person; beside the tuned model's own habit, from
its recorded dev drafts. The examples of the packaged rules were written while looking at train and dev, so only
holdout and `bench/unseen` say how they do on questions that nobody looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.machine import describe_machine
from gateway.handover import DEFAULT_RULES, Handover, Match, load_rules
from retrieval.embedding import OnnxEmbedder, prepare_minilm

REPOSITORY = Path(__file__).parent.parent
QUESTIONS = REPOSITORY / "deploy/demo/questions"
UNSEEN = REPOSITORY / "bench/unseen"
#: Drafts of the shipped adapter on the dev questions, before any rule.
DRAFTS = REPOSITORY / "bench/tuned/fifteenth_try.jsonl"
#: Messages of a reviewer who tried to make the rules call for a person without need; ten of them have an ordinary
#: example by now, so what they show is what is left.
NEAR_MISSES = (
    "My phone wasn't stolen, I just want to sign out of it",
    "I do not want to speak to a human, just tell me the price",
    "I won't sue you, I just want to know the refund window",
    "My hard disk died, how do I restore everything?",
    "I got a new card, how do I pay this invoice?",
    "I lost my key, can I get a new one?",
    "There is a charge on my card from last month, where do I see the invoice?",
    "Can I call you?",
    "What should I do if my phone is stolen?",
    "Which police records do you keep for court?",
    "Do you share data with the police?",
    "Where do I find the contact of your legal department?",
    "What is your policy on lawsuits?",
    "Can a person who left the company still open shared links?",
    "How do I remove someone who left from our plan?",
    "I was charged twice, why?",
    "My photos are not showing up on my phone",
    "My files disappeared from the folder after I renamed it",
    "I need help from someone",
    "Do you protect me from ransomware?",
    "How does ransomware recovery work?",
    "how do i stop my brother seeing my files",
    "Do I get compensation if the service is down?",
    "My son deleted my folder, how do I get it back?",
    "Is my data safe if somebody hacks you?",
    "I want a refund for my yearly plan",
    "Please refund me, I cancelled yesterday.",
    "I deleted a file yesterday, how do I get it back?",
)


def read_sets() -> dict[str, list[dict[str, Any]]]:
    """Questions by split; those of `bench/unseen` by themselves."""
    rows = [json.loads(line) for file in sorted(QUESTIONS.glob("*.jsonl")) for line in file.open("rb")]
    sets = {split: [row for row in rows if row["split"] == split] for split in ("train", "dev", "holdout")}
    unseen = [json.loads(line) for file in sorted(UNSEEN.glob("*.jsonl")) for line in file.open("rb")]
    return sets | ({"unseen": unseen} if unseen else {})


def compare(rows: Sequence[Mapping[str, Any]], found: Mapping[str, str | None]) -> dict[str, int]:
    """Counts over the questions: `found` holds the reason for which each is passed on, None where it is not."""
    needing = [row for row in rows if row["status"] == "escalated"]
    others = [row for row in rows if row["status"] != "escalated"]
    return {
        "needing": len(needing),
        "passed_on": sum(found[row["id"]] is not None for row in needing),
        "with_the_right_reason": sum(found[row["id"]] == row["escalation_reason"] for row in needing),
        "others": len(others),
        "passed_on_without_need": sum(found[row["id"]] is not None for row in others),
    }


async def measure(
    handover: Handover, sets: Mapping[str, Sequence[Mapping[str, Any]]], *, show: bool
) -> dict[str, Any]:
    """Counts by set, and the time that the rules take."""
    results: dict[str, Any] = {}
    seconds: list[float] = []
    for name, rows in sets.items():
        found: dict[str, Match | None] = {}
        for row in rows:
            began = time.perf_counter()
            found[row["id"]] = await handover.find(row["text"])
            seconds.append(time.perf_counter() - began)
        results[name] = compare(rows, {id_: match.reason if match else None for id_, match in found.items()})
        print(_line(f"rules, {name}", results[name]))
        if show:
            _show(rows, found)
    near = [message for message in NEAR_MISSES if await handover.find(message)]
    results["near_misses"] = {"messages": len(NEAR_MISSES), "passed_on": len(near)}
    print(f"rules, near misses: passed on {len(near)} of {len(NEAR_MISSES)} without need")
    if show:
        print("\n".join(f"  {message}" for message in near))
    results["milliseconds"] = {
        "median": round(median(seconds) * 1000, 1),
        "p95": round(sorted(seconds)[int(0.95 * len(seconds))] * 1000, 1),
    }
    print("time of a question, ms:", results["milliseconds"])
    return results


def own_habit(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The same counts for what the model decides alone."""
    found: dict[str, str | None] = {row["id"]: None for row in rows}
    for line in DRAFTS.open("rb"):
        draft = json.loads(line)
        fields = json.loads(draft["text"])
        if fields["escalate"] and fields["escalation_reason"] != "not_in_help_centre":
            found[draft["id"]] = fields["escalation_reason"]
    return compare(rows, found)


def _line(name: str, counts: Mapping[str, int]) -> str:
    return (
        f"{name}: passed on {counts['passed_on']} of {counts['needing']} that need a person "
        f"(right reason {counts['with_the_right_reason']}), "
        f"{counts['passed_on_without_need']} of {counts['others']} others"
    )


def _show(rows: Sequence[Mapping[str, Any]], found: Mapping[str, Match | None]) -> None:
    for row in rows:
        match = found[row["id"]]
        if (match is not None) != (row["status"] == "escalated"):
            told = f"{match.reason} {match.closeness:.2f}, like: {match.like}" if match else "not passed on"
            print(f"  {row['id']} ({row['escalation_reason']}): {row['text'][:160]} -> {told}")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; `--out` keeps the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rules", type=Path, default=DEFAULT_RULES, help="a rule file of your own")
    parser.add_argument("--embedder", type=Path, help="folder of the prepared MiniLM")
    parser.add_argument("--splits", nargs="*", help="only these: train, dev, holdout, unseen")
    parser.add_argument("--show", action="store_true", help="print what is decided otherwise than labelled")
    parser.add_argument("--out", type=Path, help="JSON file")
    arguments = parser.parse_args(argv)
    folder = arguments.embedder or REPOSITORY / ".twinrail/bench/minilm"
    if not folder.exists():
        prepare_minilm(folder)
    sets = {
        name: rows for name, rows in read_sets().items() if not arguments.splits or name in arguments.splits
    }

    async def run() -> dict[str, Any]:
        embedder = OnnxEmbedder(folder)
        handover = await Handover.of(embedder, load_rules(arguments.rules))
        return await measure(handover, sets, show=arguments.show)

    results: dict[str, Any] = {"rules": asyncio.run(run())}
    if "dev" in sets:
        results["model_alone_dev"] = own_habit(sets["dev"])
        print(_line("the tuned model alone, dev", results["model_alone_dev"]))
    if arguments.out:
        arguments.out.write_text(json.dumps({"machine": describe_machine(), **results}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
