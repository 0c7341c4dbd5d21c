"""TRL's trainer with what was measured better for small models on few cores, and with whole checkpoints.

The vocabulary is projected at trained places only, validation loss is per trained token, and the rows come in
the order of the plan. Imports torch and TRL: only the training process may import this module.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)
from datasets import Dataset
from peft import LoraConfig
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from serving.errors import TrainingError
from serving.examples import IGNORED, Example
from serving.tuning.checkpoints import Checkpoints
from serving.tuning.plan import Lessons
from serving.tuning.recipe import Device, Recipe, Validation

RUN_FILE = "run.json"
#: Column of a row: how often each of its tokens counts.
WEIGHTS = "weights"
_STATE_FILE = "trainer_state.json"
#: A head that does more than project: its logits are TRL's business.
_SHAPED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")


@dataclass(slots=True)
class Stop:
    """Set from outside (a signal): finish the step, leave a checkpoint, end."""

    asked: bool = False


class WeighedRows(DataCollatorForLanguageModeling):  # type: ignore[misc]
    """TRL's batches, with how often each token counts."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Rows padded on the right; what is padded counts nothing."""
        batch: dict[str, Any] = super().torch_call(examples)
        weights = [torch.tensor(example[WEIGHTS]) for example in examples]
        return batch | {WEIGHTS: torch.nn.utils.rnn.pad_sequence(weights, batch_first=True)}


class CompletionTrainer(SFTTrainer):  # type: ignore[misc]
    """SFT on rows whose labels are made already, and whose tokens count as `as_datasets` says."""

    control: TrainerControl

    def __init__(
        self,
        *,
        checkpoints: Checkpoints,
        watch: Watch,
        identity: str,
        choice_weight: float = 1.0,
        **settings: Any,
    ) -> None:
        tokenizer = settings["processing_class"]
        # Which token pads is all one, as long as there is one: what is padded is neither read nor trained.
        pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        super().__init__(callbacks=[watch], data_collator=WeighedRows(pad_token_id=pad), **settings)
        self.remove_callback(PrinterCallback)
        self._checkpoints, self.watch, self._identity = checkpoints, watch, identity
        config = self.model.config.get_text_config()
        self._plain_head = not any(getattr(config, name, None) for name in _SHAPED_LOGITS)
        if choice_weight != 1 and not self._plain_head:
            raise TrainingError(
                f"training.choice_weight: is {choice_weight}, but the loss of this base is computed without "
                f"weights, as its head does more than project ({', '.join(_SHAPED_LOGITS)}); leave it out"
            )

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Cross entropy of the trained tokens of the step, each as often as it counts, over their number."""
        if return_outputs or not self._plain_head:
            plain = {name: tensor for name, tensor in inputs.items() if name != WEIGHTS}
            return super().compute_loss(model, plain, return_outputs, num_items_in_batch)
        trained = num_items_in_batch if num_items_in_batch is not None else _trained(inputs)
        return summed_loss(self.accelerator.unwrap_model(model), inputs) / trained

    @torch.no_grad()
    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Loss over the trained tokens of the validation rows: a long answer counts for its length."""
        self.model.eval()
        total, trained = 0.0, 0
        for batch in self.get_eval_dataloader(eval_dataset):
            inputs = self._prepare_inputs(batch)
            count = _trained(inputs)
            total += float(self.compute_loss(self.model, inputs, num_items_in_batch=1))
            trained += count
        found = {f"{metric_key_prefix}_loss": round(total / trained, 5)}
        self.log(found)
        self.model.train()
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """All that a later process needs to go on exactly here; whole or not there."""
        step = self.state.global_step
        with self._checkpoints.writing(step) as folder:
            self.model.save_pretrained(str(folder), save_embedding_layers=False)
            self._save_optimizer_and_scheduler(str(folder))
            self._save_rng_state(str(folder))
            self.state.save_to_json(str(folder / _STATE_FILE))
            run = {"identity": self._identity, "seconds": self.watch.seconds}
            (folder / RUN_FILE).write_text(json.dumps(run), encoding="utf-8")
        self._checkpoints.drop_but(step, best_look(self.state.log_history, self.watch.least_gain).step)


class Watch(TrainerCallback):  # type: ignore[misc]
    """Says how the run goes, and when it ends or leaves a checkpoint."""

    def __init__(self, recipe: Recipe, *, say: Callable[[str], None], stop: Stop, seconds: float) -> None:
        self._validation: Validation = recipe.file.validation
        self._every = recipe.file.checkpoint_every_steps
        self._say, self._stop = say, stop
        self._before = seconds
        self._began = time.monotonic()
        self._first = 0
        #: Why the run ended before its last step; "" if it did not.
        self.ended = ""

    @property
    def least_gain(self) -> float:
        """By how much the loss must fall to count as lower."""
        return self._validation.least_gain

    @property
    def seconds(self) -> float:
        """Of training, those before a cut included."""
        return round(self._before + time.monotonic() - self._began, 1)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Time left is judged by the steps of this process."""
        self._first, self._began = state.global_step, time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """A checkpoint is due, or asked for."""
        if self._stop.asked:
            # A look that is due is made by the process that goes on: it would keep this one from ending.
            control.should_evaluate, control.should_save, control.should_training_stop = False, True, True
        elif state.global_step % self._every == 0:
            control.should_save = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **_: Any,
    ) -> None:
        """One line for a step, and the end for a loss that is no number."""
        logs = logs or {}
        step, steps = state.global_step, state.max_steps
        if "eval_loss" in logs:
            self._say(f"step {step}/{steps}  validation loss {logs['eval_loss']:.4f}")
        if "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]) or not math.isfinite(logs["grad_norm"]):
            raise TrainingError(
                f"step {step}: the loss is {logs['loss']}, its gradient {logs['grad_norm']}; "
                "lower training.learning_rate"
            )
        left = (time.monotonic() - self._began) / max(1, step - self._first) * (steps - step)
        self._say(
            f"step {step}/{steps}  loss {logs['loss']:.4f}  norm {logs['grad_norm']:.2f}  "
            f"rate {logs['learning_rate']:.1e}  left {left:.0f} s"
        )

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """What was looked at is kept, and looks without a lower loss end the run."""
        control.should_save = True
        best = best_look(state.log_history, self._validation.least_gain)
        if best.since >= self._validation.patience and state.global_step < state.max_steps:
            control.should_training_stop = True
            self.ended = f"validation loss has not fallen for {best.since} looks; step {best.step} is kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The look at the validation rows with the lowest loss."""

    #: None before the first look.
    step: int | None
    loss: float
    #: Looks after it.
    since: int


def best_look(history: Sequence[Mapping[str, float]], least_gain: float) -> Look:
    """From the trainer's log. A loss counts as lower when it is so by more than `least_gain`."""
    best, since, step = math.inf, 0, None
    for entry in history:
        if "eval_loss" not in entry:
            continue
        since += 1
        if entry["eval_loss"] < best - (least_gain if step is not None else 0.0):
            best, since, step = entry["eval_loss"], 0, int(entry["step"])
    return Look(step=step, loss=best, since=since)


def summed_loss(model: Any, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Cross entropy of the trained tokens, each as often as it counts, summed.

    The vocabulary is projected at those places only: most of a row is its prompt, and with a small model
    projecting costs as much as all layers.
    """
    inner = model.get_base_model()
    hidden = inner.base_model(  # (B, T, C)
        input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
    ).last_hidden_state
    targets = inputs["labels"][:, 1:]  # (B, T-1): the place before a trained token predicts it
    wanted = targets != IGNORED
    logits = inner.get_output_embeddings()(hidden[:, :-1][wanted])  # (N, V)
    losses = F.cross_entropy(logits.float(), targets[wanted], reduction="none")  # (N,)
    return (losses * inputs[WEIGHTS][:, 1:][wanted]).sum()


def _trained(inputs: Mapping[str, torch.Tensor]) -> int:
    return int((inputs["labels"][:, 1:] != IGNORED).sum())


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


def lora_config(recipe: Recipe, model: Any) -> LoraConfig:
    """The adapter's shape."""
    size = recipe.file.lora
    return LoraConfig(
        r=size.rank,
        lora_alpha=size.alpha,
        lora_dropout=size.dropout,
        target_modules=linear_layers(model),
        bias="none",
        task_type="CAUSAL_LM",
    )


def trainer_settings(recipe: Recipe, device: Device, *, output: Path, look_first: bool) -> SFTConfig:
    """The recipe in the trainer's words. `look_first`: the step that the run goes on from has not been looked
    at."""
    training, shape = recipe.file.training, recipe.shape(device)
    return SFTConfig(
        output_dir=str(output),
        seed=recipe.file.seed,
        use_cpu=device is Device.CPU,
        # The weights are loaded in the dtype that they are computed in; the adapter stays in fp32.
        bf16=False,
        gradient_checkpointing=shape.recompute,
        # One pass over the plan, which holds the passes over the rows.
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        per_device_train_batch_size=shape.rows_at_once,
        gradient_accumulation_steps=training.rows_per_step // shape.rows_at_once,
        per_device_eval_batch_size=shape.rows_at_once,
        learning_rate=training.learning_rate,
        lr_scheduler_type="cosine_warmup_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=training.warmup,
        optim="adamw_torch_fused",
        adam_beta1=0.9,
        adam_beta2=0.95,
        weight_decay=training.weight_decay,
        max_grad_norm=training.clip,
        # Rows are encoded, labelled and checked before.
        dataset_kwargs={"skip_prepare_dataset": True},
        # The trainer knows no weights, and would take them out.
        remove_unused_columns=False,
        max_length=None,
        packing=False,
        eval_strategy="steps",
        eval_steps=recipe.file.validation.every_steps,
        eval_on_start=look_first,
        # When to save is the watch's; without a strategy the trainer keeps no count of its own.
        save_strategy="no",
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        dataloader_pin_memory=device is Device.CUDA,
    )


def as_datasets(
    lessons: Lessons, steps: Sequence[Sequence[int]], *, choice_weight: float
) -> tuple[Dataset, Dataset]:
    """Training rows in the order of the plan, and validation rows."""
    return (
        _dataset(lessons.train, choice_weight).select([row for step in steps for row in step]),
        _dataset(lessons.valid, choice_weight),
    )


def _dataset(examples: Sequence[Example], choice_weight: float) -> Dataset:
    return Dataset.from_dict(
        {
            "input_ids": [list(example.input_ids) for example in examples],
            "labels": [list(example.labels) for example in examples],
            WEIGHTS: [
                [
                    choice_weight if place in example.choices else 1.0
                    for place in range(len(example.input_ids))
                ]
                for example in examples
            ],
        }
    )
