"""How well the grounding check tells supported from unsupported sentences, next to plain word overlap.

    python -m bench.grounding [--data ../shared/data/groundedness]

Per source of the labelled data: AUROC (grounded against ungrounded; `generic` and `partial` left out) and
the best F1 of finding ungrounded answers. An answer's score is that of its worst sentence. Thresholds are
chosen on train.jsonl.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.machine import describe_machine
from serving.grounding import check_sentence
from serving.prompting import Passage
from serving.sentences import content_stems, sentences

REPOSITORY = Path(__file__).parent.parent
Score = Callable[[str, Sequence[Passage]], float]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and write it to bench/results/grounding.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared/data/groundedness")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "bench/results/grounding.json")
    args = parser.parse_args(argv)
    if not args.data.exists():
        print(f"skipped: {args.data} is not here")
        return 0
    train, dev = (_read(args.data / f"{name}.jsonl") for name in ("train", "dev"))
    result: dict[str, object] = {"machine": describe_machine(), "train": {}, "dev": {}}
    for name, rows in (("train", train), ("dev", dev)):
        table: dict[str, object] = {}
        for source in sorted({str(row["source"]) for row in rows}):
            of_source = [row for row in rows if row["source"] == source]
            table[source] = {
                "ours": _figures(of_source, _ours),
                "word overlap": _figures(of_source, _overlap),
            }
            print(f"{name:5} {source:22} {json.dumps(table[source])}")
        result[name] = table
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def _read(path: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["label"] in {"grounded", "ungrounded"}]


def _figures(rows: Sequence[dict[str, object]], score: Score) -> dict[str, float]:
    began = time.perf_counter()
    scored = [(score(str(row["answer"]), _passages(row)), row["label"] == "grounded") for row in rows]
    each_ms = (time.perf_counter() - began) / len(rows) * 1000
    good = [value for value, grounded in scored if grounded]
    bad = [value for value, grounded in scored if not grounded]
    if not good or not bad:
        return {"n": len(rows)}
    wins = sum((g > b) + 0.5 * (g == b) for g in good for b in bad)
    best_f1, best_at = max((_f1(good, bad, at), at) for at in sorted({value for value, _ in scored}))
    return {
        "n": len(rows),
        "auroc": round(wins / (len(good) * len(bad)), 3),
        "f1": round(best_f1, 3),
        "f1_at": round(best_at, 3),
        "f1_at_0.5": round(_f1(good, bad, 0.5), 3),
        "ms": round(each_ms, 2),
    }


def _f1(good: Sequence[float], bad: Sequence[float], threshold: float) -> float:
    """F1 of calling everything below the threshold ungrounded."""
    hit = sum(value < threshold for value in bad)
    false = sum(value < threshold for value in good)
    return 2 * hit / (hit + false + len(bad)) if hit else 0.0


def _passages(row: dict[str, object]) -> list[Passage]:
    contexts = row["contexts"]
    assert isinstance(contexts, list)
    return [
        Passage(n=n, title="", text=str(text), start=0, end=len(str(text)))
        for n, text in enumerate(contexts, 1)
    ]


def _ours(answer: str, passages: Sequence[Passage]) -> float:
    return min(
        (check_sentence(answer[s.start : s.end], passages).score for s in sentences(answer)), default=1.0
    )


def _overlap(answer: str, passages: Sequence[Passage]) -> float:
    """Smallest share of a sentence's content words that stand anywhere in the contexts."""
    known = {word for passage in passages for word in content_stems(passage.text)}
    shares = []
    for span in sentences(answer):
        found = content_stems(answer[span.start : span.end])
        if found:
            shares.append(sum(word in known for word in found) / len(found))
    return min(shares, default=1.0)


if __name__ == "__main__":
    raise SystemExit(main())
