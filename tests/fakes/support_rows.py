"""Rows of a made-up help centre, as many as are asked for, of which no two have anything in common."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_THINGS = """
    kettle ladder window garden bicycle carpet mirror pillow candle basket
    hammer blanket curtain drawer engine freezer guitar heater jacket keyboard
    lantern mattress needle oven piano quilt radio scooter teapot umbrella
"""
_DOINGS = """
    borrow exchange polish admire repaint donate assemble inspect shorten lend
    recycle stitch photograph weigh wrap deliver measure collect sharpen resell
"""
THINGS, DOINGS = _THINGS.split(), _DOINGS.split()


def row(number: int, **changes: Any) -> dict[str, Any]:
    """Row of that number as `twinrail tune dataset` reads it."""
    thing = THINGS[number % len(THINGS)]
    doing = DOINGS[(number // len(THINGS) + number) % len(DOINGS)]
    days, title = 3 + number, f"{doing.capitalize()} a {thing}"
    fact = f"You may {doing} your {thing} within {days} days."
    return {
        "id": f"row-{number:04}",
        "question": f"{doing} {thing} {number % 7 * '?'}".strip(),
        "passages": [
            {"title": title, "text": f"About the {thing}.\n\n{fact}", "effective_from": "2026-03-01"},
            {"title": f"Rooms {number}", "text": f"Hall {number} is open to visitors.", "effective_from": ""},
        ],
        "wanted": {
            "answer": fact,
            "citations": [1],
            "intent": ("how_to", "policy", "limits")[number % 3],
            "escalate": False,
            "escalation_reason": "none",
            "follow_up": "",
        },
        **changes,
    }


def rows(count: int) -> list[dict[str, Any]]:
    """The first rows; at most 600 are distinct."""
    return [row(number) for number in range(count)]


def write_rows(path: Path, lines: Iterable[Mapping[str, Any]]) -> Path:
    """The rows as a JSONL file."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def exported(number: int, **changes: Any) -> dict[str, Any]:
    """The same row as `twinrail eval export` writes it."""
    plain = row(number)
    return {
        "format": 1,
        "id": f"turn-{number:012}",
        "kind": "positive",
        "question": plain["question"],
        "history": [],
        "passages": plain["passages"],
        "answer": plain["wanted"],
        "missing_fields": [],
        "unsupported": [],
        "rejected": None,
        "status": "answered",
        "expected_status": "answered",
        "task_type": "policy",
        "label": "wrong_tone",
        "sub": "",
        "cluster": f"cluster {number}",
        "asker": "customer",
        "conversation_id": f"c-{number}",
        "created_at": f"2026-{1 + number // 28 % 12:02}-{1 + number % 28:02}T09:00:00+00:00",
        "versions": {},
        "provenance": {"turn_id": f"0000-{number:012}", "ending": "training_example"},
        **changes,
    }
