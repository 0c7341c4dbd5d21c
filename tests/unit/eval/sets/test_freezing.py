from __future__ import annotations

import hashlib
import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from eval.cases import load_cases
from eval.errors import CaseFileError
from eval.sets.freezing import check_frozen, freeze, require_open

AT = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [
        {"id": "b", "text": "two?", "split": "gate", "status": "unanswerable", "cluster": "trial"},
        {"id": "a", "text": "one?", "split": "dev", "status": "answerable", "task_type": "billing"},
        {"id": "c", "text": "three?", "split": "gate", "cluster": "trial"},
    ]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_a_frozen_set_has_a_fingerprint_and_counts(folder: Path) -> None:
    manifest = freeze(folder, now=lambda: AT)
    content = (folder / "questions.jsonl").read_bytes()
    assert manifest.sha256 == hashlib.sha256(content).hexdigest()
    assert [json.loads(line)["id"] for line in content.splitlines()] == ["a", "b", "c"]
    assert manifest.counts == {
        "dev": {"answerable": {"billing": 1}},
        "gate": {"none": {"none": 1}, "unanswerable": {"none": 1}},
    }
    assert (manifest.questions, manifest.clusters, manifest.frozen_at[:10]) == (3, 2, "2026-11-01")
    assert stat.S_IMODE((folder / "manifest.json").stat().st_mode) == 0o444
    assert check_frozen(folder) == manifest
    assert freeze(folder) == manifest, "freezing again changes nothing"
    assert len(load_cases(folder)) == 3


@pytest.mark.parametrize("change", ['{"id": "d", "text": "four?"}\n', "\n"])
def test_any_later_change_is_refused_with_the_reason(folder: Path, change: str) -> None:
    freeze(folder, now=lambda: AT)
    file = folder / "questions.jsonl"
    file.chmod(0o644)
    file.write_text(file.read_text() + change)
    with pytest.raises(CaseFileError, match=r"changed since it was frozen on 2026-11-01.*freeze the copy"):
        load_cases(folder)
    with pytest.raises(CaseFileError, match="changed since"):
        load_cases(file)


def test_a_frozen_set_cannot_be_written_to(folder: Path) -> None:
    require_open(folder)
    freeze(folder, now=lambda: AT)
    with pytest.raises(CaseFileError, match="copy the folder without"):
        require_open(folder)


def test_a_broken_manifest_is_no_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(CaseFileError, match="not a manifest"):
        load_cases(folder)
