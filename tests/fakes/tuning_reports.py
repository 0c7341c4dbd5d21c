"""A report of `twinrail tune evaluate`, as short as one can be that passes for it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson


def tuning_report(version: str, verdict: str = "pass", **other: Any) -> dict[str, Any]:
    """The content; `other` replaces fields. Without its digest."""
    reasons = {"refused": "refusals", "not_enough": "lacks"}
    return {
        "format": 1,
        "gate": "tuning",
        "version": version,
        "verdict": verdict,
        "sentence": f"{verdict}: {version}.",
        "refusals": [],
        "lacks": [],
        **({reasons[verdict]: ["a reason"]} if verdict in reasons else {}),
        "arms": {"candidate": {"version": version, "kind": "hybrid", "pin": {"model": version}}},
        "question_set": {"name": "test", "sha256": "ab" * 32, "questions": 40},
        "trained_on": {"sha256": None, "rows": 120},
        "metrics": [{"name": "fields_right"}],
        "gates": {"strong": {"verdict": verdict, "sentence": ""}},
        "rules": {"name": "tuning"},
        **other,
    }


def write_tuning_report(folder: Path, content: Mapping[str, Any], *, name: str = "report.json") -> Path:
    """The file, with the digest of the content in it."""
    digest = hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()
    path = folder / name
    path.write_bytes(orjson.dumps({**content, "sha256": digest}))
    return path
