"""A set that nobody changes any more: its fingerprint and counts.

The fingerprint is the SHA-256 of `questions.jsonl` as it stands, so `sha256sum` gives the same.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from eval.errors import CaseFileError, StorageError
from eval.sets.questions import QUESTIONS, Question, read_questions, set_file, write_questions

MANIFEST = "manifest.json"
_FORMAT = 1
#: What counts are called where a question has no split, status or task type.
NONE = "none"


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What was frozen."""

    name: str
    sha256: str
    frozen_at: str
    questions: int
    clusters: int
    #: Split -> status -> task type -> questions.
    counts: Mapping[str, Mapping[str, Mapping[str, int]]]
    format: int = _FORMAT

    def as_json(self) -> dict[str, Any]:
        """Plain data for `manifest.json`."""
        return asdict(self)


def count(questions: Sequence[Question]) -> dict[str, dict[str, dict[str, int]]]:
    """Questions by split, status and task type."""
    counted = Counter(
        (question.split or NONE, question.status or NONE, question.task_type or NONE)
        for question in questions
    )
    table: dict[str, dict[str, dict[str, int]]] = {}
    for (split, status, task_type), n in sorted(counted.items()):
        table.setdefault(split, {}).setdefault(status, {})[task_type] = n
    return table


def freeze(folder: Path, *, now: Callable[[], datetime] = _now) -> Manifest:
    """Write the questions in canonical order, and the manifest beside them. Twice changes nothing."""
    if (known := check_frozen(folder)) is not None:
        return known
    questions = read_questions(folder / QUESTIONS)
    file = write_questions(folder, questions)
    manifest = Manifest(
        name=folder.resolve().name,
        sha256=_digest(file),
        frozen_at=now().isoformat(timespec="seconds"),
        questions=len(questions),
        clusters=len({question.cluster or question.id for question in questions}),
        counts=count(questions),
    )
    target = folder / MANIFEST
    try:
        target.write_bytes(orjson.dumps(manifest.as_json(), option=orjson.OPT_INDENT_2) + b"\n")
        target.chmod(0o444)
        file.chmod(0o444)
    except OSError as exc:
        raise StorageError(f"{target}: {exc.strerror}; make the folder writable or free space") from exc
    return manifest


def check_frozen(folder: Path) -> Manifest | None:
    """The manifest of a frozen set, None of one that is not; refuses a frozen set that was changed."""
    target = folder / MANIFEST
    if not target.exists():
        return None
    try:
        manifest = Manifest(**orjson.loads(target.read_bytes()))
    except (OSError, ValueError, TypeError) as exc:
        raise CaseFileError(
            file=target,
            what=f"not a manifest ({exc})",
            fix="restore it, or delete it and freeze the set again under a new name",
        ) from exc
    if manifest.format != _FORMAT:
        raise CaseFileError(
            file=target,
            field="format",
            what=f"is {manifest.format}, not {_FORMAT}",
            fix="freeze the set again under a new name",
        )
    found = _digest(folder / QUESTIONS)
    if found != manifest.sha256:
        raise CaseFileError(
            file=folder / QUESTIONS,
            what=f"changed since it was frozen on {manifest.frozen_at[:10]} "
            f"(sha256 {manifest.sha256[:12]} then, {found[:12]} now)",
            fix=f"restore it, or copy the folder without {MANIFEST} and freeze the copy as a new set",
        )
    return manifest


def frozen_sha256(path: Path) -> str | None:
    """The fingerprint of a frozen set; None of one that is not, and of other formats."""
    file = set_file(path)
    manifest = check_frozen(file.parent) if file else None
    return manifest.sha256 if manifest else None


def require_open(folder: Path) -> None:
    """Refuse to change a frozen set."""
    if (manifest := check_frozen(folder)) is not None:
        raise CaseFileError(
            file=folder,
            what=f"was frozen on {manifest.frozen_at[:10]} (sha256 {manifest.sha256[:12]})",
            fix=f"copy the folder without {MANIFEST} under a new name and change the copy",
        )


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as exc:
        raise CaseFileError(file=file, what=exc.strerror or "cannot be read", fix="restore it") from exc
