"""Rows about other, invented companies: what is asked for, not what the demo's articles say.

Training questions may only be about the topics of the train split, which have next to no account, policy,
security or cancellation in them. What such a question is called is the same at a bank or a gym, and nothing
of the demo's other topics is given away.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from deploy.tuning.questions import WRITTEN
from serving.prompting import Passage

ELSEWHERE: Final = WRITTEN.parent / "elsewhere.jsonl"
#: The day from which their sentences hold: any, since none of them is superseded.
_SINCE: Final = "2026-03-01"
_LABELS: Final = ("intent", "escalate", "escalation_reason", "status")


def read_elsewhere(path: Path = ELSEWHERE) -> list[dict[str, Any]]:
    """The cases, in file order."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def as_question(case: Mapping[str, Any]) -> dict[str, Any]:
    """The case as a question of the demo: its facts are the sentences that answer it, word for word."""
    told = [case["sentences"][n - 1]["text"] for n in case["answer"]]
    return {
        **{name: case[name] for name in _LABELS},
        "id": case["id"],
        "text": case["question"],
        "facts": [[text] for text in told],
        "answer": "",
        "follow_up": "",
    }


def passages_of(case: Mapping[str, Any]) -> tuple[Passage, ...]:
    """Its sentences as the prompt shows them."""
    return tuple(
        Passage(
            n=n,
            title=each["title"],
            text=each["text"],
            start=0,
            end=len(each["text"]),
            effective_from=_SINCE,
            heading=each["heading"],
            weak=each["weak"],
        )
        for n, each in enumerate(case["sentences"], 1)
    )
