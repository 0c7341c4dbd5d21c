"""`twinrail eval gate` on runs of a gateway over real sockets: what it says, writes and records."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest

from eval.cli import main
from eval.labelling.labels import Finding, Label, LabelRecord, Outcome
from eval.record import RunFolder
from eval.settings import EvalSettings
from tests.fakes.gateway_server import BASE, CUSTOMER_KEY, TUNED, CannedAnswer, FakeGateway
from tests.fakes.gateway_thread import Served
from tests.fakes.question_rows import RIGHT, question_row, write_topics

WRONG = "Sync Plus is $7 a month."
QUESTIONS = 100


def right_below(limit: int) -> Callable[[str], CannedAnswer]:
    """Right about questions of a smaller number, wrong about the rest."""
    return lambda question: CannedAnswer(answer=RIGHT if int(question.split()[-1]) < limit else WRONG)


@pytest.fixture
def served() -> Iterator[Served]:
    server = Served(FakeGateway(answers={BASE: right_below(40), TUNED: right_below(80)}))
    yield server
    server.close()


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred questions of the holdout asked in both arms, once for all tests."""
    server = Served(FakeGateway(answers={BASE: right_below(40), TUNED: right_below(80)}))
    try:
        return measure(server, tmp_path_factory.mktemp("measured"), count=QUESTIONS)
    finally:
        server.close()


@pytest.fixture
def folder(measured: Path, tmp_path: Path) -> Path:
    """A run of its own with those answers."""
    return copy_of(measured, tmp_path, name="run")


def copy_of(measured: Path, tmp_path: Path, *, name: str) -> Path:
    """The same answers as another run."""
    folder = tmp_path / "runs" / name
    shutil.copytree(measured, folder)
    record = RunFolder(folder)
    record.save(replace(record.read().record, id=name))
    return folder


def measure(served: Served, tmp_path: Path, *, count: int) -> Path:
    """Ask so many questions in both arms, label the answers, and give back the run's folder."""
    questions = tmp_path / f"questions-{count}"
    write_topics(
        questions,
        {
            f"t{topic:02d}": [
                question_row(
                    f"q{number:03d}", topic=f"t{topic:02d}", text=f"question {number}", split="holdout"
                )
                for number in range(topic, count, 20)
            ]
            for topic in range(min(20, count))
        },
    )
    folder = tmp_path / "runs" / f"of-{count}"
    options = ["--questions", str(questions), "--split", "holdout", "--arms", "rag_base,rag_tuned"]
    assert main(["run", *options, "--run", str(folder)], settings=settings(served, tmp_path)) in (0, 4)
    label(folder, count=count)
    return folder


def label(
    folder: Path, *, count: int = QUESTIONS, promised: tuple[str, ...] = (), source: str = "auto"
) -> None:
    """Labels as `twinrail eval label` leaves them; the questions named broke a policy."""
    finding = Finding(label=Label.POLICY_VIOLATION, sub="promise", rule="1c", evidence=("no_promise",))
    answers = RunFolder(folder).read().observations
    with (folder / "labels.jsonl").open("ab") as file:
        for number in range(count):
            broke = f"q{number:03d}" in promised
            record = LabelRecord(
                run=folder.name,
                turn_id=answers[f"q{number:03d}", "rag_tuned"].turn_id,
                case_id=f"q{number:03d}",
                arm="rag_tuned",
                cluster=f"t{number % 20:02d}",
                task_type="",
                outcome=Outcome.FAILED if broke else Outcome.PASSED,
                primary=finding if broke else None,
                criteria="c1-00000000",
                source=source,
            )
            file.write(orjson.dumps(record.as_json()) + b"\n")


def settings(served: Served, tmp_path: Path, **changes: Any) -> EvalSettings:
    return EvalSettings.model_validate(
        {
            "gateway_url": served.url,
            "api_key": CUSTOMER_KEY,
            "runs": tmp_path / "runs",
            "attempts": 2,
            "resamples": 500,
            "concurrency": 8,
            **changes,
        }
    )


def gate(served: Served, tmp_path: Path, folder: Path, *options: str, **changes: Any) -> int:
    """Tuned against base, by answers and drafts; the fake's times mean nothing."""
    rules = tmp_path / "gate.toml"
    if not rules.exists():
        rules.write_text('primaries = ["answer_right"]\nlimits = {}\n')
    arms = (f"{folder}:rag_tuned", "--against", "rag_base")
    return main(
        ["gate", *arms, "--rules", str(rules), *options], settings=settings(served, tmp_path, **changes)
    )


def test_a_better_version_passes_and_the_registry_knows(
    served: Served, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(served, tmp_path, folder) == 0
    output = capsys.readouterr()
    assert output.out.startswith(f"PASS: {TUNED} against {BASE}: better in answer_right.")
    assert re.search(r"answer_right +decides +100 +40/100 40% \[31-50\] +80/100 80% \[71-87\]", output.out)
    assert re.search(r"policy_violation +100 +0 +up to 3\.0%", output.out)
    (verdict,) = served.gateway.verdicts["model", TUNED]
    assert (verdict["gate"], verdict["verdict"]) == ("promotion", "pass")
    stored = served.gateway.reports[verdict["report"]]
    assert (stored["kind"], stored["content"]["verdict"]) == ("gate", "pass")
    assert stored["page"]["type"] == "text/markdown"
    assert stored["page"]["text"] in (folder / "report.md").read_text()
    content = json.loads((folder / f"{verdict['report']}.json").read_text())
    assert content == stored["content"]
    assert sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest() == verdict["sha256"]


def test_the_same_runs_get_the_same_report_to_the_byte(served: Served, folder: Path, tmp_path: Path) -> None:
    assert [gate(served, tmp_path, folder) for _ in range(2)] == [0, 0]
    first, second = served.gateway.verdicts["model", TUNED]
    assert first == second
    report = (folder / "report.md").read_text()
    assert report.count("## Gate promotion") == 1
    assert report.startswith("# Evaluation"), "the run's own report stays"


def test_a_worse_version_is_refused_and_that_is_recorded(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.gateway.answers = {BASE: right_below(80), TUNED: right_below(60)}
    folder = measure(served, tmp_path, count=QUESTIONS)
    capsys.readouterr()
    assert gate(served, tmp_path, folder, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["refusals"][0] == "answer_right is worse by 20 points (80 then 60 of 100)"
    assert served.gateway.verdicts["model", TUNED][0]["verdict"] == "refused"
    assert served.gateway.verdicts["model", TUNED][0]["sha256"] == found["sha256"]


def test_three_questions_are_exit_4_without_a_number(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = measure(served, tmp_path, count=3)
    capsys.readouterr()
    assert gate(served, tmp_path, folder) == 4
    output = capsys.readouterr().out
    assert "3 questions have an answer in both arms; at least 30 are needed" in output
    assert "difference" not in output
    assert served.gateway.verdicts["model", TUNED][0]["verdict"] == "not_enough"


def test_one_promise_refuses_and_a_person_may_say_that_it_was_none(
    served: Served, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label(folder, promised=("q007",))
    assert gate(served, tmp_path, folder) == 1
    assert "policy_violation: 1 of 100 answers break it (q007)" in capsys.readouterr().out
    label(folder, source="human")
    label(folder, promised=("q007",))
    assert gate(served, tmp_path, folder) == 0


def test_without_labels_nothing_was_checked(
    served: Served, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "labels.jsonl").unlink()
    assert gate(served, tmp_path, folder) == 4
    assert "policy_violation: not checked: no labels of rag_tuned" in capsys.readouterr().out


def test_the_regression_set_lies_beside_the_rules(
    served: Served, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "must-pass.txt").write_text("# of one customer\nq001\nq079  # since March\nq080\n")
    (tmp_path / "gate.toml").write_text(
        'primaries = ["answer_right"]\nlimits = {}\nregression = "must-pass.txt"\n'
    )
    assert gate(served, tmp_path, folder) == 1
    assert "regression set: 1 of 3 questions fail (q080)" in capsys.readouterr().out
    (tmp_path / "must-pass.txt").write_text("q001\n")
    assert gate(served, tmp_path, folder) == 0
    (tmp_path / "empty.txt").write_text("# nothing yet\n")
    assert gate(served, tmp_path, folder, "--regression", str(tmp_path / "empty.txt")) == 2


def test_a_second_look_at_the_holdout_is_told(
    served: Served, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(served, tmp_path, folder, "--no-record") == 0
    assert gate(served, tmp_path, folder, "--no-record") == 0
    assert "was opened before" not in capsys.readouterr().out, "the same answers show nothing new"
    again = copy_of(folder, tmp_path, name="again")
    assert gate(served, tmp_path, again, "--no-record") == 0
    assert f"the holdout was opened before for {TUNED}: " in capsys.readouterr().out
    log = [json.loads(line) for line in (tmp_path / "runs" / "openings.jsonl").read_text().splitlines()]
    assert [(look["kind"], look["run"]) for look in log] == [("gate", "run"), ("gate", "again")]
    assert all(TUNED in look["versions"] and look["who"] and look["at"] for look in log)


def test_two_runs_of_the_same_questions(
    served: Served, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    after = copy_of(folder, tmp_path, name="after")
    assert gate(served, tmp_path, after, "--against", f"{folder}:rag_base") == 0
    assert "the arms were asked in two runs" in capsys.readouterr().out
    other = measure(served, tmp_path, count=3)
    assert gate(served, tmp_path, after, "--against", f"{other}:rag_base") == 2
    assert "asked different questions" in capsys.readouterr().err


def test_no_record_needs_no_gateway_and_a_lost_one_is_exit_3(
    served: Served, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.gateway.gone = True
    assert gate(served, tmp_path, folder, "--no-record") == 0
    assert served.gateway.verdicts == {}
    capsys.readouterr()
    assert gate(served, tmp_path, folder, attempts=1) == 3
    output = capsys.readouterr()
    assert output.out.startswith("PASS: ")
    assert "verdict pass is not recorded: " in output.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--against", "rag_tuned"), "the same versions"),
        (("--against", "nope"), "choose from rag_base, rag_tuned"),
        (("--rail", "knowledge"), "both arms use k-fake-00000001 there"),
        (("--rules", "missing.toml"), "missing.toml"),
        (("--regression", "missing.txt"), "missing.txt"),
    ],
)
def test_what_cannot_be_gated_is_exit_2(
    served: Served,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    words: str,
) -> None:
    assert gate(served, tmp_path, folder, *options) == 2
    assert words in capsys.readouterr().err
