from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from eval.errors import CaseFileError
from eval.sets.rows import parse_columns, read_rows


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_of_a_table_become_fields_and_facts(tmp_path: Path) -> None:
    file = write(
        tmp_path / "asked.csv",
        "\ufeffMessage,When,Docs,status,exact,number,set,valid_to,Agent\n"
        '"how much, please?",2026-03-01T10:00:00Z,plus; pricing,answerable,$9|nine dollars;yearly,14 days,'
        "iOS|Android,2026-12-31,Ann\n",
    )
    rows = read_rows(file, parse_columns(["text=Message", "asked_at=When", "gold=Docs"]))
    (question,) = rows.questions
    assert (question.id, question.text, question.source) == ("asked-2", "how much, please?", "asked.csv:2")
    assert (question.asked_at, question.gold) == (date(2026, 3, 1), ("plus", "pricing"))
    assert [(fact.match, fact.values) for fact in question.facts] == [
        ("exact", ("$9", "nine dollars")),
        ("exact", ("yearly",)),
        ("number", ("14 days",)),
        ("set", ("iOS", "Android")),
    ]
    assert {fact.valid_to for fact in question.facts} == {date(2026, 12, 31)}
    assert rows.ignored == ("Agent",)


def test_tabs_json_lines_and_blank_rows(tmp_path: Path) -> None:
    table = write(tmp_path / "a.tsv", "text\tregex\nerror?\tE-?17; E18\n \t\n")
    rows = read_rows(table, {})
    assert rows.blank == 1
    assert rows.questions[0].facts[0].values == ("E-?17; E18",), "a pattern is taken whole"
    lines = write(
        tmp_path / "b.jsonl",
        json.dumps({"id": 7, "body": "hi?", "facts": [{"values": ["$9"]}], "gold": ["x"], "split": "dev"}),
    )
    (question,) = read_rows(lines, {"text": "body"}).questions
    assert (question.id, question.gold, question.split) == ("7", ("x",), "dev")
    assert question.facts[0].values == ("$9",)


@pytest.mark.parametrize(
    ("name", "content", "columns", "words"),
    [
        ("a.csv", "Message\nhi\n", {}, "--column text=NAME, of Message"),
        ("a.csv", "Message\nhi\n", {"text": "Body"}, "field 'text': no column 'Body'; choose from Message"),
        ("a.csv", "text\n", {}, "holds no question"),
        ("a.csv", "text,status\nhi,maybe\n", {}, r"a.csv:2: field 'status'"),
        ("a.csv", "text,number\nhi,some\n", {}, r"a.csv:2: field 'facts.0'.*no number"),
        ("a.csv", "text,asked_at\nhi,yesterday\n", {}, r"a.csv:2: field 'asked_at'"),
        ("a.csv", "text,gold\nhi,a,b\n", {}, r"a.csv:2: has more cells"),
        ("a.csv", 'text\n"hi\n', {}, "close the quotes"),
        ("a.csv", "id,text\nx,one\nx,two\n", {}, r"a.csv:3: field 'id'.*stands already at .*a.csv:2"),
        ("a.jsonl", "{broken\n", {}, "a.jsonl:1: not JSON"),
        ("a.jsonl", "[1]\n", {}, "a.jsonl:1: not a JSON object"),
        ("a.jsonl", '{"text": "hi", "facts": "none"}\n', {}, r"a.jsonl:1: field 'facts'"),
    ],
)
def test_a_bad_file_is_named_with_line_field_and_fix(
    tmp_path: Path, name: str, content: str, columns: dict[str, str], words: str
) -> None:
    with pytest.raises(CaseFileError, match=words):
        read_rows(write(tmp_path / name, content), columns)


def test_a_table_in_another_encoding_is_no_table(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes("text\nGr\u00fc\u00dfe\n".encode("latin-1"))
    with pytest.raises(CaseFileError, match="not UTF-8"):
        read_rows(file, {})


@pytest.mark.parametrize("text", ["text", "text=", "colour=red"])
def test_a_bad_column_option_lists_the_fields(text: str) -> None:
    with pytest.raises(CaseFileError, match="fields are id, text"):
        parse_columns([text])
