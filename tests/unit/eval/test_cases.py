from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval.cases import Case, CaseSet, load_cases, select_cases
from eval.errors import CaseFileError
from retrieval.questions import read_questions

ROW: dict[str, Any] = {
    "id": "plans-01",
    "topic": "plans",
    "split": "dev",
    "text": "how much is plus?",
    "asker": "customer",
    "kind": "answerable",
    "gold": ["plus-price"],
    "facts": [["$9"]],
    "stale_values": ["$8"],
    "status": "answered",
    "intent": "billing",
    "escalate": False,
    "escalation_reason": "none",
    "answer": "Plus is $9.",
    "follow_up": "",
}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_reads_a_folder_of_topics(tmp_path: Path) -> None:
    write(tmp_path / "plans.jsonl", ROW, {**ROW, "id": "plans-02"})
    write(tmp_path / "limits.jsonl", {**ROW, "id": "limits-01", "topic": "limits"})
    cases = load_cases(tmp_path)
    assert [case.id for case in cases] == ["limits-01", "plans-01", "plans-02"]
    assert cases[1].facts == (("$9",),)
    assert cases[1].gold == ("plus-price",)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"split": "test"}, "split"),
        ({"facts": "none"}, "facts"),
        ({"facts": [[]]}, "facts"),
        ({"facts": [["$9"], ["14 days", "regex:14 (days"]]}, "facts"),
        ({"stale_values": ["regex:["]}, "stale_values"),
        ({"text": "  "}, "text"),
        ({"escalate": "no"}, "escalate"),
        ({"topic": "other"}, "topic"),
        ({"side_facts": ["9 dollars"]}, "side_facts"),
        ({"side_facts": ["$9"]}, "side_facts"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_bad_field_is_named_with_file_and_line(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    file = write(tmp_path / "plans.jsonl", ROW, {**ROW, "id": "plans-02", **change})
    with pytest.raises(CaseFileError) as caught:
        load_cases(tmp_path)
    assert (caught.value.file, caught.value.line) == (file, 2)
    assert caught.value.field.startswith(field)
    assert "; " in str(caught.value), "the fix stands after the fault"


def test_what_is_not_asked_for_is_a_side_fact(tmp_path: Path) -> None:
    facts = [["$9", "9 dollars"], ["14 days"], ["6 devices"]]
    write(tmp_path / "plans.jsonl", {**ROW, "facts": facts, "side_facts": ["6 devices", "14 days"]})
    (case,) = load_cases(tmp_path)
    assert case.facts == (("$9", "9 dollars"), ("14 days",), ("6 devices",))
    assert (case.vital_facts, case.side_facts) == ((("$9", "9 dollars"),), (("14 days",), ("6 devices",)))


def test_side_facts_change_the_digest_only_where_there_are_some() -> None:
    plain = Case(id="a", topic="t", split="dev", text="x?", facts=(("$9",), ("14 days",)))
    assert (
        CaseSet.of("x", [plain]).sha256
        != CaseSet.of("x", [replace(plain, side_facts=(("14 days",),))]).sha256
    )
    assert CaseSet.of("x", [plain]).sha256.startswith("5bd28cc88212"), (
        "runs from before side facts can still be read"
    )


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    write(tmp_path / "plans.jsonl", {key: value for key, value in ROW.items() if key != "gold"})
    with pytest.raises(CaseFileError, match=r"plans\.jsonl:1: field 'gold'"):
        load_cases(tmp_path)


def test_a_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "plans.jsonl").write_text(json.dumps(ROW) + "\n{broken\n")
    with pytest.raises(CaseFileError, match=r"plans\.jsonl:2.*one JSON object a line"):
        load_cases(tmp_path)


def test_duplicate_ids_are_refused_across_files(tmp_path: Path) -> None:
    write(tmp_path / "limits.jsonl", {**ROW, "topic": "limits"})
    write(tmp_path / "plans.jsonl", ROW)
    with pytest.raises(CaseFileError, match=r"plans\.jsonl:1: field 'id'.*limits\.jsonl:1"):
        load_cases(tmp_path)


@pytest.mark.parametrize("content", [None, "", "\n\n"])
def test_an_empty_set_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "plans.jsonl").write_text(content)
    with pytest.raises(CaseFileError):
        load_cases(tmp_path)


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseFileError, match="does not exist"):
        load_cases(tmp_path / "nothing")


def test_public_sets_group_questions_by_shared_gold_documents(tmp_path: Path) -> None:
    write(
        tmp_path / "queries.jsonl",
        {"id": "a", "text": "one?", "answerable": True, "answer": "yes", "kind": "faq"},
        {"id": "b", "text": "two?", "answerable": True},
        {"id": "c", "text": "three?", "answerable": True},
        {"id": "d", "text": "four?", "answerable": False, "history": [{"role": "user", "text": "hi"}]},
    )
    (tmp_path / "qrels.tsv").write_text(
        "query-id\tcorpus-id\tscore\na\tx\t1\nb\tx\t1\nb\ty\t1\nc\ty\t1\nd\tx\t0\n"
    )
    by_id = {case.id: case for case in load_cases(tmp_path)}
    assert by_id["a"].topic == by_id["b"].topic == by_id["c"].topic != by_id["d"].topic
    assert by_id["b"].gold == ("x", "y")
    assert by_id["d"].gold == (), "a judgement of 0 is not gold"
    assert (by_id["a"].status, by_id["d"].status) == ("answered", "abstained")
    assert not by_id["a"].facts_known
    assert by_id["d"].history == (("user", "hi"),)


def test_a_broken_judgement_is_named(tmp_path: Path) -> None:
    write(tmp_path / "queries.jsonl", {"id": "a", "text": "one?"})
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\na x 1\n")
    with pytest.raises(CaseFileError, match=r"qrels\.tsv:2"):
        load_cases(tmp_path)


def test_the_fingerprint_follows_the_questions_not_their_order() -> None:
    cases = [Case(id=name, topic="t", split="dev", text=name) for name in "abc"]
    digest = CaseSet.of("x", cases).sha256
    assert CaseSet.of("y", reversed(cases)).sha256 == digest
    changed = Case(id="a", topic="t", split="dev", text="a", facts=(("$9",),))
    assert CaseSet.of("x", [changed, *cases[1:]]).sha256 != digest


def test_a_sample_spreads_over_topics_and_repeats() -> None:
    cases = [
        Case(id=f"{topic}-{n}", topic=topic, split="dev", text="?") for topic in "abcd" for n in range(9)
    ]
    first = select_cases(cases, name="x", limit=8, seed=5)
    assert sorted(case.topic for case in first.cases) == ["a", "a", "b", "b", "c", "c", "d", "d"]
    assert select_cases(cases, name="x", limit=8, seed=5).sha256 == first.sha256


def test_an_unknown_split_names_the_known_ones() -> None:
    with pytest.raises(CaseFileError, match="choose from dev"):
        select_cases([Case(id="a", topic="t", split="dev", text="?")], name="x", splits=["hold"])


def test_labelled_questions_are_those_that_a_fit_reads(tmp_path: Path) -> None:
    file = tmp_path / "asked.jsonl"
    rows = [
        {"text": "how much is plus?", "gold": ["plus"], "group": "prices"},
        {
            "text": "and yearly?",
            "gold": ["yearly"],
            "group": "prices",
            "history": [{"role": "user", "text": "hi"}],
        },
        {"text": "credit limit?", "gold": ["credits"], "principals": ["public", "staff"], "kind": "internal"},
        {"text": "weather?", "gold": []},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    plus, yearly, credit, weather = load_cases(file)
    assert (plus.id, plus.gold, plus.asker, plus.status) == ("asked-1", ("plus",), "customer", None)
    assert plus.topic == yearly.topic != credit.topic
    assert yearly.history == (("user", "hi"),)
    assert (credit.asker, credit.kind) == ("staff", "internal")
    assert weather.status == "abstained"
    assert len(read_questions(file)) == 4, "the same file is good for both"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"text": "a"}', "gold"),
        ('{"text": " ", "gold": []}', "text"),
        ('{"text": "a", "gold": "x"}', "gold"),
        ("[]", "asked.jsonl:2"),
    ],
)
def test_a_bad_labelled_question_is_named(tmp_path: Path, line: str, words: str) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text('{"text": "good", "gold": []}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(CaseFileError, match=words):
        load_cases(file)


TASK_ROW: dict[str, Any] = {
    "id": "price-1",
    "question": "What does Sync Plus cost?",
    "passages": [
        {"title": "Price", "text": "Sync Plus costs $9 a month.", "effective_from": "2026-03-01", "n": 1},
        {"title": "Old price", "text": "Sync Plus costs $8 a month."},
    ],
    "wanted": {
        "answer": "Sync Plus is $9 a month.",
        "citations": [1],
        "intent": "billing",
        "escalate": False,
        "escalation_reason": "none",
        "follow_up": "",
    },
    "kind": "conflict",
    "group": "plans",
    "source": "made",
}


def test_rows_of_a_dataset_are_questions_with_what_is_shown_and_what_is_wanted(tmp_path: Path) -> None:
    wanted = TASK_ROW["wanted"]
    nowhere = {**wanted, "citations": [], "escalate": True, "escalation_reason": "not_in_help_centre"}
    routed = {"queue": "billing"}
    file = write(
        tmp_path / "test.jsonl",
        TASK_ROW,
        {**TASK_ROW, "id": "unsaid", "wanted": {**nowhere, "answer": "I can't find that."}},
        {**TASK_ROW, "id": "passed", "wanted": {**wanted, "escalate": True, "escalation_reason": "legal"}},
        {"id": "routed", "question": "refund!", "passages": [], "wanted": routed, "kind": "in_scope"},
    )
    case, unsaid, passed, route = load_cases(file)
    assert (case.topic, case.split, case.kind, case.status) == ("plans", "test", "conflict", "answered")
    assert len(case.facts) == 1
    assert case.wanted_fields == {"intent": "billing", "escalate": False, "escalation_reason": "none"}
    assert case.passages is not None
    assert [shown.effective_from for shown in case.passages] == ["2026-03-01", ""]
    assert (unsaid.status, passed.status) == ("abstained", "escalated")
    assert (route.wanted_fields, route.passages, route.facts_known) == (routed, (), False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"wanted": {}}, "wanted"),
        ({"question": " "}, "question"),
        ({"passages": None}, "passages"),
        ({"passages": [{"title": "a", "text": ""}]}, "passages.0.text"),
    ],
)
def test_a_bad_row_of_a_dataset_names_line_and_field(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    file = write(tmp_path / "test.jsonl", TASK_ROW, {**TASK_ROW, "id": "b", **change})
    with pytest.raises(CaseFileError, match=rf"test\.jsonl:2: field '{words}'"):
        load_cases(file)
