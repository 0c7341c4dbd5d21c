"""Question sets: what redaction finds and spares, whether clusters are what people meant, leaks found, and the time.

Redaction is measured on the public bank scenarios, which list name, phone, e-mail, birthday and address of customers
who do not exist: the share of those fields that is gone, of the order numbers in 5,000 public requests to a shop, and
of questions that hold nobody's data (the demo's 480, 6,452 public ones) that are touched. Beside it: the usual patterns alone (e-mail, ten digits, sixteen digits), which is what one
writes without number plans and checksums. Clusters: adjusted Rand index against the 77 intents of 1,000 public bank
questions (0 is chance), beside questions grouped by their rarest shared word. Leaks: 300 of those questions written
again with a typo, a swapped pair of words or small talk around them; the share found, and pairs found among
questions of different intents, beside comparing the words as they stand. Times are medians of five.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import statistics
import tempfile
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from math import comb
from pathlib import Path
from typing import Any

from bench.machine import describe_machine
from eval.sets.clustering import cluster
from eval.sets.command import run_freeze, run_split
from eval.sets.freezing import check_frozen
from eval.sets.importing import add_questions, save
from eval.sets.questions import QUESTIONS, Question, read_questions
from eval.settings import EvalSettings
from serving.redaction import Redactor
from serving.similarity import content_words, near_duplicates
from serving.spelling import tokens

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
RESULT = ROOT / "bench" / "results" / "eval_sets.json"
N, REPEATS, SEED = 1_000, 5, 7
FIELDS = re.compile(r"(Name|Phone|Email|DOB|Address)\*{0,2}: ([^|\n]+?)\s*(?:\||\n|$)")
#: In requests to a shop: numbers of orders, purchases and bills.
LONG_NUMBER = re.compile(r"\d{5,}")
NOBODYS = ("aws_docs", "mtrag_support", "concierge_faq")
PLAIN = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+|\b\d{3}[-. ]?\d{3}[-. ]?\d{4}\b|\b(?:\d[ -]?){16}\b")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def redaction() -> dict[str, Any]:
    scenarios = [row["text"] for row in rows(DATA / "bank_support" / "queries.jsonl")]
    demo = [
        row["text"] for file in sorted((ROOT / "deploy/demo/questions").glob("*.jsonl")) for row in rows(file)
    ]
    ours = Redactor(regions=("US", "AU"))
    ways: dict[str, Callable[[str], str]] = {
        "ours": lambda text: ours.redact(text).text,
        "patterns": lambda text: PLAIN.sub("[x]", text),
    }
    requests = [row["text"] for row in rows(DATA / "support_intents" / "bitext_requests.jsonl")]
    numbered = [text for text in requests if LONG_NUMBER.search(text)]
    nobody = [row["text"] for name in NOBODYS for row in rows(DATA / name / "queries.jsonl")]
    nobody += [row["text"] for row in rows(DATA / "support_intents" / "clinc_finance_oos.jsonl")]
    found: dict[str, Any] = {}
    for name, redact in ways.items():
        gone: Counter[str] = Counter()
        there: Counter[str] = Counter()
        for text in scenarios:
            clean = redact(text)
            for field, value in FIELDS.findall(text):
                there[field] += 1
                gone[field] += value not in clean
        found[name] = {
            "gone": {field: [gone[field], n] for field, n in there.items()},
            "all_gone": [gone.total(), there.total()],
            "demo_touched": [sum(redact(text) != text for text in demo), len(demo)],
            "order_numbers_gone": [
                sum(not LONG_NUMBER.search(redact(text)) for text in numbered),
                len(numbered),
            ],
            "nobodys_touched": [sum(redact(text) != text for text in nobody), len(nobody)],
        }
    return found


def rand_index(found: Sequence[object], meant: Sequence[object]) -> float:
    together = sum(comb(n, 2) for n in Counter(zip(found, meant, strict=True)).values())
    ours, theirs = (sum(comb(n, 2) for n in Counter(side).values()) for side in (found, meant))
    chance = ours * theirs / comb(len(found), 2)
    return (together - chance) / ((ours + theirs) / 2 - chance)


def by_rarest_word(texts: Sequence[str]) -> list[str]:
    words = [content_words(text) for text in texts]
    spread = Counter(word for row in words for word in set(row))
    shared = [[word for word in row if spread[word] > 1] for row in words]
    return [
        min(row, key=lambda word: (spread[word], word)) if row else str(at) for at, row in enumerate(shared)
    ]


def written_again(text: str, draw: random.Random) -> str:
    words = text.split()
    way = draw.randrange(3)
    if way == 0:
        at = max(range(len(words)), key=lambda n: len(words[n]))
        cut = draw.randrange(1, max(len(words[at]) - 1, 2))
        words[at] = words[at][:cut] + words[at][cut + 1 :]
    elif way == 1 and len(words) > 3:
        at = draw.randrange(len(words) - 1)
        words[at], words[at + 1] = words[at + 1], words[at]
    else:
        words = ["hi,", *words, "thanks"]
    return " ".join(words)


def leaks(bank: Sequence[dict[str, Any]]) -> dict[str, Any]:
    draw = random.Random(SEED)
    texts = [row["text"] for row in bank]
    chosen = draw.sample([at for at, text in enumerate(texts) if len(text.split()) >= 5], 300)
    again = [written_again(texts[at], draw) for at in chosen]
    pairs = {(pair.first, pair.second) for pair in near_duplicates([*texts, *again])}
    found = sum((at, len(texts) + n) in pairs for n, at in enumerate(chosen))
    plain = sum(tokens(texts[at]) == tokens(text) for at, text in zip(chosen, again, strict=True))
    among = [pair for pair in pairs if pair[1] < len(texts)]
    apart = sum(bank[first]["intent"] != bank[second]["intent"] for first, second in among)
    return {"found": [found, 300], "same_words": [plain, 300], "of_other_intents": [apart, len(among)]}


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Milliseconds as they pass, and of a core's work: the second says more where others work beside it."""
    passed, worked = [], []
    for _ in range(REPEATS):
        tokens.cache_clear()
        started, began = time.perf_counter(), time.process_time()
        work()
        passed.append((time.perf_counter() - started) * 1000)
        worked.append((time.process_time() - began) * 1000)
    return {"wall": statistics.median(passed), "cpu": statistics.median(worked)}


def times(bank: Sequence[dict[str, Any]]) -> Iterator[tuple[str, dict[str, float]]]:
    questions = [
        Question.model_validate({"id": f"q{n:04d}", "text": row["text"], "status": "answerable"})
        for n, row in enumerate(bank)
    ]
    settings = EvalSettings()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        path = Path(folder)
        imported = add_questions([], questions, redactor=Redactor())

        def split() -> None:
            options = Namespace(set=path, shares=None, seed=1, again=True, dry_run=False, json=True)
            asyncio.run(run_split(options, settings))

        def freeze() -> None:
            (path / "manifest.json").unlink(missing_ok=True)
            asyncio.run(run_freeze(Namespace(set=path, dry_run=False, json=True), settings))

        yield "import", timed(lambda: save(path, add_questions([], questions, redactor=Redactor())))
        save(path, imported)
        yield "split", timed(split)
        yield "freeze", timed(freeze)
        yield "load", timed(lambda: (check_frozen(path), read_questions(path / QUESTIONS)))


def main() -> None:
    machine = describe_machine()
    bank = random.Random(SEED).sample(rows(DATA / "support_intents" / "banking77_test.jsonl"), N)
    texts, meant = [row["text"] for row in bank], [row["intent"] for row in bank]
    ours = cluster(texts, [frozenset()] * N)
    result = {
        "machine": machine,
        "redaction": redaction(),
        "clusters": {
            "questions": N,
            "intents": len(set(meant)),
            "clusters": len(set(ours)),
            "rand_index": rand_index(ours, meant),
            "rand_index_rarest_word": rand_index(by_rarest_word(texts), meant),
        },
        "leaks": leaks(bank),
        "median_ms": dict(times(bank)),
    }
    for name, found in result["redaction"].items():
        (gone, there), (touched, demo) = found["all_gone"], found["demo_touched"]
        fields = ", ".join(f"{field} {k}/{n}" for field, (k, n) in found["gone"].items())
        print(
            f"redaction, {name:<9} {gone / there:6.1%} of {there} fields gone ({fields}); demo touched {touched}/{demo}"
        )
        (orders, numbered), (others, texts) = found["order_numbers_gone"], found["nobodys_touched"]
        print(f"{'':<20} order numbers gone {orders}/{numbered}; others' questions touched {others}/{texts}")
    clusters = result["clusters"]
    print(
        f"clusters: Rand index {clusters['rand_index']:.2f}, by rarest word {clusters['rand_index_rarest_word']:.2f} "
        f"({clusters['clusters']} clusters of {N} questions, {clusters['intents']} intents)"
    )
    found = result["leaks"]
    print(
        f"leaks: {found['found'][0]} of 300 rewritten questions found, same words {found['same_words'][0]}; "
        f"{found['of_other_intents'][0]} of {found['of_other_intents'][1]} other pairs have different intents"
    )
    for name, ms in result["median_ms"].items():
        print(f"{name:<7} {ms['wall']:7.0f} ms for {N} questions, {ms['cpu']:.0f} of a core")
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
