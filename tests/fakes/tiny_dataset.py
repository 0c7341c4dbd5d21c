"""A tuning dataset of ten rows, with a recipe that a tiny model trains in a second."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from serving.examples import Row, parse_row
from serving.tuning.dataset_folder import Manifest, fingerprint, write_dataset
from serving.versions import SCHEMAS, load_task_schema, sha256_of

SCHEMA = load_task_schema(SCHEMAS / "support_answer.json")
VALUES = ("$9", "$14", "14 days", "20", "30 days", "$99", "3", "12 months", "50 GB", "2")
KNOBS: Mapping[str, Any] = {
    "name": "values",
    "schema": "support_answer",
    "prompt": "prompt.yaml",
    "prompt_budget_tokens": 700,
    "lora": {"rank": 4, "alpha": 8},
    "training": {"epochs": 3.0, "rows_per_step": 4, "max_row_tokens": 2000},
    "validation": {"every_steps": 3, "patience": 5},
    "devices": {"cpu": {"dtype": "float32", "rows_at_once": 2}},
    "checkpoint_every_steps": 2,
}


def row(n: int, value: str, **wanted: Any) -> Row:
    """One question whose answer is the value."""
    fields = {"answer": f"It is {value}.", "citations": [1], "intent": "limits", "escalate": False}
    fields |= {"escalation_reason": "none", "follow_up": "", **wanted}
    passage = {"n": 1, "title": "Plans", "text": f"The value is {value}."}
    raw = {"id": f"r{n}", "question": f"What is value {n}?", "passages": [passage], "wanted": fields}
    return parse_row(raw, "here", SCHEMA)


ROWS = tuple(row(n, value) for n, value in enumerate(VALUES))


def write_tiny_dataset(
    folder: Path, train: tuple[Row, ...] = ROWS[:8], valid: tuple[Row, ...] = ROWS[8:]
) -> Path:
    """A dataset folder of those rows."""
    splits = {"train": train, "valid": valid, "test": ()}
    manifest = Manifest(
        name="values",
        task="support_answer",
        sha256=fingerprint(splits),
        schema_sha256=sha256_of(SCHEMA),
        rows={name: len(rows) for name, rows in splits.items()},
        rejected=0,
        sources={"values.jsonl": 10},
        seed=0,
        mends=("bad_format",),
        settings={},
        held_out={},
    )
    write_dataset(folder, splits, [], manifest, {}, "")
    return folder


def write_tiny_recipe(folder: Path, **blocks: Any) -> Path:
    """A recipe file with its prompt beside it; `blocks` change settings of its blocks."""
    knobs = {
        name: {**value, **blocks.get(name, {})} if isinstance(value, dict) else value
        for name, value in KNOBS.items()
    }
    (folder / "prompt.yaml").write_text("name: short\nsystem: Answer as JSON.\n", encoding="utf-8")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(knobs), encoding="utf-8")
    return folder / "recipe.yaml"
