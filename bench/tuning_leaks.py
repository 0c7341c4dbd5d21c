"""`twinrail tune dataset`: what its checks catch of what was planted, what they take from clean rows, and the time.

Duplicates, leaks between splits, facts without support and personal data are planted in rows of the demo (answers that
are sentences of its articles) and in replies that people wrote (`support_tone`); each check stands beside the simpler
one that it replaces: equal text, values only, the usual patterns. The public set's own split, by dialogue and page, is
then held against the leak test, and the whole program is timed on 5,000 rows: public questions over public pages.
"""

from __future__ import annotations

import json
import random
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.machine import describe_machine
from serving.examples import Row, check_row, parse_row, read_rows
from serving.redaction import Redactor
from serving.seeded_faults import add_claim, flip_negation, swap_value
from serving.sentences import sentences
from serving.tuning import cleaning
from serving.tuning.cleaning import Cleaned, Rules
from serving.tuning.dataset import Inputs, Settings, build, write
from serving.tuning.leaks import find_leaks
from serving.tuning.likeness import Task
from serving.tuning.splitting import split_rows
from serving.versions import SCHEMAS, load_task_schema
from serving.wording import load_wording

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
RESULT = ROOT / "bench" / "results" / "tuning_leaks.json"
SCHEMA = load_task_schema(SCHEMAS / "support_answer.json")
#: People's replies are longer than the demo's.
FREE = {**SCHEMA, "properties": {**SCHEMA["properties"], "answer": {"type": "string"}}}
WORDING = load_wording()
TASK = Task(schema=FREE, wordings=WORDING.all())
RULES = Rules(task=TASK, redactor=Redactor())
PLANTED, LOAD, SEED = 200, 5_000, 11
PATTERNS = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+|\b\d{3}[-. ]?\d{3}[-. ]?\d{4}\b|\b(?:\d[ -]?){16}\b")
Change = Callable[[str, random.Random], str]


# ---- rows --------------------------------------------------------------------------------------------


def demo_rows() -> list[Row]:
    """Answered rows of the demo, one a question."""
    rows = read_rows(ROOT / "deploy" / "demo" / "training" / "support.jsonl", FREE)
    answered = [row for row in rows if row.wanted["citations"] and row.wanted["answer"] not in TASK.wordings]
    return list({row.question: row for row in answered}.values())


def lines_of(path: Path) -> list[Any]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def people_rows(name: str) -> list[Row]:
    """Replies over snippets, written by people."""
    raw = lines_of(DATA / "support_tone" / f"{name}.jsonl")
    return [
        parse_row(
            {
                "id": each["id"],
                "question": each["question"],
                "history": each["history"],
                "passages": [{"title": p["title"], "text": p["text"]} for p in each["contexts"][:8]],
                "wanted": wanted(each["answer"], list(range(1, min(len(each["contexts"]), 4) + 1))),
                "group": each["group"],
            },
            each["id"],
            FREE,
        )
        for each in raw
        if each["behaviour"] == "grounded_answer" and each["contexts"]
    ]


def wanted(answer: str, citations: list[int]) -> dict[str, Any]:
    return {
        "answer": answer, "citations": citations, "intent": "how_to", "escalate": False,
        "escalation_reason": "none", "follow_up": "",
    }  # fmt: skip


# ---- ways to say the same again ------------------------------------------------------------------------


def typo(text: str, chance: random.Random) -> str:
    words = text.split()
    long = [at for at, word in enumerate(words) if len(word) >= 5 and word.isalpha()]
    if not long:
        return text + "?"
    at = chance.choice(long)
    cut = chance.randrange(1, len(words[at]) - 1)
    words[at] = words[at][:cut] + words[at][cut + 1 :]
    return " ".join(words)


def reordered(text: str, chance: random.Random) -> str:
    words = text.rstrip("?!. ").split()
    cut = chance.randrange(1, len(words)) if len(words) > 1 else 0
    return " ".join((*words[cut:], *words[:cut]))


TEMPLATES = (
    "Could you please tell me: {}",
    "Hi there, {} Thanks!",
    "I would like to know this: {}",
    "{} please help me",
)
WAYS: Mapping[str, Change] = {
    "exact": lambda text, _: text,
    "case and signs": lambda text, _: text.upper().rstrip("?!.") + " ?!",
    "typo": typo,
    "reordered": reordered,
    "template": lambda text, chance: chance.choice(TEMPLATES).format(text),
}


def normalised(row: Row) -> str:
    return " ".join(row.question.casefold().split())


def duplicates(rows: Sequence[Row]) -> dict[str, Any]:
    """Copies of rows, asked in another way: caught if the copy or its original is left out."""
    found: dict[str, Any] = {}
    for way, change in WAYS.items():
        chance = random.Random(f"{SEED}:{way}")
        sources = chance.sample(list(rows), min(PLANTED, len(rows)))
        copies = {
            f"planted-{n}": replace(row, id=f"planted-{n}", question=change(row.question, chance))
            for n, row in enumerate(sources)
        }
        cleaned = Cleaned(rows=[*rows, *copies.values()])
        cleaning.drop_duplicates(cleaned, RULES)
        caught = {str(each.row["id"]) for each in cleaned.rejected} & copies.keys()
        equal = {normalised(row) for row in rows}
        found[way] = {
            "planted": len(copies),
            "caught": len(caught),
            "equal_text": sum(normalised(copy) in equal for copy in copies.values()),
        }
    cleaned = Cleaned(rows=list(rows))
    cleaning.drop_duplicates(cleaned, RULES)
    found["clean rows left out"] = {"rows": len(rows), "left_out": len(rows) - len(cleaned.rows)}
    return found


def leaks(rows: Sequence[Row]) -> dict[str, Any]:
    """Rows of the test that were put into training as well, in every way that rows can belong together."""
    split = split_rows(rows, {"train": 0.6, "valid": 0.1, "test": 0.3}, task=TASK, seed=SEED)
    before = find_leaks(split.rows, task=TASK)
    others = [row for row in rows if row.passages]
    chance = random.Random(SEED)

    def stranger(row: Row, n: int) -> Row:
        """Another question over other passages."""
        other = chance.choice(others)
        return replace(
            other, id=f"planted-{n}", question=f"{n} {chance.random()}", group="", customer="", cluster=""
        )

    def planted(way: str, row: Row, n: int) -> tuple[Row, Row]:
        if way in WAYS:
            return row, replace(
                stranger(row, n), question=WAYS[way](row.question, chance), history=row.history
            )
        if way == "answer of the same passage":
            return row, replace(
                row, id=f"planted-{n}", question=f"{n} {chance.random()}", group="", history=()
            )
        return replace(row, **{way: f"same {n}"}), replace(stranger(row, n), **{way: f"same {n}"})

    found: dict[str, Any] = {
        "before": len(before),
        "splits": {name: len(each) for name, each in split.rows.items()},
    }
    for way in (*WAYS, "group", "customer", "cluster", "answer of the same passage"):
        test = list(split.rows["test"])
        picked = chance.sample(range(len(test)), min(PLANTED, len(test)))
        copies = []
        for n, at in enumerate(picked):
            test[at], copy = planted(way, test[at], n)
            copies.append(copy)
        told = find_leaks({**split.rows, "train": [*split.rows["train"], *copies], "test": test}, task=TASK)
        caught = {row.id for leak in told for row in (leak.first, leak.second)} & {copy.id for copy in copies}
        texts = {normalised(row) for row in test}
        found[way] = {
            "planted": len(copies),
            "caught": len(caught),
            "equal_text": sum(normalised(copy) in texts for copy in copies),
        }
    return found


def grounding(clean: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """Answers made wrong in one place, and rows that are right."""
    demo = clean["demo"]
    texts = [passage.text for row in demo for passage in row.passages]
    makers: Mapping[str, Callable[[Row, random.Random], str | None]] = {
        "value": lambda row, chance: said(swap_value(str(row.wanted["answer"]), texts[:50], chance)),
        "negation": lambda row, chance: said(flip_negation(str(row.wanted["answer"]), chance)),
        "added claim": lambda row, chance: said(add_claim(str(row.wanted["answer"]), texts, chance)),
    }
    found: dict[str, Any] = {}
    for way, make in makers.items():
        chance = random.Random(f"{SEED}:{way}")
        wrong = [
            replace(row, wanted={**row.wanted, "answer": text})
            for row in chance.sample(list(demo), len(demo))
            if (text := make(row, chance)) and not all(text in p.text for p in row.passages)
        ][:PLANTED]
        found[way] = {
            "planted": len(wrong),
            "caught": sum(bool(cleaning.ungrounded(row, RULES)) for row in wrong),
            "values_only": sum(bool(check_row(row, FREE, fixed_wordings=TASK.wordings)) for row in wrong),
        }
    for name, rows in clean.items():
        found[f"clean rows of {name}"] = {
            "rows": len(rows),
            "left_out": sum(bool(cleaning.ungrounded(row, RULES)) for row in rows),
            "values_only": sum(bool(check_row(row, FREE, fixed_wordings=TASK.wordings)) for row in rows),
        }
    return found


def said(fault: Any) -> str | None:
    return fault.text if fault else None


PERSONAL: Mapping[str, Callable[[random.Random], tuple[str, str]]] = {
    "email": lambda c: written("my address is {}", f"{c.choice(('ann', 'raj', 'li'))}.{c.randrange(99)}@mail{c.randrange(9)}.example"),
    "phone": lambda c: written("ring me on {}", f"+44 20 7946 0{c.randrange(100, 999)}"),
    "card": lambda c: written("the card is {}", c.choice(("4111 1111 1111 1111", "5500 0000 0000 0004", "4012888888881881"))),
    "iban": lambda c: written("pay it to {}", c.choice(("DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432"))),
    "name": lambda c: written("My name is {}.", f"{c.choice(('Amara', 'Jonas', 'Mei'))} {c.choice(('Okafor', 'Lindqvist', 'Tan'))}"),
    "order number": lambda c: written("order number {}", f"PW-{c.randrange(10**6, 10**7)}"),
    "street": lambda c: written("I live at {}", f"{c.randrange(1, 300)} {c.choice(('Elm', 'Mill', 'Station'))} Road"),
}  # fmt: skip


def written(frame: str, value: str) -> tuple[str, str]:
    return frame.format(value), value


def personal(clean: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """Personal data put behind questions: caught if nothing of it is left."""
    found: dict[str, Any] = {}
    for kind, make in PERSONAL.items():
        chance = random.Random(f"{SEED}:{kind}")
        caught = plain = 0
        for row in chance.choices(list(clean["demo"]), k=PLANTED):
            sentence, value = make(chance)
            cleaned = Cleaned(rows=[replace(row, question=f"{row.question.rstrip('.?! ')}. {sentence}")])
            cleaning.mask(cleaned, RULES)
            caught += value not in cleaned.rows[0].question
            plain += value not in PATTERNS.sub("[x]", sentence)
        found[kind] = {"planted": PLANTED, "caught": caught, "patterns": plain}
    for name, rows in clean.items():
        cleaned = Cleaned(rows=list(rows))
        cleaning.mask(cleaned, RULES)
        touched = sum(
            before.question != after.question for before, after in zip(rows, cleaned.rows, strict=True)
        )
        found[f"clean rows of {name}"] = {"rows": len(rows), "touched": touched}
    return found


def own_split() -> dict[str, Any]:
    """What crosses the split that the public set came with."""
    train, dev = people_rows("train"), people_rows("dev")
    told = find_leaks({"train": train, "test": dev}, task=TASK)
    by_what: dict[str, set[str]] = {}
    for leak in told:
        by_what.setdefault(leak.what, set()).add(leak.second.id)
    return {
        "train": len(train),
        "dev": len(dev),
        "dev_rows_that_leak": len(set().union(*by_what.values())) if by_what else 0,
        "by": {what: len(ids) for what, ids in sorted(by_what.items())},
        "examples": [leak.sentence() for leak in told[:5]],
    }


def load() -> dict[str, Any]:
    """The whole program on public questions over public pages, whose answers are sentences of them."""
    chance = random.Random(SEED)
    files = ("banking77_train", "banking77_test", "bitext_requests", "clinc_finance_oos")
    texts = [each["text"] for name in files for each in lines_of(DATA / "support_intents" / f"{name}.jsonl")]
    pages = lines_of(DATA / "mtrag_support" / "corpus.jsonl")
    lines = []
    for n in range(LOAD):
        shown = chance.sample(pages, 2)
        cut = [" ".join(page["text"].split()[:200]) for page in shown]
        spans = sentences(cut[0])
        answer = cut[0][spans[0].start : spans[0].end][:400] if spans else ""
        lines.append(
            {
                "id": f"load-{n:05}", "question": texts[n % len(texts)] + ("" if n < len(texts) else f" {n}"),
                "passages": [{"title": p["title"], "text": t, "effective_from": "2026-01-01"} for p, t in zip(shown, cut, strict=True)],
                "wanted": wanted(answer, [1]),
            }
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "rows.jsonl", Path(folder) / "set"
        source.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        size = source.stat().st_size
        begun, cpu = time.perf_counter(), time.process_time()
        steps: dict[str, float] = {}

        def say(step: str, text: str) -> None:
            steps[step] = round(time.process_time() - cpu, 1)

        built = build(
            out,
            Inputs(files=(source,)),
            schema=FREE,
            wording=WORDING,
            settings=Settings(),
            redactor=Redactor(),
            say=say,
        )
        write(out, built)
        return {
            "rows": LOAD,
            "megabytes": round(size / 1e6, 1),
            "cpu_s": round(time.process_time() - cpu, 1),
            "wall_s": round(time.perf_counter() - begun, 1),
            "cpu_s_at": steps,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "kept": built.manifest.rows,
            "left_out": {reason: group["rows"] for reason, group in built.report["rejected"].items()},
        }


BESIDE = {
    "duplicates": "equal_text",
    "leaks": "equal_text",
    "grounding": "values_only",
    "personal": "patterns",
}


def main(parts: Sequence[str]) -> None:
    """All parts, or those that are named; the others keep the figures that they have."""
    machine = describe_machine()
    demo, people = demo_rows(), people_rows("train")
    clean = {"demo": demo, "people": people}
    mixed = [*demo, *people[:1000]]
    measure: dict[str, Callable[[], dict[str, Any]]] = {
        "duplicates": lambda: duplicates(mixed),
        "leaks": lambda: leaks(mixed),
        "grounding": lambda: grounding(clean),
        "personal": lambda: personal(clean),
        "own_split": own_split,
        "load": load,
    }
    known: dict[str, Any] = (
        json.loads(RESULT.read_text(encoding="utf-8")) if parts and RESULT.exists() else {}
    )
    result = {**known, **{name: {"machine": machine, **measure[name]()} for name in parts or measure}}
    RESULT.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for part, beside in ((part, beside) for part, beside in BESIDE.items() if part in result):
        for name, found in result[part].items():
            if isinstance(found, dict) and "planted" in found:
                n, caught, simple = found["planted"], found["caught"], found[beside]
                print(
                    f"{part:<10} {name:<27} caught {caught:>3} of {n:<3} ({caught / n:4.0%})   "
                    f"{beside} {simple:>3} ({simple / n:4.0%})"
                )
            elif name != "machine":
                print(f"{part:<10} {name:<27} {found}")
    for part in ("own_split", "load"):
        if part in result:
            print(
                f"{part:<10} { {name: value for name, value in result[part].items() if name != 'machine'} }"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
