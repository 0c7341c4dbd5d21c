"""Train the reranker: a linear program from files of rows to a model folder and a record of how it was made.

    python -m retrieval.rerank_rows --sets ... --out rows.jsonl
    python -m retrieval.rerank_training --rows rows.jsonl --out DIR

Listwise: the positive of a question against passages that the first stage ranks high for it, softmax over
the list. Fold 0 and the dev fold are never trained on; the dev fold says how far the logits can be trusted
(calibration) and is where variants and the weight beside the fused score are chosen. What it does not do:
make rows, judge the model on held-out data (bench/retrieval_reranking.py does).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Read when torch loads: threads that spin at a barrier take the core from those that still compute.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)
from tokenizers import Tokenizer

from retrieval.crossencoder import PAD, Shape, build, encode_pair, export
from retrieval.errors import RerankError
from retrieval.rerank_lists import KEPT, MADE, Passage, Row, read_rows, repeats
from retrieval.reranking import blend

CHECKPOINT = "checkpoint.pt"
RECORD = "training.json"
#: Shares of the reranker in the final order that are tried on the dev fold.
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def to_stderr(line: str) -> None:
    """Progress goes to stderr, with the time."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


def arguments() -> argparse.ArgumentParser:
    """Every knob. All of them go into the record."""
    parser = argparse.ArgumentParser(
        prog="python -m retrieval.rerank_training", description="Train the reranker."
    )
    # Files
    parser.add_argument("--rows", type=Path, nargs="+", required=True, help="JSONL of rerank_rows")
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json of the embedding model")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model and its manifest")
    # Data
    parser.add_argument("--dev-fold", type=int, default=1, help="fold that is chosen on, not trained on")
    parser.add_argument("--labelled-passes", type=int, default=3, help="times a labelled question is seen")
    parser.add_argument(
        "--most", type=int, default=500, help="labelled lists of one set are at most this many different ones"
    )
    parser.add_argument("--made", type=int, default=1300, help="made questions of one set, at most")
    parser.add_argument("--negatives", type=int, default=5, help="passages beside the positive")
    # Recipe
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 1, 2, 3], help="layers that are kept")
    parser.add_argument("--window", type=int, default=160, help="tokens of question and passage together")
    parser.add_argument("--batch", type=int, default=8, help="lists in a step")
    parser.add_argument("--slice", type=int, default=12, help="pairs computed at once, alike in length")
    parser.add_argument("--learning-rate", type=float, default=6e-5, help="peak of the encoder, linear to 0")
    parser.add_argument("--head-rate", type=float, default=1e-3, help="peak of the scoring head")
    parser.add_argument("--warmup", type=float, default=0.06, help="share of steps until the peak")
    parser.add_argument("--clip", type=float, default=1.0, help="largest norm of a gradient")
    parser.add_argument("--float32", action="store_true", help="do not compute in bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    # Run
    parser.add_argument("--max-steps", type=int, default=None, help="stop early, after so many steps")
    parser.add_argument("--checkpoint-every", type=int, default=50, help="steps between two checkpoints")
    parser.add_argument("--restart", action="store_true", help="ignore a checkpoint in --out")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--dry-run", action="store_true", help="read the rows, count them and stop")
    return parser


def main(argv: Sequence[str] | None = None, *, say: Callable[[str], None] = to_stderr) -> int:
    """Exit code 0 done, 2 unusable files or settings. `say` takes the lines of progress."""
    args = arguments().parse_args(argv)
    try:
        train(args, say)
    except RerankError as exc:
        say(f"error: {exc}")
        return 2
    return 0


def train(args: argparse.Namespace, say: Callable[[str], None]) -> None:
    """The whole run, top to bottom."""
    # ---- 1. files in -----------------------------------------------------------------------------
    rows = [row for path in args.rows for row in read_rows(path)]
    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    shape = Shape(layers=tuple(args.layers), window=args.window)
    plan = schedule(rows, args)
    seen = Counter(f"{item.row.set}: {item.row.kind}" for step in plan for item in step)
    dev = [row for row in rows if row.fold == args.dev_fold and not row.kind.startswith(MADE) and row.found]
    say(f"{sum(seen.values())} lists in {len(plan)} steps; {len(dev)} questions in the dev fold")
    for name, count in sorted(seen.items()):
        say(f"  {name}: {count}")
    if not plan:
        raise RerankError("rows: none may be trained on; all are in fold 0 or the dev fold")
    if args.dry_run:
        return

    # ---- 2. model --------------------------------------------------------------------------------
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    model = build(shape)
    # Word vectors are half of the weights; a few thousand questions would only wear them out.
    model.encoder.embeddings.requires_grad_(False)
    encoder = [weight for weight in model.encoder.parameters() if weight.requires_grad]
    head = [*model.pooled.parameters(), *model.judge.parameters(), model.scales]
    optimizer = torch.optim.AdamW(
        [{"params": encoder, "peak": args.learning_rate}, {"params": head, "peak": args.head_rate}],
        lr=args.learning_rate,
        weight_decay=0.01,
    )
    fingerprint = digest_of(args.rows)
    identity = hashlib.sha256(json.dumps([fingerprint, recipe(args)]).encode()).hexdigest()
    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint = args.out / CHECKPOINT
    done, losses = (0, []) if args.restart else resume(checkpoint, identity, model, optimizer, say)
    steps = min(len(plan), args.max_steps or len(plan))

    # ---- 3. train --------------------------------------------------------------------------------
    model.train()
    began, before = time.monotonic(), done
    for step in range(done, steps):
        share = rate_share(step, len(plan), args.warmup)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * share
        loss = list_loss(model, plan[step], tokenizer, shape, args)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(torch.nn.utils.clip_grad_norm_([*encoder, *head], args.clip))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(round(float(loss.detach()), 4))
        if not math.isfinite(losses[-1]):
            raise RerankError(f"step {step + 1}: the loss is {losses[-1]}; lower --learning-rate")
        left = (time.monotonic() - began) / (step + 1 - before) * (steps - step - 1)
        recent = sum(losses[-20:]) / len(losses[-20:])
        say(f"step {step + 1}/{steps}  loss {recent:.3f}  norm {norm:.1f}  left {left:.0f} s")
        if (step + 1) % args.checkpoint_every == 0:
            save(checkpoint, identity, model, optimizer, step + 1, losses)
    seconds = time.monotonic() - began

    # ---- 4. calibrate, files out -----------------------------------------------------------------
    model.eval()
    logits = [dev_logits(model, row, tokenizer, shape) for row in dev]
    calibration = calibrate(dev, logits)
    model.calibration.copy_(torch.tensor([calibration["scale"], calibration["offset"]]))
    sure = [[calibration["scale"] * x + calibration["offset"] for x in values] for values in logits]
    blends = blend_table(dev, sure)
    chosen = choose_blend(blends)
    manifest = export(model, shape, args.tokenizer, args.out, chosen)
    record = {
        "model_sha256": manifest["sha256"]["model.onnx"],
        "rows_sha256": fingerprint,
        "lists": dict(sorted(seen.items())),
        "dev_questions": len(dev),
        "recipe": recipe(args),
        "steps": steps,
        "seconds": round(seconds, 1),
        "losses": losses,
        "calibration": calibration,
        "dev_ndcg10": blends,
        "packages": {name: version(name) for name in ("torch", "transformers", "onnxruntime", "tokenizers")},
    }
    (args.out / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    checkpoint.unlink(missing_ok=True)
    say(f"model {manifest['sha256']['model.onnx'][:8]} in {args.out}, {seconds:.0f} s")


def recipe(args: argparse.Namespace) -> dict[str, object]:
    """What decides the outcome, without paths and without what only decides the pace."""
    pace = ("rows", "tokenizer", "out", "max_steps", "checkpoint_every", "restart", "threads", "dry_run")
    return {key: value for key, value in sorted(vars(args).items()) if key not in pace}


def digest_of(paths: Sequence[Path]) -> str:
    """One digest of all rows' bytes, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


# ---- lists ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One list: the positive comes first."""

    row: Row
    passages: tuple[str, ...]


def schedule(rows: Sequence[Row], args: argparse.Namespace) -> list[list[Item]]:
    """Steps -> lists. Each pass over a labelled question has other negatives."""
    dice = random.Random(args.seed)
    sets = sorted({row.set for row in rows})
    items: list[Item] = []
    for name in sets:
        mine = [row for row in rows if row.set == name and row.fold not in (0, args.dev_fold)]
        labelled = [row for row in mine if not row.kind.startswith(MADE) and row.kind != "scenario"]
        made = [row for row in mine if row.kind.startswith(MADE)]
        dice.shuffle(labelled)
        dice.shuffle(made)
        passes = args.labelled_passes if len(labelled) < args.most // 2 else 1
        chosen = labelled[: args.most] * passes + made[: args.made]
        items += [item for row in chosen if (item := draw(row, args.negatives, dice))]
    dice.shuffle(items)
    return [items[start : start + args.batch] for start in range(0, len(items) - args.batch + 1, args.batch)]


def draw(row: Row, negatives: int, dice: random.Random) -> Item | None:
    """A positive and passages that are none, more often those that the first stage ranks high."""
    positives = [passage for passage in row.passages if passage.gold]
    positive = max(positives, key=lambda passage: passage.fused)
    texts = [passage.text for passage in positives]
    others = [passage for passage in row.passages if not passage.gold and not repeats(passage.text, texts)]
    if len(others) < negatives:
        return None
    chosen: list[Passage] = []
    while len(chosen) < negatives:
        place = min(int(dice.expovariate(1 / 6)), len(others) - 1)
        chosen.append(others.pop(place))
    return Item(row=row, passages=(positive.text, *(passage.text for passage in chosen)))


# ---- loss ----------------------------------------------------------------------------------------


def list_loss(
    model: Any, items: Sequence[Item], tokenizer: Any, shape: Shape, args: argparse.Namespace
) -> torch.Tensor:
    """Softmax cross entropy of the positives, mean over lists."""
    pairs = [
        encode_pair(tokenizer, item.row.question, text, shape) for item in items for text in item.passages
    ]
    logits = pair_logits(model, pairs, args.slice, half=not args.float32)
    table = logits.view(len(items), -1)  # (lists, 1 + negatives)
    return F.cross_entropy(table, torch.zeros(len(items), dtype=torch.long))


def pair_logits(
    model: Any, pairs: Sequence[tuple[list[int], list[int]]], size: int, *, half: bool
) -> torch.Tensor:
    """Logits in the order of the pairs, computed in slices that are alike in length."""
    order = sorted(range(len(pairs)), key=lambda index: len(pairs[index][0]))
    parts = []
    for start in range(0, len(order), size):
        chosen = [pairs[index] for index in order[start : start + size]]
        width = max(len(ids) for ids, _ in chosen)
        ids = torch.tensor([ids + [PAD] * (width - len(ids)) for ids, _ in chosen])  # (B, T)
        segments = torch.tensor([part + [0] * (width - len(part)) for _, part in chosen])
        mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in chosen])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            parts.append(model(ids, segments, mask).float())
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(order))
    return torch.cat(parts)[back]


def rate_share(step: int, steps: int, warmup: float) -> float:
    """Linear to the peak, then linear to nothing."""
    rising = max(1, round(warmup * steps))
    return (step + 1) / rising if step < rising else (steps - step) / max(1, steps - rising)


# ---- the dev fold --------------------------------------------------------------------------------


@torch.no_grad()
def dev_logits(model: Any, row: Row, tokenizer: Any, shape: Shape) -> list[float]:
    """Of what the first stage found."""
    pairs = [encode_pair(tokenizer, row.question, each.text, shape) for each in row.passages[: row.found]]
    return [float(value) for value in pair_logits(model, pairs, 10, half=True)]


def calibrate(rows: Sequence[Row], logits: Sequence[Sequence[float]]) -> dict[str, float]:
    """Scale and offset with which the logit's sigmoid is the share of golds.

    Of each question the first ten passages: those further down are easy and make logits look surer.
    """
    if not rows:
        return {"scale": 1.0, "offset": 0.0}
    x = torch.tensor([value for values in logits for value in values[:10]], dtype=torch.double)
    golds = [float(passage.gold) for row in rows for passage in row.passages[: min(row.found, 10)]]
    y, centre, spread = torch.tensor(golds, dtype=torch.double), x.mean(), x.std().clamp(min=1e-6)
    design = torch.stack([(x - centre) / spread, torch.ones_like(x)], dim=1)  # (N, 2)
    fit = torch.zeros(2, dtype=torch.double)
    for _ in range(100):  # Newton's method from nothing, with a ridge that keeps separable data finite
        p = torch.sigmoid(design @ fit)
        gradient = design.T @ (p - y) + 1e-3 * fit
        curve = design.T @ (design * (p * (1 - p)).unsqueeze(1)) + 1e-3 * torch.eye(2, dtype=torch.double)
        fit = fit - torch.linalg.solve(curve, gradient)
    scale = fit[0] / spread
    return {"scale": float(scale), "offset": float(fit[1] - scale * centre)}


def blend_table(rows: Sequence[Row], logits: Sequence[Sequence[float]]) -> dict[str, dict[str, float]]:
    """Set -> weight -> nDCG@10 of the blend with the fused score, 20 candidates."""
    table: dict[str, dict[str, float]] = {}
    for name in sorted({row.set for row in rows if row.kind != "scenario"}):
        mine = [
            (row, own)
            for row, own in zip(rows, logits, strict=True)
            if row.set == name and row.kind != "scenario"
        ]
        table[name] = {
            str(weight): round(sum(ndcg_of(row, own, weight) for row, own in mine) / len(mine), 4)
            for weight in WEIGHTS
        }
    return table


def ndcg_of(row: Row, logits: Sequence[float], weight: float) -> float:
    """nDCG@10 over documents, each at its best passage."""
    found = row.passages[: row.found]
    # As callers of the search see the fused score.
    scores = blend([each.fused / (1 + each.fused) for each in found], logits, weight)
    order = sorted(range(len(found)), key=lambda index: -scores[index])
    ranked = list(dict.fromkeys(found[index].document for index in order))[:10]
    golds = {each.document for each in found if each.gold}
    gain = sum(1 / math.log2(place + 2) for place, document in enumerate(ranked) if document in golds)
    return gain / sum(1 / math.log2(place + 2) for place in range(min(10, row.golds)))


def choose_blend(table: Mapping[str, Mapping[str, float]]) -> dict[str, float | int]:
    """The weight of the best mean over sets among those at which no set loses more than .01.

    One set that gains much must not pay for another: an order that is sometimes worse is not trusted. Of
    weights within .002 of each other the smaller one: what a reranker knows of text that it has not seen
    is less than what it knows of these sets.
    """
    means = {
        weight: sum(row[str(weight)] for row in table.values()) / len(table)
        for weight in WEIGHTS
        if table and all(row[str(weight)] >= row["0.0"] - 0.01 for row in table.values())
    }
    best = max(means.values(), default=0.0)
    weight = min((weight for weight, mean in means.items() if mean >= best - 0.002), default=0.0)
    return {"weight": weight, "candidates": KEPT}


# ---- checkpoints ---------------------------------------------------------------------------------


def save(path: Path, identity: str, model: Any, optimizer: Any, step: int, losses: Sequence[float]) -> None:
    """Written beside and moved, so that a killed run leaves the older one whole."""
    state: Mapping[str, object] = {
        "identity": identity,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "step": step,
        "losses": list(losses),
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def resume(
    path: Path, identity: str, model: Any, optimizer: Any, say: Callable[[str], None]
) -> tuple[int, list[float]]:
    """Steps done and their losses, from a checkpoint of the same run if there is one."""
    if not path.exists():
        return 0, []
    state = torch.load(path, weights_only=True)
    if state["identity"] != identity:
        raise RerankError(
            f"{path}: belongs to a run with other rows or settings; pass --restart to begin anew"
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    say(f"going on after step {state['step']}")
    return int(state["step"]), list(state["losses"])


if __name__ == "__main__":
    raise SystemExit(main())
