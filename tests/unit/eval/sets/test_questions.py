from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from eval.cases import Case, CaseSet, load_cases
from eval.errors import CaseFileError
from eval.matching import missing_facts, stale_values_in
from eval.sets.questions import Question, canonical_bytes, read_questions, write_questions

ROW: dict[str, Any] = {
    "id": "q1",
    "text": "how much is plus?",
    "status": "answerable",
    "gold": ["plus-price"],
}
OLD = {"values": ["$8"], "valid_to": "2026-06-30"}
NEW = {"match": "number", "values": ["$9"], "valid_from": "2026-07-01"}


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_facts_are_expected_on_the_days_on_which_they_hold(tmp_path: Path) -> None:
    folder = write(tmp_path, {**ROW, "facts": [OLD, NEW]})
    (spring,) = load_cases(folder, as_of=date(2026, 6, 30))
    (summer,) = load_cases(folder, as_of=date(2026, 7, 1))
    assert (spring.facts, spring.stale_values) == ((("$8",),), ())
    assert missing_facts("Plus is $9.00 a month.", summer.facts) == ()
    assert missing_facts("Plus is $90 a year.", summer.facts) == ("$9",)
    assert stale_values_in("Plus is $8.", summer.stale_values) == ("$8",)


def test_an_answer_key_that_ran_out_is_unknown_and_not_empty(tmp_path: Path) -> None:
    (case,) = load_cases(write(tmp_path, {**ROW, "facts": [OLD]}), as_of=date(2026, 8, 1))
    assert (case.facts, case.facts_known, case.stale_values) == ((), False, ("$8",))


def test_a_fact_that_is_not_asked_for_is_a_side_one(tmp_path: Path) -> None:
    side = {"match": "set", "values": ["iOS", "Android"], "vital": False}
    folder = write(tmp_path, {**ROW, "facts": [NEW, side]})
    (case,) = load_cases(folder, as_of=date(2026, 7, 1))
    assert (case.vital_facts, case.side_facts) == ((("number:$9",),), (("iOS",), ("Android",)))
    (early,) = load_cases(folder, as_of=date(2026, 6, 30))
    assert (early.vital_facts, early.facts_known) == ((), False), "what is asked for is not known by then"


@pytest.mark.parametrize(
    ("fact", "right", "wrong"),
    [
        ({"values": ["14 days", "two weeks"]}, "The trial is two weeks long.", "The trial is a week long."),
        ({"match": "number", "values": ["14 days"]}, "It lasts two weeks.", "It lasts 15 days."),
        ({"match": "number", "values": ["$1,200"]}, "Pay 1200 dollars.", "Pay $120."),
        ({"match": "regex", "values": [r"error\s+E-?17"]}, "See Error E17.", "See error E18."),
        ({"match": "set", "values": ["iOS", "Android"]}, "On Android and iOS.", "On Android only."),
    ],
)
def test_each_kind_of_fact_is_told_from_its_neighbour(
    tmp_path: Path, fact: dict[str, Any], right: str, wrong: str
) -> None:
    (case,) = load_cases(write(tmp_path, {**ROW, "facts": [fact]}))
    assert missing_facts(right, case.facts) == ()
    (missing,) = missing_facts(wrong, case.facts)
    assert missing.strip("/") in fact["values"], "as a person reads it"


@pytest.mark.parametrize(
    ("status", "ending", "word"),
    [
        ("answerable", "answered", "answerable"),
        ("unanswerable", "abstained", "unanswerable"),
        ("must_refuse", "abstained", "must_refuse"),
        ("must_escalate", "escalated", "must_escalate"),
        (None, None, None),
    ],
)
def test_a_status_says_how_the_answer_should_end(
    tmp_path: Path, status: str | None, ending: str | None, word: str | None
) -> None:
    (case,) = load_cases(write(tmp_path, {"id": "q1", "text": "x?", "status": status}))
    assert (case.status, case.question_status) == (ending, word)


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"facts": [{"match": "regex", "values": ["a*"]}]}, "facts.0", "empty string"),
        ({"facts": [{"match": "regex", "values": [r".+"]}]}, "facts.0", "every text"),
        ({"facts": [{"match": "regex", "values": ["(plus"]}]}, "facts.0", "does not compile"),
        ({"facts": [{"match": "number", "values": ["a few"]}]}, "facts.0", "no number"),
        ({"facts": [{"match": "number", "values": ["$9 or $90"]}]}, "facts.0", "one fact for each"),
        ({"facts": [{"match": "set", "values": ["iOS"]}]}, "facts.0", "fewer than two"),
        ({"facts": [{"values": ["the"]}]}, "facts.0", "nearly every answer"),
        ({"facts": [{"values": []}]}, "facts.0.values", "at least 1"),
        ({"facts": [{"values": [" "]}]}, "facts.0.values.0", "at least 1"),
        (
            {"facts": [{"values": ["x1"], "valid_from": "2026-03-01", "valid_to": "2026-02-01"}]},
            "facts.0",
            "swap or correct",
        ),
        ({"status": "unanswerable"}, "", "gold is not empty"),
        ({"facts": [{"values": ["$9"]}], "stale_values": ["$9.00"]}, "", "remove it from one"),
        ({"split": "test"}, "split", "'gate'"),
        ({"colour": "red"}, "colour", "question-sets.md"),
    ],
)
def test_a_bad_question_is_named_with_file_line_field_and_fix(
    tmp_path: Path, change: dict[str, Any], field: str, words: str
) -> None:
    folder = write(tmp_path, {"id": "q0", "text": "fine?"}, {**ROW, **change})
    with pytest.raises(CaseFileError) as caught:
        load_cases(folder)
    assert (caught.value.file, caught.value.line) == (folder / "questions.jsonl", 2)
    assert caught.value.field == field
    assert words in str(caught.value)
    assert "; " in str(caught.value)


def test_duplicate_ids_name_both_places(tmp_path: Path) -> None:
    with pytest.raises(CaseFileError, match=r":2: field 'id'.*questions\.jsonl:1"):
        load_cases(write(tmp_path, ROW, ROW))


def test_an_empty_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseFileError, match="holds no question"):
        load_cases(write(tmp_path))


def test_what_is_written_is_read_back_and_always_the_same_bytes(tmp_path: Path) -> None:
    rows = [{**ROW, "facts": [OLD, NEW]}, {"id": "q0", "text": "and yearly?", "asked_at": "2026-05-01"}]
    questions = [Question.model_validate_json(json.dumps(row)) for row in rows]
    file = write_questions(tmp_path / "new", questions)
    assert read_questions(file) == tuple(reversed(questions))
    assert canonical_bytes(questions) == canonical_bytes(questions[::-1]) == file.read_bytes()


def test_a_field_that_is_not_filled_in_keeps_the_digests_of_older_runs() -> None:
    case = Case(id="a", topic="t", split="dev", text="a")
    assert CaseSet.of("x", [case]).sha256.startswith("a870f2b73f54b9e652d3")
    assert CaseSet.of("x", [replace(case, task_type="b")]).sha256 != CaseSet.of("x", [case]).sha256


def test_another_format_may_call_its_file_questions(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"text": "weather?", "gold": []}\n')
    (case,) = load_cases(file)
    assert (case.id, case.status) == ("questions-1", "abstained")
