"""What a run trains on, and in which order: rows as tokens, checked, and the steps that they make.

The plan follows from the recipe and the lengths of the rows alone, so it is the same on every device.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.errors import ExampleError
from serving.examples import (
    IGNORED,
    ChatTokenizer,
    Example,
    Row,
    check_example,
    check_row,
    chosen_fields,
    encode,
)
from serving.tuning.dataset_folder import Dataset
from serving.tuning.recipe import Device, Recipe
from serving.versions import canonical_json

#: Refused rows that an error names; the count says how many there are.
_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """The rows of a dataset as tokens."""

    train: Sequence[Example]
    #: Those that are looked at, shortest first.
    valid: Sequence[Example]

    @property
    def tokens(self) -> int:
        """All tokens of the training rows."""
        return sum(len(example.input_ids) for example in self.train)

    @property
    def trained_tokens(self) -> int:
        """Those of them that the loss is over."""
        return sum(label != IGNORED for example in self.train for label in example.labels)

    @property
    def longest(self) -> int:
        """Tokens of the longest training row."""
        return max(len(example.input_ids) for example in self.train)


def prepare(
    dataset: Dataset, folder: Path, recipe: Recipe, tokenizer: ChatTokenizer, fixed_wordings: Sequence[str]
) -> Lessons:
    """Check and encode the rows; refuse what nothing can be learnt from."""
    require_enough(dataset, folder, recipe)
    valid = sorted(dataset.valid, key=lambda row: row.id)
    random.Random(recipe.file.seed).shuffle(valid)
    valid = valid[: recipe.file.validation.rows]
    train = _encoded(dataset.train, f"{folder}/train.jsonl", recipe, tokenizer, fixed_wordings)
    looked_at = _encoded(valid, f"{folder}/valid.jsonl", recipe, tokenizer, fixed_wordings)
    return Lessons(train=train, valid=sorted(looked_at, key=lambda example: len(example.input_ids)))


def require_enough(dataset: Dataset, folder: Path, recipe: Recipe) -> None:
    """Refuse a dataset that is empty, a single row, or one answer over and over."""
    rows, least = len(dataset.train), max(2, recipe.file.training.rows_per_step)
    if rows < least:
        raise ExampleError(
            f"{folder}: train.jsonl holds {rows} rows, and one step of this recipe takes {least}; "
            "add rows (some hundred are what has been seen to work)"
        )
    if not dataset.valid:
        raise ExampleError(
            f"{folder}: valid.jsonl holds no rows, so nothing would say when to stop; make the dataset again "
            "with a share for validation"
        )
    if len({canonical_json(dict(row.wanted)) for row in dataset.train}) == 1:
        raise ExampleError(
            f"{folder}: all {rows} rows of train.jsonl want the same answer, so a model would learn "
            "to ignore the question; add rows that want others"
        )


def steps_of(lengths: Sequence[int], recipe: Recipe) -> list[list[int]]:
    """Steps -> rows by their places. Rows of alike length lie together in groups as wide as a micro-batch on
    CPU, where padding costs most; each row is seen once in a pass."""
    training, width = recipe.file.training, recipe.shape(Device.CPU).rows_at_once
    dice = random.Random(recipe.file.seed)
    whole, part = divmod(training.epochs, 1)
    groups: list[list[int]] = []
    left: list[int] = []
    for share in [1.0] * int(whole) + ([part] if part else []):
        rows = list(range(len(lengths)))
        dice.shuffle(rows)
        # What fills no group waits for the next pass, so that only the last group of all is short.
        rows = left + rows[: max(1, round(len(rows) * share))]
        full = len(rows) - len(rows) % width
        rows, left = rows[:full], rows[full:]
        rows.sort(key=lambda row: lengths[row])
        alike = [rows[n : n + width] for n in range(0, full, width)]
        dice.shuffle(alike)
        groups += alike
    if left:
        groups.append(left)
    in_step = training.rows_per_step // width
    steps = [
        [row for group in groups[n : n + in_step] for row in group] for n in range(0, len(groups), in_step)
    ]
    return steps[: training.max_steps]


def _encoded(
    rows: Sequence[Row], where: str, recipe: Recipe, tokenizer: ChatTokenizer, fixed_wordings: Sequence[str]
) -> list[Example]:
    examples, refused = [], []
    for row in rows:
        example = encode(row, recipe.prompt, tokenizer, chosen=chosen_fields(recipe.schema))
        problems = check_row(row, recipe.schema, fixed_wordings=fixed_wordings)
        problems += check_example(example, tokenizer, max_tokens=recipe.file.training.max_row_tokens)
        if problems:
            refused.append(f"{row.id}: {'; '.join(problems)}")
        examples.append(example)
    if refused:
        more = f" and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
        raise ExampleError(
            f"{where}: {len(refused)} of {len(rows)} rows may not be trained on: "
            f"{' | '.join(refused[:_NAMED])}{more}; mend them, or make the dataset again"
        )
    return examples
