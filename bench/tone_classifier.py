"""Does a small tone classifier see what the tone rules do not? MiniLM vectors and a logistic regression.

    python -m bench.tone_classifier --data ../shared/data/support_tone

Three questions. Whether the tones of `support_tone` can be told apart on unseen groups, and whether that is tone at
all: a tone of two sources is learnt from one and looked for in the other. And whether a classifier that has learnt
slips of the house tone on the demo's training answers finds other slips on its holdout, beside the rules
(`serving/tone.py`) and at their rate of false alarms. A slip is put before or after an answer, its facts stay.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from bench.machine import describe_machine
from eval.cases import load_cases
from eval.stats import Rate, wilson
from retrieval.embedding import OnnxEmbedder
from retrieval.minilm import prepare_minilm
from serving.tone import check_tone

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "bench" / "results" / "tone_classifier.json"
QUESTIONS = ROOT / "deploy" / "demo" / "questions"
Matrix = npt.NDArray[np.float32]

#: Learnt from, and looked for: no slip is in both. Half of each breaks a rule, half only the house tone.
LEARNT = (
    ("Unfortunately, ", ""),
    ("Hi there! ", ""),
    ("", " Have a great day!"),
    ("I apologise for the trouble. ", ""),
    ("Honestly, ", ""),
    ("No worries at all. ", ""),
    ("", " Hope that clears it up."),
    ("As already stated in the article, ", ""),
)
UNSEEN = (
    ("Thanks for reaching out. ", ""),
    ("Please be advised that users may read the following. ", ""),
    ("", " Kind regards"),
    ("We are very sorry about this. ", ""),
    ("Great question. ", ""),
    ("Sadly, ", ""),
    ("", " You should have checked that first."),
    ("Oh dear, what a pity. ", ""),
)


def rows_of(file: Path) -> list[dict[str, Any]]:
    """Rows of `support_tone`."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def answers_of(split: str) -> list[str]:
    """Wanted answers of the demo, in house tone."""
    wanted = {case.id for case in load_cases(QUESTIONS) if case.split == split}
    rows = [
        json.loads(line)
        for file in sorted(QUESTIONS.glob("*.jsonl"))
        for line in file.read_text().splitlines()
    ]
    return [row["answer"] for row in rows if row["id"] in wanted and row["answer"]]


def fit(vectors: Matrix, labels: npt.NDArray[np.int64], *, classes: int, steps: int = 400) -> Matrix:
    """Weights of a softmax regression, with a bias; classes count the same."""
    inputs = np.hstack([vectors, np.ones((len(vectors), 1), np.float32)])
    target = np.eye(classes, dtype=np.float32)[labels]
    weight = 1 / np.maximum(np.bincount(labels, minlength=classes), 1)[labels][:, None] / classes
    found = np.zeros((inputs.shape[1], classes), np.float32)
    for _ in range(steps):
        found -= 20.0 * (inputs.T @ ((scores(found, vectors) - target) * weight) + 1e-4 * found)
    return cast(Matrix, found)


def scores(weights: Matrix, vectors: Matrix) -> Matrix:
    """Probabilities of the classes."""
    raw = np.hstack([vectors, np.ones((len(vectors), 1), np.float32)]) @ weights
    raw = np.exp(raw - raw.max(axis=1, keepdims=True))
    return cast(Matrix, raw / raw.sum(axis=1, keepdims=True))


def shown(k: int, n: int) -> str:
    """k of n with its interval."""
    interval = wilson(k, n)
    return f"{k}/{n} {k / n:.0%} [{interval.low * 100:.0f}-{interval.high * 100:.0f}]"


async def sources(embedder: OnnxEmbedder, data: Path) -> dict[str, Rate]:
    """The tones of the set on unseen groups, and one tone on a source that it was not learnt from."""
    train, dev = rows_of(data / "train.jsonl")[::3], rows_of(data / "dev.jsonl")
    tones = sorted({row["tone"] for row in train})
    vectors = await embedder.embed_documents([row["answer"] for row in train])
    unseen = await embedder.embed_documents([row["answer"] for row in dev])
    labels = np.array([tones.index(row["tone"]) for row in train])
    found = scores(fit(vectors, labels, classes=len(tones)), unseen).argmax(axis=1)
    right = sum(tones[at] == row["tone"] for at, row in zip(found, dev, strict=True))
    elsewhere = np.array(["govt" in row["source"] for row in train])
    one = fit(vectors[~elsewhere], labels[~elsewhere], classes=len(tones))
    again = scores(one, vectors[elsewhere]).argmax(axis=1)
    kept = int((again == labels[elsewhere]).sum())
    return {
        "tones of support_tone, unseen groups": Rate(k=right, n=len(dev)),
        "a tone on a source that it was not learnt from": Rate(k=kept, n=int(elsewhere.sum())),
    }


def slipped(answers: Sequence[str], slips: Sequence[tuple[str, str]]) -> list[str]:
    """Each answer with one slip, in turn."""
    return [
        f"{before}{answer}{after}"
        for n, answer in enumerate(answers)
        for before, after in (slips[n % len(slips)],)
    ]


async def slips(embedder: OnnxEmbedder) -> dict[str, dict[str, Rate]]:
    """Slips found and right answers refused, by the rules and by a classifier at most as strict."""
    train, holdout = answers_of("train")[::3], answers_of("holdout")
    clean = await embedder.embed_documents(train)
    spoilt = await embedder.embed_documents([text for slip in LEARNT for text in slipped(train, [slip])])
    labels = np.array([0] * len(clean) + [1] * len(spoilt))
    weights = fit(np.vstack([clean, spoilt]), labels, classes=2)
    kept = scores(weights, await embedder.embed_documents(holdout))[:, 1]
    found: dict[str, dict[str, Rate]] = {}
    # One in twenty right answers refused: more than the rules ever do.
    cut = float(np.quantile(kept, 0.95))
    for name, chosen in (("learnt slips", LEARNT), ("unseen slips", UNSEEN)):
        texts = [text for half in (chosen[:4], chosen[4:]) for text in slipped(holdout, half)]
        wrong = scores(weights, await embedder.embed_documents(texts))[:, 1]
        found[name] = {
            "rules": Rate(k=sum(bool(check_tone(text)) for text in texts), n=len(texts)),
            "classifier": Rate(k=int((wrong > cut).sum()), n=len(texts)),
        }
        missed = np.array([not check_tone(text) for text in texts])
        found[f"{name} that no rule finds"] = {
            "rules": Rate(k=0, n=int(missed.sum())),
            "classifier": Rate(k=int((wrong[missed] > cut).sum()), n=int(missed.sum())),
        }
    found["right answers refused"] = {
        "rules": Rate(k=sum(bool(check_tone(text)) for text in holdout), n=len(holdout)),
        "classifier": Rate(k=int((kept > cut).sum()), n=len(holdout)),
    }
    return found


async def measure(data: Path) -> dict[str, Any]:
    """Both parts, printed and as plain data."""
    machine = describe_machine()
    folder = ROOT / ".twinrail" / "models" / "minilm"
    prepare_minilm(folder)
    embedder = OnnxEmbedder(folder)
    told, found = await sources(embedder, data), await slips(embedder)
    for name, rate in told.items():
        print(f"{name:50} {shown(rate.k, rate.n)}")
    print(f"\n{'':36} {'rules':24} {'classifier':24} times")
    for name, rates in found.items():
        rules, learnt = rates["rules"], rates["classifier"]
        times = f"{learnt.k / rules.k:.2f}" if rules.k else "-"
        print(f"{name:36} {shown(rules.k, rules.n):24} {shown(learnt.k, learnt.n):24} {times}")
    plain = {name: {"k": rate.k, "n": rate.n} for name, rate in told.items()}
    return {
        "machine": machine,
        "sources": plain,
        "slips": {
            name: {who: {"k": rate.k, "n": rate.n} for who, rate in rates.items()}
            for name, rates in found.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "support_tone")
    result = asyncio.run(measure(parser.parse_args().data))
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
