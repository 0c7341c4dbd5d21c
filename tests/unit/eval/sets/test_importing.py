from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from eval.cases import load_cases
from eval.client import Recorded
from eval.errors import CaseFileError, UnknownRegionError
from eval.sets.command import redactor_of
from eval.sets.freezing import freeze
from eval.sets.importing import add_questions, existing, questions_of_cases, questions_of_turns, save
from eval.sets.questions import Question
from serving.redaction import Redactor

ROOT = Path(__file__).parents[4]


def question(name: str, text: str, **fields: object) -> Question:
    return Question.model_validate({"id": name, "text": text, **fields})


NEW = [
    question("a", "My name is Ann Lee, how do I cancel my subscription?"),
    question("b", "cancel subscription, ann@mail.example"),
    question("c", "where is my invoice for March"),
    question("d", "Where is my invoice for march?"),
    question("e", "where is my invoice for March please"),
]


def test_questions_are_redacted_kept_once_and_clustered() -> None:
    imported = add_questions([], NEW, redactor=Redactor())
    a, b, c, e = imported.questions
    assert a.text == "My name is [name], how do I cancel my subscription?"
    assert (imported.read, imported.added, imported.repeated) == (5, 4, 1)
    assert imported.redacted == {"email": 1, "name": 1}
    assert a.cluster == b.cluster != c.cluster == e.cluster
    assert [(pair.first, pair.second) for pair in imported.near] == [("c", "e")]


def test_what_is_there_keeps_its_cluster_and_gives_it_to_its_like() -> None:
    known = [question("old", "how to cancel the subscription", cluster="leaving", split="dev")]
    imported = add_questions(known, NEW, redactor=None)
    assert imported.questions[0] == known[0]
    assert {each.id: each.cluster for each in imported.questions}["a"] == "leaving"
    assert imported.questions[1].text.startswith("My name is Ann")
    again = add_questions(imported.questions, NEW, redactor=None)
    assert (again.added, again.questions) == (0, imported.questions)


def test_an_id_that_means_another_question_is_refused() -> None:
    with pytest.raises(CaseFileError, match="is another question of the set already"):
        add_questions([question("a", "something else")], NEW[:1], redactor=None)


def turn(n: int, text: str, conversation: str, *documents: str) -> Recorded:
    return Recorded(
        id=f"0190c6f5-0000-7000-8000-{n:012d}",
        conversation_id=conversation,
        question=text,
        filters={},
        asked_at=f"2026-03-01T10:00:{n:02d}Z",
        answer=f"answer {n}",
        documents=documents,
    )


def test_turns_of_a_conversation_know_what_was_said_before() -> None:
    turns = [
        ("customer", turn(2, "and yearly?", "c1", "plus")),
        ("customer", turn(1, "how much is plus?", "c1", "plus", "team")),
        ("staff", turn(3, "credit limit?", "c2")),
        ("customer", turn(4, " ", "c3")),
    ]
    questions, found = questions_of_turns(turns)
    first, second, third = questions
    assert [(each.text, each.asker) for each in questions] == [
        ("how much is plus?", "customer"),
        ("and yearly?", "customer"),
        ("credit limit?", "staff"),
    ]
    assert first.history == ()
    assert [(said.role, said.text) for said in second.history] == [
        ("user", "how much is plus?"),
        ("assistant", "answer 1"),
    ]
    assert (str(first.asked_at), first.status, third.source) == ("2026-03-01", None, f"turn:{turns[2][1].id}")
    assert found[first.id] == ["plus", "team"]
    assert len({each.id for each in questions}) == 3


def test_questions_of_one_document_are_one_cluster() -> None:
    questions, found = questions_of_turns(
        [
            ("customer", turn(1, "two factor?", "c1", "two-step")),
            ("customer", turn(2, "lost my phone", "c2", "two-step")),
            ("customer", turn(3, "yearly price", "c3", "plus")),
        ]
    )
    first, second, third = add_questions([], questions, redactor=None, found=found).questions
    assert first.cluster == second.cluster != third.cluster


def test_the_demo_comes_through_an_import_unchanged(tmp_path: Path) -> None:
    """Facts, gold documents, splits and statuses: the same cases before and after."""
    source = ROOT / "deploy" / "demo" / "questions"
    save(tmp_path / "set", add_questions([], questions_of_cases(source), redactor=None))
    before = {case.id: case for case in load_cases(source)}
    after = {case.id: case for case in load_cases(tmp_path / "set")}
    assert before.keys() == after.keys()
    for case_id, case in before.items():
        got = after[case_id]
        assert (
            got.text,
            got.gold,
            got.facts,
            got.side_facts,
            got.stale_values,
            got.topic,
            got.split,
            got.status,
        ) == (
            case.text,
            case.gold,
            case.facts,
            case.side_facts,
            case.stale_values,
            case.topic,
            case.split,
            case.status,
        )


def test_a_frozen_set_takes_nothing_in(tmp_path: Path) -> None:
    save(tmp_path, add_questions([], NEW, redactor=None))
    freeze(tmp_path)
    with pytest.raises(CaseFileError, match="was frozen"):
        existing(tmp_path)


def test_a_file_is_no_set(tmp_path: Path) -> None:
    (tmp_path / "set").write_text("")
    with pytest.raises(CaseFileError, match="is a file; name a folder"):
        existing(tmp_path / "set")


def test_no_questions_make_no_set(tmp_path: Path) -> None:
    with pytest.raises(CaseFileError, match="no question to keep"):
        save(tmp_path / "set", add_questions([], [], redactor=None))
    assert existing(tmp_path / "set") == ()


def test_a_country_that_does_not_exist_is_named_with_its_option() -> None:
    options = argparse.Namespace(no_redact=False, region=["XX"], keep=[])
    with pytest.raises(UnknownRegionError, match="--region: XX: no such country"):
        redactor_of(options)
