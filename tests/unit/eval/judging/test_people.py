"""Which of people's labels measure a judge, and which are left out, with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval.errors import CaseFileError
from eval.judging.evidence import subjects
from eval.judging.judge import load_judge
from eval.judging.judgements import Item
from eval.judging.people import of_run, read_labelled, read_readings
from tests.unit.eval.judging.runs import PLUS, judge, judge_file, small_run


def labels(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(answer: str, label: str, **more: Any) -> dict[str, Any]:
    return {"question": "price?", "contexts": ["Plus is $9."], "answer": answer, "label": label, **more}


def test_labels_of_people_become_yes_and_no(tmp_path: Path) -> None:
    file = labels(tmp_path, row("a", "grounded"), row("b", "ungrounded"), row("c", "partial"))
    found = read_labelled(judge(tmp_path), file)
    assert [(one.item.evidence["answer"], one.good) for one in found.rows] == [
        ("a", True),
        ("b", False),
        ("c", False),
    ]
    assert found.left_out == {}
    assert found.source == "labels.jsonl"


def test_what_measures_nothing_is_left_out_and_counted(tmp_path: Path) -> None:
    file = labels(
        tmp_path,
        row("a", "generic"),
        row("b", "grounded", annotator="synthetic (some model)"),
        row("c", "grounded", annotator="human (3 raters)"),
        {**row("d", "grounded"), "contexts": []},
        row("c", "grounded"),
        row("e", "grounded"),
        row("e", "ungrounded"),
    )
    found = read_labelled(judge(tmp_path), file)
    assert [one.item.evidence["answer"] for one in found.rows] == ["c"]
    assert found.left_out == {
        "label generic": 1,
        "no passages": 1,
        "not labelled by a person": 1,
        "people differ": 1,
        "the same answer again": 2,
    }


def test_the_judges_file_says_what_words_mean(tmp_path: Path) -> None:
    text = 'name = "tone"\nprompt = "tone"\nneeds = ["answer"]\n[labels]\nyes = ["kind"]\nno = ["rude"]\n'
    tone = load_judge(judge_file(tmp_path, text), url="http://a.invalid", model="m")
    found = read_labelled(tone, labels(tmp_path, row("a", "kind"), row("b", "rude"), row("c", "grounded")))
    assert [one.good for one in found.rows] == [True, False]
    assert found.rows[0].item.evidence == {"answer": "a"}


def test_the_digest_of_the_labels_changes_with_a_label(tmp_path: Path) -> None:
    one = read_labelled(judge(tmp_path), labels(tmp_path, row("a", "grounded"), row("b", "grounded")))
    other = read_labelled(judge(tmp_path), labels(tmp_path, row("a", "grounded"), row("b", "ungrounded")))
    assert one.sha256 != other.sha256


def test_a_broken_row_is_told_with_its_line(tmp_path: Path) -> None:
    file = labels(tmp_path, row("a", "grounded"), {"answer": "b"})
    with pytest.raises(CaseFileError, match=r"labels.jsonl:2: field 'label'"):
        read_labelled(judge(tmp_path), file)


def test_readers_of_a_run_are_matched_with_its_answers(tmp_path: Path) -> None:
    data = small_run(tmp_path / "run", {"rag": ["Plus is $9.", "Plus is $7.", "We are closed."]})
    found = list(subjects(data, judge(tmp_path), wordings=("We  are closed.",)))
    items = {(one.seen.case_id, one.seen.arm): one.item for one in found if one.item}
    file = labels(
        tmp_path,
        {"case_id": "q000", "arm": "rag", "label": "passed"},
        {"case_id": "q001", "arm": "rag", "label": "wrong_tone", "others": ["hallucination"]},
        {"case_id": "q002", "arm": "rag", "label": "passed"},
        {"case_id": "q999", "arm": "rag", "label": "passed"},
    )
    read = of_run(judge(tmp_path), items, read_readings(file), source="readers")
    assert [(one.item.id, one.good) for one in read.rows] == [("q000/rag", True), ("q001/rag", False)]
    assert read.left_out == {"not an answer of this run that the question applies to": 2}


def test_a_finer_fault_that_says_nothing_of_the_question_is_left_out(tmp_path: Path) -> None:
    item = Item(id="q/rag", evidence={"answer": "a"})
    read = of_run(
        judge(tmp_path), {("q", "rag"): item}, [(("q", "rag"), ("weak_reasoning",))], source="readers"
    )
    assert read.rows == ()
    assert read.left_out == {"label weak_reasoning": 1}


def test_the_evidence_is_what_the_model_was_shown(tmp_path: Path) -> None:
    data = small_run(tmp_path / "run", {"rag": ["Plus is $9."]})
    (subject,) = subjects(data, judge(tmp_path), wordings=())
    assert subject.item is not None
    assert subject.item.evidence == {
        "question": "plus, 0",
        "passages": [f"{PLUS.passage.title}\n{PLUS.passage.text}"],
        "answer": "Plus is $9.",
    }
