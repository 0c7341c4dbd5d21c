"""`twinrail advise` on a run's folder: files, exit codes, and what it says of bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from eval.advice.loading import read_logs, usage_of
from eval.arms import Arm, ArmKind, Pin
from eval.cases import Case, CaseSet
from eval.cli import main
from eval.errors import RunError
from eval.labelling.labels import Finding, Label, LabelRecord, Outcome
from eval.observations import Observation
from eval.record import RunFolder, RunRecord
from eval.settings import EvalSettings

ARMS = (
    Arm(name="rag", pin=Pin(knowledge="k-1@3", model="m-base-1"), stated="rag"),
    Arm(name="oracle", pin=Pin(knowledge="k-1@3", model="m-base-1", context="gold"), stated="oracle"),
)
SETTINGS = EvalSettings(resamples=200)
TEAM = """
team_size = "startup"
regulated = false
answers_a_month = 1000
[prices]
prompt_per_million = 1.0
completion_per_million = 4.0
[tried]
constrained_decoding = true
"""


def write_run(path: Path, *, questions: int = 120, misses: int = 40) -> Path:
    cases = CaseSet.of(
        "demo", [Case(id=f"q{n:03d}", topic=f"t{n % 8}", split="dev", text="?") for n in range(questions)]
    )
    folder = RunFolder(path / "run")
    folder.create(
        RunRecord(
            id="r1",
            gateway_url="http://gateway.invalid",
            question_set="demo",
            question_set_sha256=cases.sha256,
            selection={},
            requested_arms=ARMS,
            arms=ARMS,
            knowledge=("k-1@3",),
        ),
        cases,
    )
    lines = []
    for n, case in enumerate(cases.cases):
        for arm in ARMS:
            missed = arm.name == "rag" and n < misses
            lines.append(
                LabelRecord(
                    run="r1",
                    turn_id=f"{arm.name}-{n}",
                    case_id=case.id,
                    arm=arm.name,
                    cluster=case.topic,
                    task_type="question",
                    outcome=Outcome.FAILED if missed else Outcome.PASSED,
                    primary=Finding(label=Label.WRONG_RETRIEVAL, sub="miss", rule="4", evidence=())
                    if missed
                    else None,
                    criteria="c1-00000000",
                ).as_json()
            )
    (folder.path / "results.jsonl").write_bytes(
        b"\n".join(
            orjson.dumps(
                Observation(
                    case_id=case.id,
                    arm=arm.name,
                    status="answered",
                    answer="a",
                    prompt_tokens=1000,
                    completion_tokens=50,
                    cached_tokens=400,
                    timings_ms={"retrieval": 30.0},
                ).as_json()
            )
            for case in cases.cases
            for arm in ARMS
        )
    )
    (folder.path / "labels.jsonl").write_bytes(b"\n".join(map(orjson.dumps, lines)) + b"\n")
    (path / "team.toml").write_text(TEAM, encoding="utf-8")
    return folder.path


def advise(run: Path, *more: str) -> int:
    return main(["advise", str(run), "--team", str(run.parent / "team.toml"), *more], settings=SETTINGS)


def test_both_files_are_written_and_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path)
    assert advise(run, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((run / "advice.json").read_text(encoding="utf-8"))
    assert printed["verdict"] == "improved_rag"
    assert printed["diagnosed"]["oracle"]["value"] == pytest.approx(40 / 120)
    assert printed["costs"]["arms"][0]["cached_tokens"] == 400
    assert printed["sentence"] in (run / "advice.html").read_text(encoding="utf-8")


def test_text_leads_with_the_sentence_and_the_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert advise(write_run(tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Improve RAG before anything else: improve retrieval, because 40 of 120")
    assert lines[2].startswith("1. Improve retrieval (now; knowledge rail)")


def test_too_few_questions_are_exit_4_and_a_page_that_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path, questions=3, misses=3)
    assert advise(run) == 4
    assert "Not enough evidence" in (run / "advice.html").read_text(encoding="utf-8")
    advice = json.loads((run / "advice.json").read_text(encoding="utf-8"))
    assert {group["state"] for group in advice["diagnosed"]["groups"]} == {"unclear"}
    assert "cannot be told yet" in [row["fix"] for row in advice["framework"]["failure_map"]]
    checklist = {row["item"]: row["answer"] for row in advice["framework"]["checklist"]}
    rag_first = next(item for item in checklist if item.startswith("Use RAG first"))
    assert checklist[rag_first] == "no evidence"


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    assert advise(run, "--dry-run") == 0
    assert not (run / "advice.json").exists()


@pytest.mark.parametrize(
    ("team", "says"),
    [
        ("team_size = 'tiny'\nregulated = false", "team_size: Input should be 'solo', 'startup' or 'large'"),
        ("team_size = 'solo'", "regulated: Field required"),
        ("team_size = 'solo'\nregulated = false\nwage = 3", "wage: Extra inputs are not permitted"),
        ("team_size = 'solo'\nregulated = false\n[wages]\nagent_hour = -1", "wages.agent_hour: "),
        ("team_size =", "not TOML"),
    ],
)
def test_a_bad_team_file_names_the_field(
    tmp_path: Path, team: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path)
    (tmp_path / "team.toml").write_text(team, encoding="utf-8")
    assert advise(run) == 2
    assert says in capsys.readouterr().err


def test_bad_folders_are_exit_2_and_say_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path)
    (tmp_path / "team.toml").rename(tmp_path / "kept.toml")
    assert advise(run) == 2
    assert "name a team file" in capsys.readouterr().err
    (tmp_path / "kept.toml").rename(tmp_path / "team.toml")
    labels = run / "labels.jsonl"
    kept = labels.read_bytes()
    for content, says in (
        (b"{", "labels.jsonl:1: no label of this version"),
        (b"", "holds no label"),
        (kept.replace(b'"arm":"oracle"', b'"arm":"other"'), "arm 'other' is not one of the run"),
    ):
        labels.write_bytes(content)
        assert advise(run) == 2
        assert says in capsys.readouterr().err
    labels.unlink()
    assert advise(run) == 2
    assert "twinrail eval label" in capsys.readouterr().err


def test_metrics_come_from_the_runs_report(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    row = {"title": "valid", "group": "format compliance", "higher_is_better": True, "k": 90, "n": 100}
    (run / "report.json").write_text(json.dumps({"arms": {"rag": {"metrics": {"format_valid": row}}}}))
    logs = read_logs(RunFolder(run))
    rag = logs.of_kind(ArmKind.RAG)
    assert rag is not None
    assert (rag.metrics["format_valid"].k, rag.metrics["format_valid"].n) == (90, 100)
    (run / "report.json").write_text("[]")
    with pytest.raises(RunError, match="not a report of this version"):
        read_logs(RunFolder(run))


def test_tokens_that_the_gateway_does_not_tell_are_missing_not_zero() -> None:
    seen = Observation(case_id="q", arm="rag", status="escalated", prompt_tokens=100, completion_tokens=10)
    used = usage_of("q", seen)
    assert used.tokens is not None
    assert (used.tokens.cached, used.cached_known, used.retrieval_ms, used.handed_off) == (
        0,
        False,
        None,
        True,
    )
    assert usage_of("q", replace(seen, prompt_tokens=None)).tokens is None
