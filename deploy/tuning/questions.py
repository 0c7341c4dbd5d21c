"""The demo's questions: those that evaluation splits, and those written for training alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_DEMO = Path(__file__).parent.parent / "demo"
#: Split into train, dev and holdout by topic.
QUESTIONS = _DEMO / "questions"
#: More questions about the topics of the train split, for rows only. No other topic may stand here.
WRITTEN = _DEMO / "training" / "questions"


def read_questions(folder: Path, split: str) -> list[dict[str, Any]]:
    """The demo questions of one split, in file order."""
    rows = [
        json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()
    ]
    return [row for row in rows if row["split"] == split]
