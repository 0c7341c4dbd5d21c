"""Train: a recipe and a dataset in, an adapter and the record of how it was made out.

LoRA on all linear layers, loss on the completion only, on exactly the text that serving renders. Cut at any
moment, the same call goes on from the last checkpoint and ends in the same adapter: bit for bit on the same
machine with the same number of threads (no promise across machines, core counts or devices: sums are added in
another order there). What it does not do: choose rows, search settings, judge the result.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

# Read when torch loads. Threads that spin at a barrier take the core from those that still compute: beside
# other work on two cores a step took ten times as long without this.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from serving.adapter_checks import ADAPTER_FILE
from serving.adapter_configs import ADAPTER_CONFIG
from serving.digests import base_digest, digest_folder
from serving.errors import TrainingError, TrainingStoppedError
from serving.tuning.checkpoints import Checkpoints, no_room
from serving.tuning.dataset_folder import Dataset, read_dataset
from serving.tuning.plan import Lessons, prepare, steps_of
from serving.tuning.recipe import Device, Recipe
from serving.tuning.trainer import (
    RUN_FILE,
    CompletionTrainer,
    Look,
    Stop,
    Watch,
    as_datasets,
    best_look,
    lora_config,
    trainer_settings,
)
from serving.versions import sha256_of
from serving.wording import DEFAULT_WORDING, load_wording

CHECKPOINTS, MANIFEST = "checkpoints", "manifest.json"
FORMAT = 1
_PACKAGES = ("accelerate", "datasets", "peft", "safetensors", "tokenizers", "torch", "transformers", "trl")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOrder:
    """What to train, from what, and where to."""

    recipe: Recipe
    #: Folder of a dataset.
    dataset: Path
    #: Folder of the base model.
    base: Path
    #: Folder of the run: checkpoints while it runs, then the adapter and its record.
    out: Path
    #: None: CUDA where there is one.
    device: Device | None = None
    #: Torch threads; None: all cores.
    threads: int | None = None
    #: Id of the model version that this one follows.
    parent: str | None = None
    #: Begin anew where a run of another recipe or dataset lies in `out`.
    restart: bool = False
    #: Who trains; for the record.
    author: str = ""


def train(order: TrainingOrder, say: Callable[[str], None]) -> dict[str, Any]:
    """The run, alone in its folder; returns its record."""
    with alone_in(order.out):
        return _train(order, say)


def _train(order: TrainingOrder, say: Callable[[str], None]) -> dict[str, Any]:
    """The whole run, top to bottom."""
    # ---- 1. files in -----------------------------------------------------------------------------
    recipe, device = order.recipe, order.device or default_device()
    if not (order.base / "config.json").is_file():
        raise TrainingError(f"{order.base}: no model (config.json is missing); give its folder as --base")
    if order.threads is not None and order.threads < 1:
        raise TrainingError(f"--threads: {order.threads} is no number of cores; give 1 or more")
    dataset = read_dataset(order.dataset, recipe.schema)
    tokenizer = AutoTokenizer.from_pretrained(str(order.base))
    lessons = prepare(dataset, order.dataset, recipe, tokenizer, load_wording(DEFAULT_WORDING).all())
    steps = steps_of([len(example.input_ids) for example in lessons.train], recipe)
    say(
        f"{len(lessons.train)} rows, {lessons.tokens} tokens, {lessons.trained_tokens} of them trained, "
        f"longest row {lessons.longest}; {len(lessons.valid)} rows to look at; {len(steps)} steps on {device}"
    )

    # ---- 2. what this run is, and how far it is ----------------------------------------------------
    if order.threads:
        torch.set_num_threads(order.threads)
    inputs = {
        "recipe_sha256": recipe.sha256,
        "prompt_sha256": recipe.prompt_sha256,
        "schema_sha256": recipe.schema_sha256,
        "dataset_sha256": dataset.manifest.sha256,
        "base_digest": base_digest(order.base),
        "device": str(device),
    }
    identity = sha256_of(inputs)
    checkpoints = Checkpoints(order.out / CHECKPOINTS)
    if (done := _finished(order, inputs)) is not None:
        checkpoints.remove()  # killed between its last two lines
        say(f"{order.out} holds this run already: adapter {done['adapter_digest'][:8]}")
        return done
    newest, seconds = _where_it_was(order, checkpoints, identity)

    # ---- 3. model and trainer ----------------------------------------------------------------------
    _quiet()
    model = AutoModelForCausalLM.from_pretrained(
        str(order.base), dtype=getattr(torch, recipe.shape(device).dtype)
    )
    lora = lora_config(recipe, model)
    stop = Stop()
    watch = Watch(recipe, say=say, stop=stop, seconds=seconds)
    rows, looked_at = as_datasets(lessons, steps, choice_weight=recipe.file.training.choice_weight)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = CompletionTrainer(
            model=model,
            args=trainer_settings(
                recipe, device, output=Path(scratch), look_first=_unlooked(newest, recipe, len(steps))
            ),
            train_dataset=rows,
            eval_dataset=looked_at,
            processing_class=tokenizer,
            peft_config=lora,
            checkpoints=checkpoints,
            watch=watch,
            identity=identity,
            choice_weight=recipe.file.training.choice_weight,
        )
        if newest:
            say(f"going on from {newest.name}")

        # ---- 4. train ------------------------------------------------------------------------------
        with stopped_by_signals(stop):
            trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    state = trainer.state
    if stop.asked and state.global_step < state.max_steps:
        raise TrainingStoppedError(
            f"stopped after step {state.global_step} of {state.max_steps}; run the same command again "
            "to go on"
        )

    # ---- 5. files out ------------------------------------------------------------------------------
    best = best_look(state.log_history, recipe.file.validation.least_gain)
    if best.step is None:
        raise TrainingError(
            "the validation loss was never a number; lower training.learning_rate, and look at valid.jsonl"
        )
    set_peft_model_state_dict(trainer.model, load_file(str(checkpoints.of(best.step) / ADAPTER_FILE)))
    try:
        save_adapter(trainer.model, lora, order.out)
        record = _record(order, dataset, lessons, inputs, trainer, best)
        text = json.dumps(record, indent=1, ensure_ascii=False)
        _write(order.out / MANIFEST, text + "\n")
    except Exception as exc:
        if no_room(exc):
            raise TrainingError(
                f"{order.out}: no space left for the adapter; the checkpoints are kept: free some and run "
                "the same command again"
            ) from exc
        raise
    checkpoints.remove()
    if watch.ended:
        say(watch.ended)
    say(
        f"adapter {record['adapter_digest'][:8]} of step {best.step} in {order.out}, "
        f"{record['seconds']:.0f} s, validation loss {best.loss:.4f}"
    )
    return dict(json.loads(text))


def default_device() -> Device:
    """CUDA where there is one."""
    return Device.CUDA if torch.cuda.is_available() else Device.CPU


# ---- a run that was cut, or is done ----------------------------------------------------------------


def _finished(order: TrainingOrder, inputs: Mapping[str, str]) -> dict[str, Any] | None:
    """The record of a run that ended, if it is this one; what another one left is not overwritten."""
    file = order.out / MANIFEST
    if not file.is_file() or order.restart:
        if order.restart:
            file.unlink(missing_ok=True)
        return None
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        record = {}
    if any(record.get(name) != value for name, value in inputs.items()):
        raise TrainingError(f"{order.out}: holds another run; give another --out, or --restart to replace it")
    files = (order.out / ADAPTER_FILE, order.out / ADAPTER_CONFIG)
    if not all(part.is_file() for part in files) or digest_folder(order.out) != record.get("adapter_digest"):
        raise TrainingError(
            f"{order.out}: the run ended, and its adapter is gone or was changed since; restore it, or "
            "--restart to train it again"
        )
    return record


def _where_it_was(order: TrainingOrder, checkpoints: Checkpoints, identity: str) -> tuple[Path | None, float]:
    """The checkpoint to go on from and the seconds that were spent until it."""
    if order.restart:
        checkpoints.remove()
    newest = checkpoints.newest()
    if newest is None:
        return None, 0.0
    run = json.loads((newest / RUN_FILE).read_text(encoding="utf-8"))
    if run["identity"] != identity:
        raise TrainingError(
            f"{order.out}: its checkpoints belong to a run with another recipe, dataset, base or device; "
            "give another --out, or --restart to begin anew"
        )
    return newest, float(run["seconds"])


def _unlooked(newest: Path | None, recipe: Recipe, steps: int) -> bool:
    """Whether the process before was stopped between a step and the look that was due after it."""
    if newest is None:
        return False
    state = json.loads((newest / "trainer_state.json").read_text(encoding="utf-8"))
    step = state["global_step"]
    due = step % recipe.file.validation.every_steps == 0 or step == steps
    return due and not any("eval_loss" in entry and entry["step"] == step for entry in state["log_history"])


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder for one run: two would write each other's checkpoints. The kernel lets go of it however
    the process ends; an empty folder goes again."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise TrainingError(
                f"{folder}: another run is training into it; wait until it ends, or give another --out"
            ) from exc
        yield
    finally:
        os.close(handle)
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def stopped_by_signals(stop: Stop) -> Iterator[None]:
    """SIGINT and SIGTERM let the step end and leave a checkpoint; the second one ends at once.

    Signals are the main thread's: in another one this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, _frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _quiet() -> None:
    """The libraries' talk is not this program's."""
    disable_progress_bar()
    for name in ("transformers", "trl", "accelerate", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(trl|transformers|accelerate|peft|torch)\..*")


# ---- files out -------------------------------------------------------------------------------------


def save_adapter(model: Any, lora: Any, out: Path) -> None:
    """Write the adapter as fp16 safetensors: half the size, and finer than bf16 for weights this small."""
    state = {
        name: value.detach().to("cpu", torch.float16).contiguous()
        for name, value in sorted(get_peft_model_state_dict(model).items())
    }
    draft = out / f".{ADAPTER_FILE}"
    save_file(state, str(draft), metadata={"format": "pt"})
    draft.replace(out / ADAPTER_FILE)
    config = {
        key: sorted(value) if isinstance(value, set) else value for key, value in lora.to_dict().items()
    }
    # Where the base lay on this machine says nothing on another; the record holds its digest.
    config |= {"base_model_name_or_path": None, "inference_mode": True}
    config["target_modules"] = sorted(lora.target_modules or ())
    _write(out / ADAPTER_CONFIG, json.dumps(config, indent=1, default=str) + "\n")


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _record(
    order: TrainingOrder,
    dataset: Dataset,
    lessons: Lessons,
    inputs: Mapping[str, str],
    trainer: CompletionTrainer,
    best: Look,
) -> dict[str, Any]:
    """Everything that made the adapter, and how the training went."""
    recipe, history = order.recipe, trainer.state.log_history
    return {
        "format": FORMAT,
        "name": recipe.name,
        "task": recipe.task,
        **inputs,
        "adapter_digest": digest_folder(order.out),
        "dataset": asdict(dataset.manifest),
        "recipe": recipe.knobs(),
        "seed": recipe.file.seed,
        "rank": recipe.file.lora.rank,
        "alpha": recipe.file.lora.alpha,
        "target_modules": sorted(trainer.model.peft_config["default"].target_modules),
        "prompt": recipe.prompt.name,
        "prompt_budget_tokens": recipe.file.prompt_budget_tokens,
        "schema": recipe.task,
        "definition": recipe.definition(),
        "parent": order.parent,
        "author": order.author,
        "planned_steps": trainer.state.max_steps,
        "steps": trainer.state.global_step,
        "best_step": best.step,
        "best_valid_loss": best.loss,
        "losses": [round(entry["loss"], 5) for entry in history if "loss" in entry],
        "valid_losses": {str(entry["step"]): entry["eval_loss"] for entry in history if "eval_loss" in entry},
        "rows": len(lessons.train),
        "valid_rows": len(lessons.valid),
        "tokens": lessons.tokens,
        "trained_tokens": lessons.trained_tokens,
        "seconds": trainer.watch.seconds,
        "dtype": recipe.shape(Device(inputs["device"])).dtype,
        "threads": torch.get_num_threads(),
        "packages": {name: version(name) for name in _PACKAGES},
        "git_revision": git_revision(),
    }


def git_revision() -> str:
    """Commit of the code, with `+` if the tree was changed; `unknown` outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    where = Path(__file__).parent
    head = subprocess.run([git, "rev-parse", "HEAD"], cwd=where, capture_output=True, text=True, check=False)
    if head.returncode:
        return "unknown"
    diff = subprocess.run([git, "diff", "--quiet", "HEAD", "--", ".."], cwd=where, check=False)
    return head.stdout.strip() + ("+" if diff.returncode else "")
