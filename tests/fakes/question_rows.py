"""Questions in the demo's form: one asks what Sync Plus costs unless a test says otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

RIGHT = "Sync Plus is $9 a month."
#: Of questions that are numbered within each.
TOPICS = ("plans", "prices", "trials", "limits")


def question_row(id_: str, *, topic: str, text: str, **given: Any) -> dict[str, Any]:
    """A row of `deploy/demo/questions`."""
    row = {
        "id": id_,
        "topic": topic,
        "split": "dev",
        "text": text,
        "asker": "customer",
        "kind": "answerable",
        "gold": ["plus"],
        "facts": [["$9"]],
        "stale_values": [],
        "status": "answered",
        "intent": "billing",
        "escalate": False,
        "escalation_reason": "none",
        "answer": RIGHT,
        "follow_up": "",
    }
    return {**row, **given}


def write_topics(folder: Path, topics: Mapping[str, Iterable[Mapping[str, Any]]]) -> Path:
    """A file for each topic, as the demo has them."""
    folder.mkdir(parents=True, exist_ok=True)
    for topic, rows in topics.items():
        (folder / f"{topic}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write_questions(
    folder: Path, *, each: int, given: Callable[[int], Mapping[str, Any]] = lambda _number: {}
) -> Path:
    """So many questions on each of four topics; `given` says what differs, by number within the topic."""
    return write_topics(
        folder,
        {
            topic: [
                question_row(f"{topic}-{n:02d}", topic=topic, text=f"{topic} question {n}", **given(n))
                for n in range(each)
            ]
            for topic in TOPICS
        },
    )
