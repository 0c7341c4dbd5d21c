"""The program as a whole: files in, a folder out, refusals before anything is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.errors import DatasetLeakError, DatasetTooSmallError, ExampleError, NotTrainableError
from serving.redaction import Redactor
from serving.tuning.dataset import Built, Inputs, Settings, build, write
from serving.tuning.dataset_folder import SPLITS, read_dataset
from serving.tuning.leaks import find_leaks
from serving.tuning.likeness import Task
from serving.tuning.negatives import MATERIAL, NO_NEGATIVES, Shares
from serving.versions import SCHEMAS, load_task_schema
from serving.wording import load_wording
from tests.fakes.support_rows import exported, row, rows, write_rows

SCHEMA = load_task_schema(SCHEMAS / "support_answer.json")
ROUTING = load_task_schema(SCHEMAS / "ticket_routing.json")
SETTINGS = Settings(negatives=NO_NEGATIVES, least_rows=20)


def built(
    folder: Path, *files: Path, settings: Settings = SETTINGS, schema: Any = SCHEMA, **inputs: Any
) -> Built:
    return build(
        folder,
        Inputs(files=files, **inputs),
        schema=schema,
        wording=load_wording(),
        settings=settings,
        redactor=Redactor(),
    )


def test_rows_become_a_folder_that_reads_back(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", rows(60))
    made = built(tmp_path / "set", source, settings=Settings(least_rows=20))
    write(tmp_path / "set", made)
    dataset = read_dataset(tmp_path / "set", SCHEMA)
    assert {name: len(getattr(dataset, name)) for name in SPLITS} == dataset.manifest.rows
    assert min(dataset.manifest.rows.values()) >= 5
    report = (tmp_path / "set" / "report.md").read_text()
    assert dataset.manifest.sha256 in report
    assert "| test |" in report
    assert {each.kind for each in dataset.train} >= {"", "distractor", "stale", "injection", "out_of_policy"}


def test_the_fingerprint_hangs_on_the_rows_alone(tmp_path: Path) -> None:
    lines = rows(60)
    one = built(tmp_path / "a", write_rows(tmp_path / "one.jsonl", lines))
    (tmp_path / "elsewhere").mkdir()
    parts = (
        write_rows(tmp_path / "elsewhere" / "late.jsonl", reversed(lines[30:])),
        write_rows(tmp_path / "early.jsonl", lines[:30]),
    )
    assert built(tmp_path / "b", *parts).manifest.sha256 == one.manifest.sha256
    other = built(tmp_path / "c", parts[0], parts[1], settings=replace(SETTINGS, seed=1))
    assert other.manifest.sha256 != one.manifest.sha256


def test_a_changed_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "set", built(tmp_path / "set", write_rows(tmp_path / "rows.jsonl", rows(60))))
    train = tmp_path / "set" / "train.jsonl"
    train.write_text(train.read_text().replace("days", "weeks", 1))
    with pytest.raises(ExampleError, match="rows were changed after it was made"):
        read_dataset(tmp_path / "set", SCHEMA)
    with pytest.raises(ExampleError, match="another schema"):
        read_dataset(tmp_path / "set", ROUTING)


def test_exports_and_corrections_are_read(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    lines = [exported(number) for number in range(40)]
    lines[0] |= {"answer": None}
    lines[1] |= {"missing_fields": ["intent"]}
    lines[2] |= {"unsupported": ["Nobody said this."]}
    lines[3] |= {"missing_fields": ["intent"]}
    write_rows(tmp_path / "export" / "training.jsonl", lines)
    mended = write_rows(tmp_path / "mended.jsonl", [{"id": lines[3]["id"], "wanted": {"intent": "billing"}}])
    made = built(tmp_path / "set", tmp_path / "export", corrections=(mended,), mends=("wrong_tone",))
    ids = {each.id: each for name in SPLITS for each in made.splits[name]}
    assert {lines[n]["id"] for n in range(3)}.isdisjoint(ids)
    assert ids[lines[3]["id"]].wanted["intent"] == "billing"
    assert ids[lines[4]["id"]].group == "c-4"
    assert [each.reason for each in made.rejected] == ["fields missing", "no answer", "unsupported"]
    covered = made.report["coverage"]["wrong_tone"]
    assert covered["train_rows"] == len(made.splits["train"])
    assert covered["clusters_without_rows"] == ["cluster 0", "cluster 1", "cluster 2"]
    assert made.report["groups"]["test_is_newest"]


def test_a_correction_of_nothing_is_refused(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", rows(30))
    mended = write_rows(tmp_path / "mended.jsonl", [{"id": "row-9999", "wanted": {"intent": "billing"}}])
    with pytest.raises(ExampleError, match="no row has the id 'row-9999'"):
        built(tmp_path / "set", source, corrections=(mended,))


def test_rows_of_another_task_are_kept_apart(tmp_path: Path) -> None:
    lines = [*rows(40), row(50, task="ticket_routing")]
    made = built(tmp_path / "set", write_rows(tmp_path / "rows.jsonl", lines))
    assert [(each.reason, each.row["id"]) for each in made.rejected] == [("other task", "row-0050")]
    assert made.report["read"]["tasks"] == {"support_answer": 40, "ticket_routing": 1}


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("stale_knowledge", "sync the articles"),
        ("missing_knowledge", "write the missing articles"),
        ("wrong_retrieval.miss", "improve retrieval"),
        ("hallucination", "grounding check"),
        ("bad_format.truncated", "raise the limit of tokens"),
        ("policy_violation.must_refuse", "hand over to a person"),
    ],
)
def test_a_failure_that_training_does_not_mend_is_refused(tmp_path: Path, code: str, told: str) -> None:
    source = write_rows(tmp_path / "rows.jsonl", rows(40))
    with pytest.raises(NotTrainableError, match=told):
        built(tmp_path / "set", source, mends=(code,))


@pytest.mark.parametrize("code", ["wrong_tone", "hallucination.citation", "weak_reasoning.over_abstain"])
def test_a_behaviour_is_accepted_and_its_absence_said(tmp_path: Path, code: str) -> None:
    made = built(tmp_path / "set", write_rows(tmp_path / "rows.jsonl", rows(40)), mends=(code,))
    assert f"no training row is marked as mending {code}" in made.report["warnings"]


@pytest.mark.parametrize(("words", "warned"), [(200, True), (5, False)])
def test_a_value_that_the_length_of_a_prompt_gives_away_is_told(
    tmp_path: Path, words: int, warned: bool
) -> None:
    lines = rows(80)
    for line in lines[::3]:
        line["wanted"] = {**line["wanted"], "intent": "technical"}
    for line in lines:
        if line["wanted"]["intent"] == "technical":
            line["passages"][0]["text"] += " And so on." * words
        else:
            line["passages"][0]["text"] += " And so on." * 5
    made = built(tmp_path / "set", write_rows(tmp_path / "rows.jsonl", lines))
    told = [line for line in made.report["warnings"] if "intent technical away" in line]
    assert bool(told) is warned


def test_an_unknown_failure_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExampleError, match="'rudeness' is no failure"):
        built(tmp_path / "set", write_rows(tmp_path / "rows.jsonl", rows(40)), mends=("rudeness",))


@pytest.mark.parametrize(
    ("lines", "error", "message"),
    [
        ([], ExampleError, "no file holds a row"),
        (rows(1), DatasetTooSmallError, "1 rows are left, and 20 are needed: review 19 more answers"),
        (rows(19), DatasetTooSmallError, "review 1 more"),
        ([row(n, group="c") for n in range(30)], DatasetTooSmallError, r"1 groups .*conversation \(29\)"),
        ([row(n, customer=f"{n % 10}") for n in range(30)], None, ""),
        (
            [
                row(n, passages=[], wanted=row(0)["wanted"] | {"answer": "No.", "citations": []})
                for n in range(30)
            ],
            DatasetTooSmallError,
            "every row wants the same answer",
        ),
    ],
)
def test_too_little_is_refused_with_what_is_missing(
    tmp_path: Path, lines: list[dict[str, Any]], error: type[Exception] | None, message: str
) -> None:
    source = write_rows(tmp_path / "rows.jsonl", lines)
    if error is None:
        assert built(tmp_path / "set", source).report["groups"]["number"] == 10
        return
    with pytest.raises(error, match=message):
        built(tmp_path / "set", source)
    assert not (tmp_path / "set").exists()


def test_equal_labels_teach_a_classifier_nothing(tmp_path: Path) -> None:
    wanted = {"queue": "billing", "priority": "P2", "product": "other", "reason": ""}
    lines = [
        {
            "id": f"{n}",
            "question": row(n)["question"],
            "passages": [],
            "wanted": wanted | {"reason": f"no {n * 'x'}"},
        }
        for n in range(30)
    ]
    with pytest.raises(DatasetTooSmallError, match="every row wants the same answer"):
        built(tmp_path / "set", write_rows(tmp_path / "rows.jsonl", lines), schema=ROUTING)


def test_a_row_that_asks_a_held_out_question_is_named_with_it(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", rows(40))
    (tmp_path / "march").mkdir()
    held_out = [
        {"id": "q1", "text": row(3)["question"].upper() + "!!", "split": "gate"},
        {"id": "q2", "text": row(4)["question"], "split": "train"},
        {"id": "q3", "text": "how do I paint the ceiling of a chapel", "split": "holdout"},
    ]
    write_rows(tmp_path / "march" / "questions.jsonl", held_out)
    with pytest.raises(DatasetLeakError, match=r"1 rows ask .*'row-0003' asks what 'march/q1' asks"):
        built(tmp_path / "set", source, against=(tmp_path / "march",))
    made = built(
        tmp_path / "set",
        source,
        against=(tmp_path / "march",),
        settings=replace(SETTINGS, drop_held_out=True),
    )
    assert [each.row["id"] for each in made.rejected] == ["row-0003"]
    assert list(made.manifest.held_out) == ["march"]


def test_a_schema_that_rows_break_is_said_of_each(tmp_path: Path) -> None:
    lines = rows(40)
    lines[0]["wanted"] = lines[0]["wanted"] | {"intent": "weather"}
    lines[1]["wanted"] = {"answer": "Yes."}
    made = built(tmp_path / "set", write_rows(tmp_path / "rows.jsonl", lines))
    assert {each.row["id"]: each.reason for each in made.rejected} == {
        "row-0000": "not the task's JSON",
        "row-0001": "not the task's JSON",
    }
    assert (
        "'weather' is not one of" in made.report["rejected"]["not the task's JSON"]["examples"][0]["detail"]
    )


def test_an_id_of_two_rows_is_refused(tmp_path: Path) -> None:
    one = write_rows(tmp_path / "one.jsonl", rows(30))
    two = write_rows(tmp_path / "two.jsonl", [row(31, id="row-0001")])
    with pytest.raises(ExampleError, match="id 'row-0001' stands for two different rows"):
        built(tmp_path / "set", one, two)


def test_what_is_no_dataset_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "aunt.jpg").write_text("x")
    source = write_rows(tmp_path / "rows.jsonl", rows(40))
    with pytest.raises(ExampleError, match="is there and no dataset"):
        built(tmp_path / "photos", source)


def test_a_writing_that_fails_leaves_the_earlier_dataset(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    made = built(folder, write_rows(tmp_path / "rows.jsonl", rows(40)))
    write(folder, made)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    broken = replace(made, report={**made.report, "warnings": [float("nan")]})
    with pytest.raises(ValueError, match="Out of range float"):
        write(folder, broken)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "set"]


def test_the_report_can_be_read_by_programs_too(tmp_path: Path) -> None:
    made = built(tmp_path / "set", write_rows(tmp_path / "rows.jsonl", rows(40)))
    write(tmp_path / "set", made)
    report = json.loads((tmp_path / "set" / "report.json").read_text())
    assert report["splits"]["train"]["fields"].keys() == {"intent", "escalate", "escalation_reason"}
    assert report["dataset"]["sha256"] == made.manifest.sha256


def test_sets_of_the_same_name_are_both_looked_at(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", rows(40))
    texts = {"march": row(3)["question"], "april": "how do I paint the ceiling of a chapel"}
    for month, text in texts.items():
        (tmp_path / month).mkdir()
        write_rows(tmp_path / month / "gate.jsonl", [{"id": "q1", "text": text}])
    sets = tuple(tmp_path / month / "gate.jsonl" for month in texts)
    with pytest.raises(DatasetLeakError, match=r"'row-0003' asks what '.*march/gate.jsonl/q1' asks"):
        built(tmp_path / "set", source, against=sets)
    twice = [{"id": "q1", "text": texts["march"]}, {"id": "q1", "text": texts["april"]}]
    one = write_rows(tmp_path / "one.jsonl", twice)
    with pytest.raises(DatasetLeakError, match=r"'row-0003' asks what 'one\.jsonl/q1' asks"):
        built(tmp_path / "set", source, against=(one,))


@pytest.mark.parametrize("before", [True, False])
def test_a_held_out_question_is_found_in_the_middle_of_a_conversation(tmp_path: Path, before: bool) -> None:
    said = [
        {"role": "user", "text": "What does the family plan cost?"},
        {"role": "assistant", "text": "$9 a month."},
    ]
    line = row(3, question="and what is it for twelve months then", history=said)
    source = write_rows(tmp_path / "rows.jsonl", [*rows(3), line, *(row(n) for n in range(4, 40))])
    asked = {"id": "q1", "text": line["question"], "history": said if before else []}
    questions = write_rows(tmp_path / "gate.jsonl", [asked])
    with pytest.raises(DatasetLeakError, match=r"1 rows ask .*'row-0003' asks what 'gate.jsonl/q1' asks"):
        built(tmp_path / "set", source, against=(questions,))


def test_overlapping_exports_are_corrected_in_each(tmp_path: Path) -> None:
    lines = [exported(number) for number in range(40)]
    one = write_rows(tmp_path / "one.jsonl", lines)
    two = write_rows(tmp_path / "two.jsonl", lines[:10])
    wanted = next(each for each in ("how_to", "policy") if each != lines[3]["answer"]["intent"])
    mended = write_rows(tmp_path / "mended.jsonl", [{"id": lines[3]["id"], "wanted": {"intent": wanted}}])
    made = built(tmp_path / "set", one, two, corrections=(mended,))
    assert made.report["read"]["corrected"] == 2
    (found,) = (each for name in SPLITS for each in made.splits[name] if each.id == lines[3]["id"])
    assert found.wanted["intent"] == wanted


def test_what_was_left_out_unread_holds_no_personal_data(tmp_path: Path) -> None:
    said = [{"role": "user", "text": "Write to bob@example.org"}]
    line = row(50, task="ticket_routing", question="I am ann@example.org", history=said)
    made = built(tmp_path / "set", write_rows(tmp_path / "rows.jsonl", [*rows(40), line]))
    (left,) = made.rejected
    assert (left.row["question"], left.row["history"][0]["text"]) == ("I am [email]", "Write to [email]")
    assert left.row["passages"] == line["passages"]


def test_a_made_row_that_somebody_asked_by_chance_is_left_out(tmp_path: Path) -> None:
    material = yaml.safe_load(MATERIAL.read_text(encoding="utf-8"))
    off_topic = load_wording().off_topic
    chance = [
        row(
            300 + n,
            question=request["text"],
            wanted=row(0)["wanted"] | {"answer": off_topic, "citations": [], "intent": "off_topic"},
        )
        for n, request in enumerate(material["requests"])
    ]
    source = write_rows(tmp_path / "rows.jsonl", [*rows(120), *chance])
    made = built(tmp_path / "set", source, settings=Settings(negatives=Shares(out_of_policy=0.3)))
    assert sum(
        each.id.startswith("row-") for name in SPLITS for each in made.splits[name] if not each.kind
    ) == (120 + len(chance))
    assert find_leaks(made.splits, task=Task(schema=SCHEMA, wordings=load_wording().all())) == []
    told = made.report["made"]
    there = sum(each.kind == "out_of_policy" for name in SPLITS for each in made.splits[name])
    assert sum(each["out_of_policy"]["made"] for each in told.values()) == there


def test_a_run_that_was_killed_between_two_renames_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    made = built(folder, write_rows(tmp_path / "rows.jsonl", rows(40)))
    write(folder, made)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    folder.rename(tmp_path / ".set.old")
    broken = replace(made, report={**made.report, "warnings": [float("nan")]})
    with pytest.raises(ValueError, match="Out of range float"):
        write(folder, broken)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "set"]


def test_what_evaluation_judges_by_goes_through_and_is_checked(tmp_path: Path) -> None:
    lines = rows(40)
    said = lines[5]["wanted"]["answer"]
    lines[5] |= {"required": [said], "stale_values": ["$7"]}
    lines[6] |= {"required": ["We are FDIC insured."]}
    lines.append(lines[7] | {"id": "odd", "required": "a sentence"})
    with pytest.raises(ExampleError, match="required: must be a list of texts"):
        built(tmp_path / "set", write_rows(tmp_path / "odd.jsonl", lines))
    source = write_rows(tmp_path / "rows.jsonl", lines[:-1])
    made = built(
        tmp_path / "set", source, settings=Settings(least_rows=20, negatives=Shares(unanswerable=1.0))
    )
    write(tmp_path / "set", made)
    kept = [each for name in SPLITS for each in getattr(read_dataset(tmp_path / "set", SCHEMA), name)]
    judged = [each for each in kept if each.required]
    assert {(each.required, each.stale_values) for each in judged} == {((said,), ("$7",))}
    assert all(each.kind != "unanswerable" for each in judged)
    assert any(each.kind == "unanswerable" for each in kept)
    assert lines[6]["id"] not in {each.id for each in kept}
    rejected = (tmp_path / "set" / "rejected.jsonl").read_text()
    assert "required: 'We are FDIC insured.' is not in the wanted answer" in rejected
