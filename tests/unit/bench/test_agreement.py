"""Agreement is counted set by set and in all, and a set that nobody has read says nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.eval_agreement import (
    LABELLER,
    ORGANIC,
    THUMB,
    Judges,
    compared,
    confusion,
    kappa,
    pooled,
    read_sets,
)
from eval.record import RunFolder


def judged(*turns: tuple[str, str, str, str]) -> Judges:
    """Turns as (reader a, reader b, labeller, rule of thumb)."""
    names = ("reader-a", "reader-b", LABELLER, THUMB)
    return {
        name: {(f"q{number}", "rag"): turn[place] for number, turn in enumerate(turns)}
        for place, name in enumerate(names)
    }


DEMO = judged(
    ("hallucination", "hallucination", "hallucination", "wrong_retrieval"),
    ("bad_format", "weak_reasoning", "bad_format", "hallucination"),
)
BANK = judged(("wrong_retrieval", "wrong_retrieval", "weak_reasoning", "wrong_retrieval"))


def counts(judges: Judges) -> dict[str, tuple[int, int]]:
    return {row.who: (row.rate.k, row.rate.n) if row.rate else (0, 0) for row in compared(judges)}


def test_each_judge_is_held_against_both_readers_and_against_what_they_agree_on() -> None:
    assert counts(DEMO) == {
        "reader-a and reader-b, each other": (1, 2),
        "labeller, reader-a": (2, 2),
        "labeller, reader-b": (1, 2),
        "labeller, where the readers agree": (1, 1),
        "rule of thumb, reader-a": (0, 2),
        "rule of thumb, reader-b": (0, 2),
        "rule of thumb, where the readers agree": (0, 1),
    }


def test_in_all_every_turn_of_every_set_counts_though_sets_number_questions_alike() -> None:
    both = counts(pooled({"demo": DEMO, "bank": BANK}))
    assert both["labeller, reader-a"] == (2, 3)
    assert both["labeller, where the readers agree"] == (1, 2)
    assert both["rule of thumb, where the readers agree"] == (1, 2)


def test_confusion_has_only_what_the_readers_agree_on() -> None:
    assert confusion(pooled({"demo": DEMO, "bank": BANK})) == [
        ("hallucination", "hallucination", 1),
        ("wrong_retrieval", "weak_reasoning", 1),
    ]


def test_readers_who_never_agree_leave_no_share_to_print() -> None:
    row = compared(judged(("bad_format", "wrong_tone", "bad_format", "hallucination")))[3]
    assert row.rate is None
    assert row.as_json() == {"who": "labeller, where the readers agree", "k": 0, "n": 0}
    assert str(row).endswith("no turn")


def test_kappa_is_nothing_where_chance_explains_it_and_one_where_they_agree() -> None:
    same = [("a", "a"), ("b", "b")]
    assert kappa(same) == 1.0
    assert kappa([("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")]) == 0.0


def a_set(root: Path, name: str, *, readers: int) -> None:
    (root / name).mkdir()
    (root / name / "run.json").write_text("{}")
    (root / name / "cases.jsonl").write_text("")
    for reader in "ab"[:readers]:
        (root / name / f"reader-{reader}.jsonl").write_text("")


def test_sets_without_readers_are_named_and_left_out(tmp_path: Path) -> None:
    a_set(tmp_path, "demo", readers=2)
    a_set(tmp_path, "bank", readers=0)
    (tmp_path / "instructions.md").write_text("")
    folders, unread = read_sets(tmp_path, ())
    assert [folder.path.name for folder in folders] == ["demo"]
    assert unread == ["bank"]


def test_a_set_that_is_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="nowhere: no run there"):
        read_sets(tmp_path, ["nowhere"])


@pytest.mark.parametrize("published", sorted(path.parent.name for path in ORGANIC.glob("*/run.json")))
def test_a_published_set_can_be_labelled_without_its_gateway(published: str) -> None:
    """Questions and answers still go together, and what every gold article says was written down."""
    folder = RunFolder(ORGANIC / published)
    data = folder.read()
    lines = (folder.path / "documents.jsonl").read_text(encoding="utf-8").splitlines()
    kept = {row["id"] for row in map(json.loads, lines) if "id" in row}
    answered = {case_id for case_id, _ in data.observations}
    wanted = {document for case in data.cases if case.id in answered for document in case.gold}
    assert wanted, "some question has an answer"
    assert wanted <= kept
    assert answered <= {case_id for case_id, _ in data.rankings}
