"""How well the grounding check tells supported from unsupported sentences, next to plain word overlap.

    python -m bench.grounding [--data ../shared/data/groundedness] [--model serving/entailment_model]

Three checks over the same answers: words and values, these with the entailment model, and plain word overlap.
Per source of the labelled data: AUROC (grounded against ungrounded; `generic` and `partial` left out) and F1 of finding
ungrounded answers, at the check's own threshold and at the best one. An answer's score is that of its worst sentence.
dev.jsonl was never trained on; HaluEval is judged on the half of its contexts that was not, either. Then the demo's
right answers beside their gold articles: how many are refused, and how many of them with one seeded fault; the
questions of the dev split were never trained on. Negations apart, both sides of them: right sentences called contrary, and
sentences with one negation put in or taken out, every way that the wording allows, beside five passages as in a prompt and
beside the labelled contexts. How far the model's probability can be taken at its word: calibration error on dev.jsonl. Last,
milliseconds for the answers over five passages on one thread.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import describe_machine
from deploy.grounding_rows import is_held_out
from eval.stats import wilson
from retrieval.parsing import parse_file
from serving.entailment import OnnxEntailment
from serving.evidence_windows import evidence_windows
from serving.grounding import THRESHOLD, Entailment, check_sentence, word_signs
from serving.prompting import Passage
from serving.seeded_faults import (
    Fault,
    add_claim,
    flip_negation,
    negation_flips,
    swap_name,
    swap_opposite,
    swap_value,
)
from serving.sentences import content_stems, sentences
from serving.settings import PACKAGED_ENTAILMENT
from serving.wording import load_wording

REPOSITORY = Path(__file__).parent.parent
RESAMPLES = 1000
WITH_MODEL = "with entailment"
Score = Callable[[str, str, Sequence[Passage]], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One way to score a sentence; below the threshold it is called ungrounded."""

    score: Score
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A right sentence of the demo with the articles that hold it."""

    split: str
    question: str
    text: str
    gold: tuple[Passage, ...]
    others: tuple[Passage, ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables and write them to bench/results/grounding.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared/data/groundedness")
    parser.add_argument("--demo", type=Path, default=REPOSITORY / "deploy/demo")
    parser.add_argument("--model", type=Path, default=PACKAGED_ENTAILMENT, help="folder of the model")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "bench/results/grounding.json")
    args = parser.parse_args(argv)
    if not args.data.exists():
        print(f"skipped: {args.data} is not here")
        return 0
    result: dict[str, Any] = {"machine": describe_machine()}
    # Without a deadline: another program on the cores must not decide what is measured here.
    model = OnnxEntailment(args.model, deadline_s=60.0)
    result["model"] = model.id
    checks = {
        "words and values": Check(score=_by_words, threshold=THRESHOLD),
        WITH_MODEL: Check(score=partial(_by_model, model), threshold=model.threshold),
        "word overlap": Check(score=_overlap, threshold=0.5),
    }
    models: dict[str, Entailment | None] = {"words and values": None, WITH_MODEL: model}
    claims = list(demo_claims(args.demo))
    result["latency"] = latency(claims, models)
    result["demo"] = demo(claims, models)
    result["negations"] = negations(claims, _read(args.data / "dev.jsonl"), models)
    result["labelled"] = labelled(args.data, checks)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


# ---- people's labels -----------------------------------------------------------------------------


def labelled(folder: Path, checks: Mapping[str, Check]) -> dict[str, Any]:
    """A table for each source."""
    rows = _read(folder / "dev.jsonl")
    rows += [
        row
        for row in _read(folder / "train.jsonl")
        if row["source"].startswith("HaluEval") and is_held_out(row["contexts"][0])
    ]
    table: dict[str, Any] = {}
    for source in sorted({row["source"] for row in rows}):
        of_source = [row for row in rows if row["source"] == source]
        table[source] = {"n": len(of_source), **_compare(of_source, checks)}
        print(f"{source} n={len(of_source)}")
        for name, figures in table[source].items():
            print(f"  {name:32} {json.dumps(figures)}")
    return table


def _compare(rows: Sequence[dict[str, Any]], checks: Mapping[str, Check]) -> dict[str, Any]:
    grounded = np.array([row["label"] == "grounded" for row in rows])
    scores: dict[str, Any] = {}
    table: dict[str, Any] = {"ungrounded": int((~grounded).sum())}
    for name, check in checks.items():
        began = time.perf_counter()
        scores[name] = np.array([_answer_score(check.score, row) for row in rows])
        each_ms = (time.perf_counter() - began) / len(rows) * 1000
        best, at = max((_f1(scores[name], grounded, at), at) for at in sorted(set(scores[name].tolist())))
        table[name] = {
            "auroc": round(_auroc(scores[name], grounded), 3),
            "f1": round(_f1(scores[name], grounded, check.threshold), 3),
            "f1_best": round(best, 3),
            "f1_best_at": round(at, 3),
            "ms": round(each_ms, 2),
        }
    draws = list(_draws([row["contexts"][0] for row in rows], grounded))
    errors = [_calibration_error(scores[WITH_MODEL][draw], grounded[draw]) for draw in draws]
    table[WITH_MODEL]["calibration_error"] = round(_calibration_error(scores[WITH_MODEL], grounded), 3)
    table[WITH_MODEL]["calibration_error_95"] = _spread(errors)
    table[WITH_MODEL]["mean_probability"] = round(float(scores[WITH_MODEL].mean()), 3)
    table[WITH_MODEL]["share_grounded"] = round(float(grounded.mean()), 3)
    for name in checks:
        table[name]["auroc_95"] = _spread([_auroc(scores[name][draw], grounded[draw]) for draw in draws])
        table[name]["f1_95"] = _spread(
            [_f1(scores[name][draw], grounded[draw], checks[name].threshold) for draw in draws]
        )
    for other in ("words and values", "word overlap"):
        table[f"{WITH_MODEL} - {other}"] = {
            "auroc_95": _spread(
                [
                    _auroc(scores[WITH_MODEL][draw], grounded[draw])
                    - _auroc(scores[other][draw], grounded[draw])
                    for draw in draws
                ]
            )
        }
    return table


def _read(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["label"] in {"grounded", "ungrounded"}]


def _answer_score(score: Score, row: Mapping[str, Any]) -> float:
    answer, passages = row["answer"], _passages(row["contexts"])
    return min((score(answer[s.start : s.end], "", passages) for s in sentences(answer)), default=1.0)


def _passages(contexts: Sequence[str]) -> list[Passage]:
    return [Passage(n=n, title="", text=text, start=0, end=len(text)) for n, text in enumerate(contexts, 1)]


def _by_words(sentence: str, question: str, passages: Sequence[Passage]) -> float:
    return check_sentence(sentence, passages, question=question).score


def _by_model(model: Entailment, sentence: str, question: str, passages: Sequence[Passage]) -> float:
    """Of every sentence, also of those that check_sentence does not ask the model about: the others score all."""
    signs = word_signs(sentence, passages, question=question)
    return model.probability(sentence, passages, signs) or 0.0


def _overlap(sentence: str, question: str, passages: Sequence[Passage]) -> float:
    """Share of the sentence's content words that stand anywhere in the contexts."""
    known = {word for passage in passages for word in content_stems(passage.text)}
    found = content_stems(sentence)
    return sum(word in known for word in found) / len(found) if found else 1.0


def _auroc(scores: Any, grounded: Any) -> float:
    below = np.sort(scores[~grounded])
    good = scores[grounded]
    wins = np.searchsorted(below, good, side="left") + np.searchsorted(below, good, side="right")
    return float(wins.mean() / 2 / len(below))


def _f1(scores: Any, grounded: Any, threshold: float) -> float:
    """F1 of calling everything below the threshold ungrounded."""
    called = scores < threshold
    hit = int((called & ~grounded).sum())
    return 2 * hit / (int(called.sum()) + int((~grounded).sum())) if hit else 0.0


def _calibration_error(probabilities: Any, grounded: Any) -> float:
    """Mean distance between what is said and what is so, in ten bins of the probability."""
    bins = np.minimum(9, (probabilities * 10).astype(int))
    return float(
        sum(
            (bins == one).mean() * abs(probabilities[bins == one].mean() - grounded[bins == one].mean())
            for one in set(bins.tolist())
        )
    )


def _draws(contexts: Sequence[str], grounded: Any) -> Iterator[Any]:
    """Resamples of whole contexts that hold both kinds of answers."""
    places: dict[str, list[int]] = {}
    for number, context in enumerate(contexts):
        places.setdefault(context, []).append(number)
    groups = [np.array(numbers) for numbers in places.values()]
    chance = np.random.default_rng(0)
    for _ in range(RESAMPLES):
        draw = np.concatenate([groups[n] for n in chance.integers(0, len(groups), len(groups))])
        if grounded[draw].any() and not grounded[draw].all():
            yield draw


def _spread(values: Sequence[float]) -> list[float]:
    return [round(float(np.quantile(values, at)), 3) for at in (0.025, 0.975)]


# ---- the demo's right answers --------------------------------------------------------------------


def demo_claims(folder: Path) -> Iterator[Claim]:
    """The sentences of the wanted train and dev answers that claim something, with their articles."""
    fixed = load_wording().all()
    articles: dict[str, Passage] = {}
    for number, path in enumerate(sorted((folder / "articles").rglob("*.*")), 1):
        document = parse_file(path.name, path.read_bytes()).document
        articles[document.id] = Passage(
            n=number, title=document.title, text=document.text, start=0, end=len(document.text)
        )
    for path in sorted((folder / "questions").glob("*.jsonl")):
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            if row["split"] == "holdout" or row["status"] == "abstained" or not row["gold"]:
                continue
            gold = tuple(articles[name] for name in row["gold"])
            others = tuple(passage for name, passage in articles.items() if name not in row["gold"])
            for span in sentences(row["answer"]):
                text = row["answer"][span.start : span.end]
                if check_sentence(text, gold, question=row["text"], fixed=fixed).is_claim:
                    yield Claim(split=row["split"], question=row["text"], text=text, gold=gold, others=others)


def demo(claims: Sequence[Claim], scorers: Mapping[str, Entailment | None]) -> dict[str, Any]:
    """Shares of right sentences, and of sentences with one seeded fault, that each check refuses."""
    table: dict[str, Any] = {}
    for split in ("dev", "train"):
        mine = [claim for claim in claims if claim.split == split]
        kinds = {"right": [(claim, claim.text) for claim in mine]}
        if split == "dev":  # a model was trained with faults in the others
            kinds |= _faulty(mine)
        table[split] = {}
        for kind, cases in kinds.items():
            table[split][kind] = {name: _refused(cases, model) for name, model in scorers.items()}
            print(f"demo {split:5} {kind:10} {json.dumps(table[split][kind])}")
    return table


def _faulty(claims: Sequence[Claim]) -> dict[str, list[tuple[Claim, str]]]:
    chance = random.Random(0)
    makers: dict[str, Callable[[Claim], Fault | None]] = {
        "value": lambda claim: swap_value(claim.text, [p.text for p in claim.gold], chance),
        "negation": lambda claim: flip_negation(claim.text, chance),
        "opposite": lambda claim: swap_opposite(claim.text, chance),
        "name": lambda claim: swap_name(claim.text, [p.text for p in claim.gold], chance),
        "added": lambda claim: add_claim(claim.text, [chance.choice(claim.others).text], chance),
    }
    return {
        kind: [(claim, fault.text) for claim in claims if (fault := make(claim)) is not None]
        for kind, make in makers.items()
    }


def _refused(cases: Sequence[tuple[Claim, str]], model: Entailment | None) -> dict[str, Any]:
    refused = sum(
        not check_sentence(text, claim.gold, question=claim.question, entailment=model).supported
        for claim, text in cases
    )
    spread = wilson(refused, len(cases))
    return {
        "refused": refused,
        "n": len(cases),
        "share": round(refused / len(cases), 3),
        "95": [round(spread.low, 3), round(spread.high, 3)],
    }


# ---- negations -----------------------------------------------------------------------------------


def negations(
    claims: Sequence[Claim], rows: Sequence[dict[str, Any]], models: Mapping[str, Entailment | None]
) -> dict[str, Any]:
    """Shares of right sentences and of sentences with one flipped negation that are called contrary, and refused."""
    told: dict[str, list[tuple[str, str, Sequence[Passage]]]] = {}
    for number, claim in enumerate(claims):
        told.setdefault(f"demo {claim.split}", []).append(
            (claim.text, claim.question, _five(claim, mark=str(number)))
        )
    for row in rows:
        if row["label"] == "grounded" and row["source"].startswith("BEGIN"):
            passages = _passages(row["contexts"])
            for span in sentences(row["answer"]):
                told.setdefault(row["source"], []).append(
                    (row["answer"][span.start : span.end], "", passages)
                )
    table: dict[str, Any] = {}
    for source, cases in sorted(told.items()):
        flipped = [
            (fault.text, question, passages)
            for text, question, passages in cases
            for fault in negation_flips(text)
        ]
        table[source] = {
            kind: {
                "n": len(sides),
                "contrary": _shown([bool(_contrary(*side)) for side in sides]),
                **{
                    name: _shown([not _supported(model, *side) for side in sides])
                    # Articles that the model was trained with, and faults in these very sentences.
                    for name, model in models.items()
                    if source != "demo train" or model is None
                },
            }
            for kind, sides in (("right", cases), ("flipped", flipped))
        }
        for kind, figures in table[source].items():
            print(f"negations {source:10} {kind:8} {json.dumps(figures)}")
    return table


def _contrary(text: str, question: str, passages: Sequence[Passage]) -> bool:
    return word_signs(text, passages, question=question).contrary is not None


def _supported(model: Entailment | None, text: str, question: str, passages: Sequence[Passage]) -> bool:
    return check_sentence(text, passages, question=question, entailment=model).supported


def _shown(found: Sequence[bool]) -> dict[str, Any]:
    spread = wilson(sum(found), len(found))
    return {"k": sum(found), "95": [round(spread.low, 3), round(spread.high, 3)]}


# ---- time ----------------------------------------------------------------------------------------


def latency(claims: Sequence[Claim], scorers: Mapping[str, Entailment | None]) -> dict[str, Any]:
    """Milliseconds for whole answers over five passages of at most 250 words; every text is new to the check."""
    answers: dict[str, list[Claim]] = {}
    for claim in claims:
        if claim.split == "dev":
            answers.setdefault(claim.question, []).append(claim)
    table: dict[str, Any] = {}
    for name, model in scorers.items():
        spent: list[float] = []
        computed: list[float] = []
        for number, (question, said) in enumerate(answers.items()):
            passages = _five(said[0], mark=f"{name} {number}")
            began, cpu = time.perf_counter(), time.process_time()
            for claim in said:
                check_sentence(claim.text, passages, question=question, entailment=model)
            spent.append((time.perf_counter() - began) * 1000)
            computed.append((time.process_time() - cpu) * 1000)
        spent.sort()
        table[name] = {
            "answers": len(spent),
            "claims": sum(map(len, answers.values())),
            "p50_ms": round(statistics.median(spent), 1),
            "p90_ms": round(spent[int(len(spent) * 0.9)], 1),
            "most_ms": round(spent[-1], 1),
            # What a core without other work would need.
            "cpu_p50_ms": round(statistics.median(computed), 1),
        }
        print(f"latency {name:18} {json.dumps(table[name])}")
    return table


def _five(claim: Claim, *, mark: str) -> list[Passage]:
    """The gold article and those nearest to the sentence. The mark keeps what was read before from being used."""
    near = evidence_windows(claim.text, claim.others, most=12)
    nearest = list(dict.fromkeys(window.passage for window in near))
    taken = [*claim.gold, *(claim.others[place] for place in nearest)][:5]
    texts = [" ".join(passage.text.split(" ")[:250]) for passage in taken]
    return [
        Passage(n=n, title=passage.title, text=f"{text}\n{mark}", start=0, end=len(text))
        for n, (passage, text) in enumerate(zip(taken, texts, strict=True), 1)
    ]


if __name__ == "__main__":
    raise SystemExit(main())
