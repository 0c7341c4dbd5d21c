"""Tune a base model: one linear program from a file of rows to an adapter and a manifest that says how it
was made.

    python -m serving.finetune --base DIR --examples FILE --out DIR

LoRA on all linear layers, completion-only loss on exactly the text that serving renders, fp32 on CPU
(measured faster than bf16 there). Teaches behaviour, not facts: rows whose answer holds a value that no
passage holds are refused. What it does not do: choose rows, search settings, judge the result.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Read when torch loads. Threads that spin at a barrier take the core from those that still compute: beside
# other work on two cores a step took ten times as long without this.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from serving.errors import ExampleError, ServingError
from serving.examples import IGNORED, Example, check_example, check_row, dataset_digest, encode, read_rows
from serving.prompting import PROMPTS, PromptTemplate, load_prompt
from serving.versions import SCHEMAS, load_task_schema, prompt_definition, sha256_of
from serving.weights import ADAPTER_CONFIG, ADAPTER_FILE, base_digest, digest_folder
from serving.wording import DEFAULT_WORDING, load_wording

CHECKPOINT = "checkpoint.pt"
MANIFEST = "manifest.json"
_PACKAGES = ("torch", "transformers", "peft", "safetensors", "tokenizers")


def to_stderr(line: str) -> None:
    """Progress goes to stderr, with the time."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


def arguments() -> argparse.ArgumentParser:
    """Every knob. All of them go into the manifest."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.finetune", description="Tune a base model with LoRA."
    )
    # Files
    parser.add_argument("--base", type=Path, required=True, help="folder of the base model")
    parser.add_argument("--examples", type=Path, required=True, help="JSONL of question, passages, wanted")
    parser.add_argument("--dev", type=Path, help="JSONL of rows for a loss that is not trained on")
    parser.add_argument("--out", type=Path, required=True, help="folder for the adapter and its manifest")
    parser.add_argument("--schema", type=Path, default=SCHEMAS / "support_answer.json", help="task schema")
    parser.add_argument("--prompt", type=Path, default=PROMPTS / "support_short.yaml", help="prompt file")
    parser.add_argument(
        "--wording", type=Path, default=DEFAULT_WORDING, help="fixed wordings (claim no facts)"
    )
    parser.add_argument(
        "--prompt-budget-tokens",
        type=int,
        default=560,
        help="budget that the rows were packed into, for the manifest",
    )
    parser.add_argument("--parent", default=None, help="id of the model version that this one follows")
    # Recipe
    parser.add_argument("--epochs", type=float, default=2.0, help="passes over the rows")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="peak, cosine to a tenth")
    parser.add_argument("--warmup", type=float, default=0.05, help="share of steps until the peak")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--alpha", type=int, default=32)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--batch", type=int, default=2, help="rows in a micro-batch, alike in length")
    parser.add_argument("--accumulate", type=int, default=4, help="micro-batches in a step")
    parser.add_argument("--clip", type=float, default=1.0, help="largest norm of a gradient")
    parser.add_argument("--max-tokens", type=int, default=1024, help="longest row")
    parser.add_argument("--seed", type=int, default=0)
    # Run
    parser.add_argument("--max-steps", type=int, default=None, help="stop early, after so many steps")
    parser.add_argument("--checkpoint-every", type=int, default=20, help="steps between two checkpoints")
    parser.add_argument("--restart", action="store_true", help="ignore a checkpoint in --out")
    parser.add_argument("--skip-bad-rows", action="store_true", help="leave refused rows out, and say so")
    parser.add_argument("--threads", type=int, default=None, help="torch threads (all cores)")
    parser.add_argument("--dry-run", action="store_true", help="check the rows and stop")
    return parser


def main(argv: Sequence[str] | None = None, *, say: Callable[[str], None] = to_stderr) -> int:
    """Exit code 0 done, 2 unusable files or settings. `say` takes the lines of progress."""
    args = arguments().parse_args(argv)
    try:
        tune(args, say)
    except ServingError as exc:
        say(f"error: {exc}")
        return 2
    return 0


def tune(args: argparse.Namespace, say: Callable[[str], None]) -> None:
    """The whole run, top to bottom."""
    # ---- 1. files in -----------------------------------------------------------------------------
    schema = load_task_schema(args.schema)
    template = load_prompt(args.prompt)
    tokenizer = AutoTokenizer.from_pretrained(str(args.base))
    fixed = load_wording(args.wording).all()
    data = prepare(args.examples, schema, template, tokenizer, fixed, args, say)
    dev = prepare(args.dev, schema, template, tokenizer, fixed, args, say) if args.dev else None
    say(
        f"{len(data.examples)} rows, {data.tokens} tokens, {data.trained} of them trained, "
        f"longest row {data.longest}; {len(data.refused)} refused"
    )
    if args.dry_run:
        return

    # ---- 2. model --------------------------------------------------------------------------------
    torch.manual_seed(args.seed)
    if args.threads:
        torch.set_num_threads(args.threads)
    model = AutoModelForCausalLM.from_pretrained(str(args.base), dtype=torch.float32)
    lora = LoraConfig(
        r=args.rank,
        lora_alpha=args.alpha,
        lora_dropout=args.dropout,
        target_modules=linear_layers(model),
        bias="none",
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(model, lora)
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=args.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)

    # ---- 3. plan ---------------------------------------------------------------------------------
    plan = schedule(data.examples, args)
    steps = min(len(plan), args.max_steps or len(plan))
    identity = sha256_of(
        {"data": data.digest, "plan": len(plan), **{k: str(v) for k, v in recipe(args).items()}}
    )
    args.out.mkdir(parents=True, exist_ok=True)
    done, losses = (0, []) if args.restart else resume(args.out / CHECKPOINT, identity, model, optimizer, say)
    trained = sum(weight.numel() for weight in weights)
    say(f"{steps} steps of up to {args.batch} x {args.accumulate} rows; {trained} weights trained")

    # ---- 4. train --------------------------------------------------------------------------------
    model.train()
    began, before = time.monotonic(), done
    for step in range(done, steps):
        rate = learning_rate(step, len(plan), args)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batches = plan[step]
        targets = sum(label != IGNORED for batch in batches for example in batch for label in example.labels)
        total = 0.0
        for batch in batches:
            loss = summed_loss(model, batch, tokenizer.pad_token_id) / targets
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        norm = float(torch.nn.utils.clip_grad_norm_(weights, args.clip))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(round(total, 5))
        if not math.isfinite(total):
            raise ExampleError(f"step {step + 1}: the loss is {total}; lower --learning-rate")
        elapsed = time.monotonic() - began
        left = elapsed / (step + 1 - before) * (steps - step - 1)
        say(f"step {step + 1}/{steps}  loss {total:.4f}  norm {norm:.2f}  rate {rate:.1e}  left {left:.0f} s")
        if (step + 1) % args.checkpoint_every == 0 and step + 1 < steps:
            save_checkpoint(args.out / CHECKPOINT, identity, model, optimizer, step + 1, losses)
    seconds = time.monotonic() - began

    # ---- 5. files out ----------------------------------------------------------------------------
    dev_loss = evaluate(model, dev.examples, tokenizer.pad_token_id) if dev else None
    save_adapter(model, lora, args.out)
    manifest = {
        "base_digest": base_digest(args.base),
        "adapter_digest": digest_folder(args.out),
        "dataset_sha256": data.digest,
        "dev_sha256": dev.digest if dev else None,
        "rows": [example.id for example in data.examples],
        "refused_rows": data.refused,
        "prompt": template.name,
        "prompt_budget_tokens": args.prompt_budget_tokens,
        "prompt_sha256": sha256_of(prompt_definition(template)),
        "schema": args.schema.stem,
        "schema_sha256": sha256_of(schema),
        "recipe": recipe(args),
        "target_modules": sorted(lora.target_modules or ()),
        "parent": args.parent,
        "steps": steps,
        "seconds": round(seconds, 1),
        "losses": losses,
        "dev_loss": dev_loss,
        "tokens": data.tokens,
        "trained_tokens": data.trained,
        "packages": {name: version(name) for name in _PACKAGES},
        "threads": torch.get_num_threads(),
        "git_revision": git_revision(),
    }
    (args.out / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    (args.out / CHECKPOINT).unlink(missing_ok=True)
    say(f"adapter {manifest['adapter_digest'][:8]} in {args.out}, {seconds:.0f} s, dev loss {dev_loss}")


def linear_layers(model: Any) -> list[str]:
    """Names of all linear layers but the output's, as engines want them: by their last part."""
    output = model.get_output_embeddings()
    return sorted(
        {
            name.rsplit(".", 1)[-1]
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and module is not output
        }
    )


# ---- rows ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Checked rows as tokens."""

    examples: Sequence[Example]
    digest: str
    #: Row id -> why it was left out.
    refused: Mapping[str, list[str]]

    @property
    def tokens(self) -> int:
        return sum(len(example.input_ids) for example in self.examples)

    @property
    def trained(self) -> int:
        return sum(label != IGNORED for example in self.examples for label in example.labels)

    @property
    def longest(self) -> int:
        return max(len(example.input_ids) for example in self.examples)


def prepare(
    path: Path,
    schema: Mapping[str, Any],
    template: PromptTemplate,
    tokenizer: Any,
    fixed: Sequence[str],
    args: argparse.Namespace,
    say: Callable[[str], None],
) -> Data:
    """Read, check and encode rows; a bad row stops the run unless --skip-bad-rows."""
    rows = read_rows(path, schema)
    good, examples, refused = [], [], {}
    for row in rows:
        example = encode(row, template, tokenizer)
        problems = check_row(row, schema, fixed_wordings=fixed)
        problems += check_example(example, tokenizer, max_tokens=args.max_tokens)
        if problems:
            refused[row.id] = problems
            say(f"refused {row.id}: {'; '.join(problems)}")
        else:
            good.append(row)
            examples.append(example)
    if refused and not args.skip_bad_rows:
        raise ExampleError(
            f"{path}: {len(refused)} of {len(rows)} rows refused; mend them or pass --skip-bad-rows"
        )
    if not good:
        raise ExampleError(f"{path}: no row may be trained on")
    return Data(examples=examples, digest=dataset_digest(good), refused=refused)


def schedule(examples: Sequence[Example], args: argparse.Namespace) -> list[list[list[Example]]]:
    """Steps -> micro-batches -> rows. Rows of one micro-batch are alike in length, so little padding is
    computed."""
    dice = random.Random(args.seed)
    batches: list[list[Example]] = []
    whole, part = divmod(args.epochs, 1)
    for share in [1.0] * int(whole) + ([part] if part else []):
        rows = list(examples)
        dice.shuffle(rows)
        rows = rows[: max(1, round(len(rows) * share))]
        rows.sort(key=lambda example: len(example.input_ids))
        epoch = [rows[n : n + args.batch] for n in range(0, len(rows), args.batch)]
        dice.shuffle(epoch)
        batches += epoch
    return [batches[n : n + args.accumulate] for n in range(0, len(batches), args.accumulate)]


# ---- loss ----------------------------------------------------------------------------------------


def summed_loss(model: Any, batch: Sequence[Example], pad: int) -> torch.Tensor:
    """Cross entropy of the trained tokens, summed. The vocabulary is projected at those places only."""
    width = max(len(example.input_ids) for example in batch)
    ids = torch.full((len(batch), width), pad)  # (B, T)
    labels = torch.full((len(batch), width), IGNORED)  # (B, T)
    mask = torch.zeros((len(batch), width), dtype=torch.long)  # (B, T)
    for n, example in enumerate(batch):
        ids[n, : len(example.input_ids)] = torch.tensor(example.input_ids)
        labels[n, : len(example.labels)] = torch.tensor(example.labels)
        mask[n, : len(example.input_ids)] = 1
    inner = model.get_base_model()
    hidden = inner.model(input_ids=ids, attention_mask=mask).last_hidden_state  # (B, T, C)
    wanted = labels[:, 1:] != IGNORED  # (B, T-1): the place before a trained token predicts it
    logits = inner.lm_head(hidden[:, :-1][wanted])  # (N, V)
    return F.cross_entropy(logits.float(), labels[:, 1:][wanted], reduction="sum")


@torch.no_grad()
def evaluate(model: Any, examples: Sequence[Example], pad: int) -> float:
    """Mean loss per trained token."""
    model.eval()
    total = sum(float(summed_loss(model, [example], pad)) for example in examples)
    return round(total / sum(label != IGNORED for example in examples for label in example.labels), 5)


def learning_rate(step: int, steps: int, args: argparse.Namespace) -> float:
    """Linear to the peak, then cosine to a tenth of it."""
    warmup = max(1, round(args.warmup * steps))
    if step < warmup:
        return float(args.learning_rate * (step + 1) / warmup)
    progress = (step - warmup) / max(1, steps - warmup)
    return float(args.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * progress))))


# ---- files ---------------------------------------------------------------------------------------


def recipe(args: argparse.Namespace) -> dict[str, Any]:
    """The knobs that decide the weights."""
    rates = ("epochs", "learning_rate", "warmup", "rank", "alpha", "dropout", "clip")
    sizes = ("batch", "accumulate", "max_tokens", "seed", "max_steps", "skip_bad_rows")
    return {name: getattr(args, name) for name in (*rates, *sizes)}


def save_adapter(model: Any, lora: LoraConfig, out: Path) -> None:
    """Write the adapter as fp16 safetensors: half the size, and finer than bf16 for weights this small."""
    state = {
        name: value.detach().to(torch.float16).contiguous()
        for name, value in get_peft_model_state_dict(model).items()
    }
    save_file(state, str(out / ADAPTER_FILE), metadata={"format": "pt"})
    config = {
        key: sorted(value) if isinstance(value, set) else value for key, value in lora.to_dict().items()
    }
    # Where the base lay on this machine says nothing on another; the manifest holds its digest.
    config |= {"base_model_name_or_path": None, "inference_mode": True}
    config["target_modules"] = sorted(lora.target_modules or ())
    (out / ADAPTER_CONFIG).write_text(json.dumps(config, indent=1, default=str) + "\n", encoding="utf-8")


def save_checkpoint(
    path: Path,
    identity: str,
    model: Any,
    optimizer: torch.optim.Optimizer,
    step: int,
    losses: Sequence[float],
) -> None:
    """Write what a later run needs to go on; the old file stays until the new one is whole."""
    state = {
        "identity": identity,
        "adapter": get_peft_model_state_dict(model),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "step": step,
        "losses": list(losses),
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def resume(
    path: Path,
    identity: str,
    model: Any,
    optimizer: torch.optim.Optimizer,
    say: Callable[[str], None],
) -> tuple[int, list[float]]:
    """Steps done and their losses, from a checkpoint of the same run if there is one."""
    if not path.exists():
        return 0, []
    state = torch.load(path, weights_only=True)
    if state["identity"] != identity:
        raise ExampleError(
            f"{path}: belongs to a run with other rows or settings; pass --restart to begin anew"
        )
    set_peft_model_state_dict(model, state["adapter"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    say(f"going on after step {state['step']}")
    return int(state["step"]), list(state["losses"])


def git_revision() -> str:
    """Commit of the code, with `+` if the tree was changed; `unknown` outside a checkout."""
    try:
        where = Path(__file__).parent
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=where, capture_output=True, text=True, check=True
        )
        diff = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "."], cwd=where, check=False)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if diff.returncode else "")


if __name__ == "__main__":
    raise SystemExit(main())
