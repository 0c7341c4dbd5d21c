"""`twinrail tune dataset` as it is called: what it writes, says and ends with."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from deploy.cli import main
from deploy.output import Output
from tests.fakes.support_rows import exported, row, rows, write_rows


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TWINRAIL_HOME", str(tmp_path / "home"))


def run(*arguments: object) -> tuple[int, str, str]:
    stdout, stderr = io.StringIO(), io.StringIO()
    code = main(["tune", "dataset", *map(str, arguments)], Output(stdout=stdout, stderr=stderr))
    return code, stdout.getvalue(), stderr.getvalue()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", rows(120))


def test_a_dataset_is_made_of_exports_and_files(tmp_path: Path, source: Path) -> None:
    (tmp_path / "march").mkdir()
    write_rows(tmp_path / "march" / "training.jsonl", [exported(number) for number in range(200, 240)])
    code, said, told = run(tmp_path / "set", source, tmp_path / "march", "--for", "wrong_tone")
    assert code == 0
    manifest = json.loads((tmp_path / "set" / "dataset.json").read_text())
    assert said.strip() == manifest["sha256"]
    assert manifest["sources"] == {"rows.jsonl": 120, "training.jsonl": 40}
    assert manifest["mends"] == ["wrong_tone"]
    assert "[7/8] leak test" in told
    assert "mind: token lengths were not checked" in told


def test_a_dry_run_says_the_same_and_writes_nothing(tmp_path: Path, source: Path) -> None:
    code, said, _ = run(tmp_path / "set", source, "--dry-run", "--json")
    assert code == 0
    assert json.loads(said)["dataset"]["rows"]["test"] > 0
    assert not (tmp_path / "set").exists()


def test_shares_and_negatives_are_taken_from_the_command_line(tmp_path: Path, source: Path) -> None:
    code, said, _ = run(
        tmp_path / "set", source, "--json", "--shares", "valid=0.2,test=0.3", "--negatives", "stale=0.5"
    )
    assert code == 0
    splits = json.loads(said)["splits"]
    assert [splits[name]["kinds"]["served"] for name in ("train", "valid", "test")] == [60, 24, 36]
    assert {kind for split in splits.values() for kind in split["kinds"]} == {"served", "stale"}


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (
            ("--for", "wrong_retrieval"),
            1,
            "training does not mend wrong_retrieval; instead, improve retrieval",
        ),
        (("--for", "rudeness"), 2, "'rudeness' is no failure"),
        (("--least", "500"), 4, "120 rows are left, and 500 are needed"),
        (("--negatives", "lies=0.1"), 2, "--negatives: 'lies' is none of"),
        (("--negatives", "stale=much"), 2, "must be stale=NUMBER"),
        (("--shares", "test=0.9"), 2, "give a share from 0 to 0.5"),
        (("--shares", "test=0"), 2, "give each more than 0"),
        (("--base", "/nowhere"), 2, "holds no tokenizer.json"),
        (("--region", "XX"), 2, "XX: no such country"),
        (("--recipe", "/nowhere.yaml"), 2, "nowhere.yaml"),
        (("--against", "/nowhere.jsonl"), 2, "nowhere.jsonl: no such file"),
    ],
)
def test_what_cannot_be_made_is_said_with_its_code(
    tmp_path: Path, source: Path, options: tuple[str, ...], code: int, told: str
) -> None:
    ended, said, words = run(tmp_path / "set", source, *options)
    assert (ended, said) == (code, "")
    assert told in words
    assert not (tmp_path / "set").exists()


def test_a_held_out_question_ends_with_one_and_both_names(tmp_path: Path, source: Path) -> None:
    held_out = write_rows(
        tmp_path / "gate.jsonl", [{"id": "q7", "text": row(7)["question"], "split": "gate"}]
    )
    code, _, told = run(tmp_path / "set", source, "--against", held_out)
    assert code == 1
    assert "'row-0007' asks what 'gate.jsonl/q7' asks" in told
    assert run(tmp_path / "set", source, "--against", held_out, "--drop-held-out")[0] == 0
