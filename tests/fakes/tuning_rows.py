"""Datasets of a few rows, as `twinrail tune dataset` leaves them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from serving.examples import Row
from serving.prompting import Passage
from serving.tuning.dataset_folder import Manifest, fingerprint, write_dataset
from serving.versions import SCHEMAS, load_task_schema, sha256_of

WANTED = {
    "answer": "Nobody knows.",
    "citations": [1],
    "intent": "policy",
    "escalate": False,
    "escalation_reason": "none",
    "follow_up": "",
}


def write_dataset_of(folder: Path, questions: Sequence[str], *, task: str = "support_answer") -> str:
    """A row a question, all of them trained on; the fingerprint."""
    schema = load_task_schema(SCHEMAS / f"{task}.json")
    splits: dict[str, list[Row]] = {
        "train": [_row(n, question) for n, question in enumerate(questions)],
        "valid": [],
        "test": [],
    }
    digest = fingerprint(splits)
    manifest = Manifest(
        name=folder.name,
        task=task,
        sha256=digest,
        schema_sha256=sha256_of(schema),
        rows={name: len(rows) for name, rows in splits.items()},
        rejected=0,
        sources={},
        seed=1,
        mends=(),
        settings={},
        held_out={},
    )
    write_dataset(folder, splits, [], manifest, {}, "")
    return digest


def _row(number: int, question: str) -> Row:
    text = "Nobody knows this."
    return Row(
        id=f"row-{number}",
        question=question,
        passages=(Passage(n=1, title="Office", text=text, start=0, end=len(text)),),
        wanted=WANTED,
    )
