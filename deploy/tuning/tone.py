"""Training rows of public support replies: a bank's questions with their articles, and small talk.

    python -m deploy.tuning.tone --data ../shared/data/support_tone --embedder DIR --tokenizer FILE \
        --out deploy/demo/training/support_tone.jsonl

Their own replies are not taught: an answer quotes its article as the demo's rows do, and small talk gets the
fixed wording. What they add is another trade, and messages that ask nothing. Taken is only what is under the
MIT licence, and no reviews of hotels, most of that set: a guest's "I was disappointed" is no answer of a help
centre. The bank's articles are those of a retrieval set too (deploy/demo/training/NOTICE.md).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from deploy.tuning.rows import RowBuilder, read_left_out, write_rows
from gateway.citations import Source
from gateway.highlighting import Highlighter
from retrieval.embedding import OnnxEmbedder
from serving.prompting import PROMPTS, Passage, load_prompt, token_counter
from serving.sentences import sentences
from serving.wording import load_wording

_BANK: Final = "tau2-bench banking FAQ"
_HEADING: Final = re.compile(r"^#+ .*$", re.MULTILINE)
#: A shorter sentence is no fact.
_SHORTEST_FACT: Final = 12
#: Other articles that a question is asked beside.
_BESIDE: Final = 2
#: Intents of the bank's questions by number (deploy/demo/README.md, Intents); the others are `billing`.
_INTENTS: Final = {
    "how_to": {53},
    "limits": {15, 19, 22, 39, 48, 60, 61, 64, 65, 67, 72, 78},
    "policy": {49, 69},
    "security": {54},
    "technical": {14, 40, 43, 52, 56, 57},
}


def questions_of(
    rows: Sequence[Mapping[str, Any]], *, small_talk: int, seed: int
) -> Iterator[dict[str, Any]]:
    """As the demo's questions are written: the bank's, and some small talk that needs no earlier message."""
    for row in rows:
        if row["source"] == _BANK:
            text, answer = _plain(row["contexts"][0]["text"]), str(row["answer"])
            told = [answer[span.start : span.end] for span in sentences(answer)]
            fact = next((each for each in told if len(each) > _SHORTEST_FACT and each in text), None)
            if fact is not None:
                yield _question(row, status="answered", facts=[[fact.rstrip(".")]], intent=_intent(row["id"]))
    talk = [row for row in rows if row["behaviour"] == "chitchat" and not row["history"]]
    for row in random.Random(seed).sample(talk, min(small_talk, len(talk))):
        yield _question(row, status="abstained", facts=[], intent="off_topic")


async def build(arguments: argparse.Namespace) -> int:
    """Write the rows; returns how many."""
    lines = (arguments.data / "train.jsonl").read_text(encoding="utf-8").splitlines()
    given = {row["id"]: row for row in map(json.loads, lines) if row["license"] == "MIT"}
    articles = {
        context["title"]: context
        for row in given.values()
        if row["source"] == _BANK
        for context in row["contexts"]
    }
    builder = RowBuilder(
        load_prompt(PROMPTS / "support_sentences.yaml"),
        token_counter(arguments.tokenizer),
        budget_tokens=arguments.budget_tokens,
        seed=arguments.seed,
    )
    highlighter, left_out = Highlighter(OnnxEmbedder(arguments.embedder)), read_left_out()
    rows: list[dict[str, Any]] = []
    for question in questions_of(list(given.values()), small_talk=arguments.small_talk, seed=arguments.seed):
        own = given[question["id"]]["contexts"]
        others = [context for context in articles.values() if context not in own]
        beside = random.Random(question["id"]).sample(others, _BESIDE + (not own))
        shown = [_source(n, context) for n, context in enumerate([*own, *beside], 1)]
        made = builder.rows(question, await highlighter.rank(question["text"], shown))
        # It is another company as it is.
        rows += [row for row in made if row["kind"] != "disguised" and row["id"] not in left_out]
    write_rows(rows, arguments.out)
    return len(rows)


def _question(row: Mapping[str, Any], *, status: str, facts: list[list[str]], intent: str) -> dict[str, Any]:
    return {
        "id": row["id"],
        "text": row["question"],
        "kind": "answerable" if facts else "off_topic",
        "facts": facts,
        "status": status,
        "intent": intent,
        "escalate": False,
        "escalation_reason": "none",
        "answer": str(row["answer"]) if facts else load_wording().off_topic,
    }


def _intent(row_id: str) -> str:
    number = int(row_id.rsplit("_", 1)[1])
    return next((name for name, numbers in _INTENTS.items() if number in numbers), "billing")


def _plain(text: str) -> str:
    return _HEADING.sub(lambda heading: heading[0].lstrip("# "), text)


def _source(n: int, context: Mapping[str, str]) -> Source:
    text = _plain(context["text"])
    passage = Passage(n=n, title=context["title"], text=text, start=0, end=len(text))
    return Source(passage=passage, hit=None, given=n)


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments and build."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of support_tone")
    parser.add_argument("--embedder", type=Path, required=True, help="folder of the prepared MiniLM")
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json of the base model")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget-tokens", type=int, default=300, help="whole prompt")
    parser.add_argument("--small-talk", type=int, default=24, help="rows of small talk")
    parser.add_argument("--seed", type=int, default=11)
    arguments = parser.parse_args(argv)
    print(f"{asyncio.run(build(arguments))} rows in {arguments.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
