"""The log of who looked at the holdout: one for each set, of runs and of gates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from eval.errors import CaseFileError, StorageError
from eval.sets.freezing import check_frozen, freeze
from eval.sets.openings import Kind, Opening, OpeningLog, first_by_run, opens_holdout

RUN = Opening(
    kind=Kind.RUN,
    at="2026-03-01T12:00:00+00:00",
    who="ann",
    run="first",
    versions=("k-1@7", "m-base-1", "m-support-1"),
    questions="set",
    sha256="0" * 64,
)
GATE = replace(RUN, kind=Kind.GATE, versions=("m-support-1",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "set"
    found.mkdir()
    (found / "questions.jsonl").write_text('{"id": "a", "text": "how much is plus?", "split": "holdout"}\n')
    return found


def test_runs_and_gates_stand_in_one_log_beside_the_questions(folder: Path, tmp_path: Path) -> None:
    manifest = freeze(folder)
    runs = tmp_path / "runs"
    assert OpeningLog(str(folder), runs=runs).add(RUN) == ()
    # A gate on the same run looks at what that run has shown.
    assert OpeningLog(str(folder / "questions.jsonl"), runs=runs).add(GATE) == ()
    assert OpeningLog(str(folder), runs=runs).read() == (RUN, GATE)
    assert not runs.exists()
    assert check_frozen(folder) == manifest, "the log is beside the set, not part of it"


def test_what_other_runs_looked_at_is_told(folder: Path, tmp_path: Path) -> None:
    log = OpeningLog(str(folder), runs=tmp_path)
    log.add(RUN)
    log.add(GATE)
    before = log.add(replace(GATE, run="second"))
    assert before == (RUN, GATE)
    assert first_by_run(before) == (RUN,)


def test_the_same_look_again_is_logged_once(folder: Path, tmp_path: Path) -> None:
    log = OpeningLog(str(folder), runs=tmp_path)
    log.add(GATE)
    assert log.add(replace(GATE, at="2026-03-02T12:00:00+00:00")) == ()
    assert log.read() == (GATE,)
    other = replace(GATE, versions=("m-support-2",))
    log.add(other)
    assert log.read() == (GATE, other)


def test_an_opening_is_of_a_version_in_whatever_snapshot() -> None:
    assert RUN.concerns("k-1@9")
    assert RUN.concerns("k-1")
    assert not RUN.concerns("k-10")
    assert not GATE.concerns("m-base-1")


def test_other_formats_share_a_log_beside_the_runs(tmp_path: Path) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text('{"text": "a", "gold": []}\n')
    runs = tmp_path / "runs"
    log = OpeningLog(str(file), runs=runs)
    log.add(replace(RUN, questions=str(file)))
    assert log.path == runs / "openings.jsonl"
    assert len(log.read()) == 1
    assert OpeningLog("others.jsonl", runs=runs).add(replace(RUN, questions="others.jsonl", run="x")) == ()
    assert len(OpeningLog("others.jsonl", runs=runs).read()) == 1


def test_a_set_that_was_copied_keeps_its_openings(folder: Path, tmp_path: Path) -> None:
    OpeningLog(str(folder), runs=tmp_path).add(RUN)
    moved = folder.rename(tmp_path / "elsewhere")
    assert OpeningLog(str(moved), runs=tmp_path).read() == (RUN,)


@pytest.mark.parametrize("line", ["{}", "[1]", "not JSON", '{"kind": "glance"}'])
def test_a_broken_log_is_an_error_and_not_an_empty_one(folder: Path, tmp_path: Path, line: str) -> None:
    (folder / "openings.jsonl").write_text(line + "\n")
    with pytest.raises(CaseFileError, match=r"openings\.jsonl:1: not an opening"):
        OpeningLog(str(folder), runs=tmp_path).add(GATE)


def test_what_cannot_be_logged_is_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StorageError, match="must be logged"):
        OpeningLog("asked.jsonl", runs=tmp_path / "runs").add(RUN)


def test_only_the_holdout_counts() -> None:
    assert opens_holdout(["dev", "holdout"])
    assert not opens_holdout(["dev", "gate", ""])
